"""``striate train --pretrained``: published weights, and pictures as those weights know them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

import striate as st
from striate.core.files import cache_folder
from striate.networks import pretrained
from striate.networks.pretrained import Pretrained
from striate.training.recipe import read_recipe
from tests.cli.conftest import Striate

NETWORK = "resnet20_cifar10"
MEAN, STD = (0.11, 0.22, 0.33), (0.4, 0.5, 0.6)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Weights that somebody has brought by hand, and their entry as the only one."""
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    path = cache_folder() / "weights" / "brought.pth"
    path.parent.mkdir()
    state = st.build(NETWORK, st.Spec.of((3, 32, 32), 10), seed=9).state_dict()
    torch.save(state, path)
    entry = Pretrained(
        network=NETWORK,
        name="cifar10",
        url="https://example.invalid/brought.pth",
        sha256_prefix=hashlib.sha256(path.read_bytes()).hexdigest()[:8],
        library="a library",
        licence="A-Licence-1.0",
        data="some pictures",
        size=32,
        resize=32,
        top1=0.9,
        mean=MEAN,
        std=STD,
        classes=10,
    )
    monkeypatch.setattr(pretrained, "SOURCES", (entry,))
    return state


WORDS = "--pretrained --epochs 1 -b 8 --lr 1e-12 --output out --no-report"
QUICK = ("--model", NETWORK, *WORDS.split())


def test_a_run_starts_from_them_with_their_normalisation(
    striate: Striate, picture_folder: Path, published: dict[str, torch.Tensor]
) -> None:
    done = striate("train", picture_folder, *QUICK)
    assert done.status == 0, done.err
    assert "licence   A-Licence-1.0" in done.err
    assert "new for the number of classes" in done.err
    trained = st.load("out")
    assert trained.spec.input.shape == (3, 32, 32)
    assert (trained.spec.input.mean, trained.spec.input.std) == (MEAN, STD)
    weights = dict(trained.network.named_parameters())
    unchanged = [name for name in weights if weights[name].shape == published[name].shape]
    assert len(unchanged) == len(weights) - 2
    for name in unchanged:
        torch.testing.assert_close(weights[name], published[name], rtol=0, atol=1e-6)
    assert striate("evaluate", "out").status == 0


def test_size_and_channels_may_be_others(
    striate: Striate, picture_folder: Path, published: dict[str, torch.Tensor]
) -> None:
    done = striate("train", picture_folder, *QUICK, "--size", "16", "--channels", "1")
    assert done.status == 0, done.err
    spec = st.load("out").spec.input
    assert spec.shape == (1, 16, 16)
    assert spec.mean == pytest.approx((sum(MEAN) / 3,))
    assert "adapted to the number of channels" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--pretrained needs the network that the weights are of: add --model"),
        (("--model", "lenet5"), "No pretrained weights are known for 'lenet5'. They are for resnet20_cifar10."),
        (("--model", "conv 4 | gap | fc 2"), "No pretrained weights are known for 'conv 4 | gap | fc 2'."),
    ],
)
def test_what_has_no_weights_is_refused_before_pictures_are_read(
    striate: Striate, published: dict[str, torch.Tensor], words: tuple[str, ...], message: str
) -> None:
    done = striate("train", "absent", *words, "--pretrained")
    assert done.status == 2
    assert message in " ".join(done.err.split())


def test_a_resumed_run_has_its_weights_already(striate: Striate) -> None:
    done = striate("train", "--resume", "somewhere", "--pretrained")
    assert done.status == 2
    assert "--pretrained must be left out with --resume" in " ".join(done.err.split())


def test_they_are_tuned_head_first(striate: Striate, picture_folder: Path, published: dict[str, torch.Tensor]) -> None:
    words = ("--model", NETWORK, "--pretrained", "--epochs", "2", "-b", "8", "--output", "out", "--no-report")
    done = striate("train", picture_folder, *words)
    assert done.status == 0, done.err
    head, whole = read_recipe("out/recipe.toml").phases
    assert head.frozen[0] == next(iter(whole.learning_rates)) == next(iter(published)).partition(".")[0]
    assert whole.learning_rates[head.frozen[0]] == 1 / 64
    assert whole.frozen == ()
