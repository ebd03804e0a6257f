"""The doctor changes nothing, says each thing once, and leaves what it found in the run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.training.doctor.folder import read_findings
from striate.training.doctor.watch import Doctor
from tests.conftest import make_image_set
from tests.training.doctor.conftest import Draws

MODEL = "conv 8@3x3 pad 1 bn relu dropout 0.2 | maxpool 2 | fc 3"
QUICK = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "flip": "random", "shift": 1}


def train(images: st.ImageSet, folder: Path, model: str | nn.Module = MODEL, **changes: object) -> st.Run:
    network = st.build(model, images.spec, seed=0) if isinstance(model, str) else model
    return st.fit(network, images, folder=folder, progress=False, **QUICK | changes)  # type: ignore[arg-type]


def codes(run: st.Run) -> set[str]:
    return {one.code for one in run.findings}


@pytest.mark.parametrize("model", [MODEL, "lenet5", "conv 4@3x3 sigmoid | conv 4@3x3 tanh | gap | fc 3"])
def test_weights_are_the_same_bit_for_bit_with_and_without(model: str, tmp_path: Path) -> None:
    images = make_image_set(size=28 if model == "lenet5" else 8)
    torch.manual_seed(5)
    states = []
    for watched in (True, False):
        before = torch.get_rng_state()
        run = train(images, tmp_path / str(watched), model, doctor=watched)
        assert torch.equal(before, torch.get_rng_state())
        states.append(run.network.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_no_hook_is_left_and_none_is_ever_on_the_network(image_set: st.ImageSet, tmp_path: Path) -> None:
    network = st.build(MODEL, image_set.spec)
    seen: list[int] = []

    class Count(st.Observer):
        def on_batch_end(self, run: st.Run) -> None:
            seen.append(sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()))

    st.fit(network, image_set, folder=tmp_path / "run", progress=False, observers=[Count()], **QUICK)  # type: ignore[arg-type]
    assert seen
    assert not any(seen)


def test_a_healthy_run_leaves_an_empty_file(image_set: st.ImageSet, tmp_path: Path) -> None:
    run = train(image_set, tmp_path / "run", epochs=6)
    assert codes(run) == set()
    assert json.loads((run.folder / "findings.json").read_text(encoding="utf-8")) == {"findings": []}


def test_each_kind_is_said_once_and_written(
    image_set: st.ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(image_set, tmp_path / "run", learning_rate=30.0, epochs=4)
    lines = [line for line in capsys.readouterr().err.splitlines() if "learning rate" in line and "too high" in line]
    assert len(lines) == 1
    assert lines[0].startswith("warning: recipe: The learning rate, 30 at its top, is too high:")
    assert read_findings(run.folder) == run.findings
    assert len(codes(run)) == len(run.findings)


def test_without_the_doctor_nothing_is_looked_for(image_set: st.ImageSet, tmp_path: Path) -> None:
    run = train(image_set, tmp_path / "run", learning_rate=30.0, doctor=False)
    assert run.findings == []
    assert not (run.folder / "findings.json").exists()


def test_a_resumed_run_keeps_what_was_found(image_set: st.ImageSet, tmp_path: Path) -> None:
    class Stop(st.Observer):
        def on_batch_end(self, run: st.Run) -> None:
            if run.step == 12:
                run.stop("interrupted")

    network = st.build(MODEL, image_set.spec, seed=0)
    changes = QUICK | {"learning_rate": 30.0}
    stopped = st.fit(network, image_set, folder=tmp_path / "run", progress=False, observers=[Stop()], **changes)  # type: ignore[arg-type]
    assert "learning-rate-too-high" in codes(stopped)
    assert "nothing-learned" not in codes(stopped)
    resumed = st.fit(st.build(MODEL, image_set.spec), image_set, resume=tmp_path / "run", progress=False)
    assert [one.code for one in resumed.findings].count("learning-rate-too-high") == 1
    assert read_findings(tmp_path / "run") == resumed.findings


def test_several_labels_and_a_stop_before_any_step_are_no_trouble(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 255, (60, 8, 8), generator=generator, dtype=torch.uint8).numpy()
    labels = torch.randint(0, 2, (60, 3), generator=generator).numpy()
    images = st.load_data((pictures, labels))
    run = train(images, tmp_path / "run")
    assert run.finished
    assert codes(run) <= {"tiny-training-set", "overfitting", "nothing-learned"}  # the labels are random


class NotANumber(nn.Module):
    """Gives a value that is none for a picture whose first pixel is white."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Identity()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        marked = (pictures[:, :, :1, :1] > 5).float()
        return self.body(self.scale(pictures / (1 - marked)))  # type: ignore[no-any-return]


def with_one_white_corner(number: int) -> st.ImageSet:
    images = make_image_set()
    changed = images.train.images.clone() // 8
    changed[number, 0, 0, 0] = 255
    split = images.train
    train_split = st.Split(changed, split.labels, split.spec, split.origins)
    spec = images.spec.model_copy(
        update={"input": images.spec.input.model_copy(update={"mean": (0.0,), "std": (0.1,)})}
    )
    splits = (st.Split(one.images, one.labels, spec, one.origins) for one in (train_split, images.val, images.test))
    return st.ImageSet(*splits, name="marked")


def test_the_error_names_layer_batch_and_picture(tmp_path: Path) -> None:
    images = with_one_white_corner(40)
    with pytest.raises(st.TrainingError) as raised:
        st.fit(NotANumber(), images, folder=tmp_path / "run", progress=False, epochs=1, batch_size=8)
    words = str(raised.value)
    assert f"for picture {images.train.origins[40]} alone" in words
    assert "div" in words
    assert "of epoch 1" in words
    (finding,) = [one for one in read_findings(tmp_path / "run") if one.severity == "error"]
    assert finding.code == "non-finite-picture"
    assert finding.numbers["pictures"] == 1
    assert finding.message in words


def test_a_gradient_that_is_none_is_stopped_before_the_weights_have_it(tmp_path: Path, image_set: st.ImageSet) -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

        def forward(self, pictures: Tensor) -> Tensor:
            logits = self.body(pictures)
            return logits + (logits - logits).abs().sum(1, keepdim=True).sqrt()  # type: ignore[no-any-return]

    network = Root()
    with pytest.raises(st.TrainingError, match=r"The gradient of the output of body.* is not finite.*step 1"):
        st.fit(network, image_set, folder=tmp_path / "run", progress=False, epochs=1, batch_size=8)
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    assert [one.code for one in read_findings(tmp_path / "run")] == ["non-finite-gradient"]


def test_the_observer_may_be_given_another_voice(image_set: st.ImageSet, tmp_path: Path) -> None:
    said: list[str] = []
    network = st.build(MODEL, image_set.spec, seed=0)
    st.fit(
        network, image_set, folder=tmp_path / "run", progress=False, doctor=False, observers=[Doctor(said.append)],
        epochs=3, batch_size=8, learning_rate=30.0,
    )  # fmt: skip
    assert any(words.startswith("warning: recipe: The learning rate") for words in said)


class KeepsMaps(nn.Module):
    """Keeps what it has computed, which PyTorch does not copy."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)
        self.seen: list[Tensor] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.features = torch.relu(self.body(pictures.flatten(1)))
        self.seen = [self.features]
        return self.head(self.features)  # type: ignore[no-any-return]


def test_a_network_that_keeps_its_maps_is_watched(image_set: st.ImageSet, tmp_path: Path) -> None:
    network = KeepsMaps()
    network(torch.randn(2, 1, 8, 8))
    run = train(image_set, tmp_path / "run", network, average="ema")
    assert run.finished


def test_a_gate_whose_gradient_alone_is_not_finite(image_set: st.ImageSet, tmp_path: Path) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)
            self.gate = nn.Parameter(torch.zeros(8))

        def forward(self, pictures: Tensor) -> Tensor:
            hidden = self.body(pictures.flatten(1))
            return self.head(hidden + hidden.detach() * self.gate.sqrt())  # type: ignore[no-any-return]

    with pytest.raises(st.TrainingError, match=r"The gradient of gate is not finite \(step 1"):
        train(image_set, tmp_path / "run", Gated())
    assert "non-finite-gradient" in [one.code for one in read_findings(tmp_path / "run")]


class DividesByContrast(nn.Module):
    """Normalises each picture by itself, in evaluation alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        if not self.training:
            pictures = pictures / pictures.amax((1, 2, 3), keepdim=True)
        return self.body(pictures)  # type: ignore[no-any-return]


@pytest.mark.parametrize("average", ["none", "ema"])
def test_a_blank_picture_of_val_is_named(average: str, tmp_path: Path) -> None:
    images = make_image_set()
    spec = images.spec.model_copy(
        update={"input": images.spec.input.model_copy(update={"mean": (0.0,), "std": (1.0,)})}
    )
    splits = [st.Split(one.images, one.labels, spec, one.origins) for one in (images.train, images.val, images.test)]
    splits[1].images[3] = 0
    with pytest.raises(st.TrainingError, match="The loss on val became nan at step 11") as raised:
        train(st.ImageSet(*splits, name="blank"), tmp_path / "run", DividesByContrast(), average=average)
    assert f"its div), for picture {images.val.origins[3]} alone (val)" in str(raised.value)


def test_an_error_in_a_later_epoch_is_the_one_that_is_said(image_set: st.ImageSet, tmp_path: Path) -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
            self.looks = 0

        def forward(self, pictures: Tensor) -> Tensor:
            self.looks += not self.training and len(pictures) > 5
            if self.looks > 1:
                raise OSError("the second epoch")
            return self.body(pictures)  # type: ignore[no-any-return]

    network = Breaks().requires_grad_(False)
    network.body[1].bias.requires_grad_(True)  # type: ignore[union-attr]
    with pytest.raises(OSError, match="the second epoch"):
        train(image_set, tmp_path / "run", network, epochs=9)
    assert "frozen-weights" not in [one.code for one in read_findings(tmp_path / "run")]  # of which a run is told later
    network.looks = -100
    resumed = st.fit(network, image_set, resume=tmp_path / "run", progress=False)
    assert "frozen-weights" in codes(resumed)


def test_evaluation_is_compared_though_the_run_ends_early(image_set: st.ImageSet, tmp_path: Path) -> None:
    run = train(image_set, tmp_path / "run", Draws(), target_error=0.9)
    assert not run.finished
    assert "evaluation-by-chance" in codes(run)


def test_a_penalty_does_not_hide_what_gets_no_gradient(image_set: st.ImageSet, tmp_path: Path) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)

        def forward(self, pictures: Tensor) -> Tensor:
            return self.head(0 * self.body(pictures.flatten(1)))  # type: ignore[no-any-return]

    run = train(image_set, tmp_path / "run", Cut(), l2=1e-4, epochs=4)
    assert "no-gradient" in codes(run)
    assert "penalty-out-of-scale" not in codes(run)


@pytest.mark.parametrize("balance", [{"class_weights": "balanced"}, {"sampling": "balanced"}])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_healthy_run_of_classes_that_are_balanced_has_no_warning(
    balance: dict[str, str], seed: int, tmp_path: Path
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        rare = torch.arange(count) % 40 == 0
        images = torch.randint(0, 120, (count, 16, 16), generator=generator).to(torch.uint8)
        images[rare, 4:9] += 100
        return images, rare.long()

    images = st.load_data({"train": pictures(1200), "val": pictures(400), "test": pictures(40)})
    run = train(
        images, tmp_path / "run", "conv 8@3x3 pad 1 relu | maxpool 2 | conv 16@3x3 pad 1 relu | gap | fc 2",
        epochs=5, batch_size=64, weight_decay=0.05, seed=seed, **balance,
    )  # fmt: skip
    assert run.val_balanced_accuracy == 1
    assert [one.code for one in run.findings if one.severity != "note"] == []
