"""Training from shards: the same weights whether it was stopped or not, and an end in words."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import striate as st
from striate.data.balance import class_shares
from striate.data.batches import epoch_batches
from striate.data.stream import scan, stream
from striate.data.stream.pack import pack
from striate.training import checkpoint
from striate.training.run import checkpoints_in

MODEL = "conv 4@3x3 pad 1 bn relu | gap | fc 2"
RECIPE = st.Recipe(epochs=3, batch_size=8, learning_rate=0.02, flip="random", shift=1, average="ema")


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """Let a few pictures make many blocks and groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BLOCK_BYTES", 10_000)
        patch.setattr(stream, "GROUP_BYTES", 20_000)
        yield


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 pictures of two classes in shards of many blocks."""
    folder, random = tmp_path_factory.mktemp("packed"), np.random.default_rng(0)
    for k, name in enumerate(("dark", "light")):
        (folder / "files" / name).mkdir(parents=True)
        for number in range(50):
            pixels = np.clip(random.normal(60 + 120 * k, 20, (12, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "files" / name / f"{number:02}.png")
    pack(st.load_data(folder / "files"), folder / "shards", shard_bytes=40_000)
    return folder / "shards"


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    """A copy of the shards, to do with as a test likes."""
    return Path(shutil.copytree(packed, tmp_path / "shards"))


@pytest.fixture(scope="module")
def whole(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> st.Run:
    """A run that was never stopped."""
    return train(st.load_data(packed), tmp_path_factory.mktemp("whole") / "run")


class StopAt(st.Observer):
    """Does something after a step."""

    def __init__(self, step: int, what: object = None) -> None:
        self.step, self.what = step, what

    def on_batch_end(self, run: st.Run) -> None:
        if run.step == self.step:
            self.what() if callable(self.what) else run.stop("interrupted")


def train(images: st.ImageSet, folder: Path, *observers: st.Observer) -> st.Run:
    network = st.build(MODEL, images.spec)
    return st.fit(network, images, RECIPE, folder=folder, progress=False, observers=observers)


def _steps(folder: Path) -> int:
    return checkpoint.read_header(folder).step if checkpoints_in(folder) else 0


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_learns_from_a_stream(packed: Path, whole: st.Run) -> None:
    images = st.load_data(packed)
    assert len(whole.learned) == len(images.learned)
    assert st.evaluate(whole.network, images.test).accuracy > 0.9  # type: ignore[union-attr]


@pytest.mark.parametrize("step", [1, 5, 13, 17])
def test_goes_on_to_the_same_weights(shards: Path, whole: st.Run, tmp_path: Path, step: int) -> None:
    images = st.load_data(shards)
    stopped = train(images, tmp_path / "stopped", StopAt(step))
    assert stopped.step == step
    images = st.load_data(shards)
    resumed = st.fit(st.build(MODEL, images.spec), images, resume=stopped.folder, progress=False)
    assert same_weights(whole.network, resumed.network)
    assert [e["loss"] for e in whole.history] == [e["loss"] for e in resumed.history]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(shards: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "striate", "train", str(shards), "--model", MODEL, "--epochs", "100", "-b", "8"]
    words += ["--threads", "1", "--precision", "fp32", "--memory-format", "contiguous", "--no-report"]
    subprocess.run([*words, "--output", str(tmp_path / "whole")], check=True, capture_output=True)
    process = subprocess.Popen([*words, "--output", str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=-3)
    while process.poll() is None and _steps(tmp_path / "killed") < 1:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= _steps(tmp_path / "killed") < 900
    go_on = [sys.executable, "-m", "striate", "train", "--resume", str(tmp_path / "killed"), "--no-report"]
    subprocess.run(go_on, check=True, capture_output=True)
    assert same_weights(*(st.load(tmp_path / name).network for name in ("whole", "killed")))


def test_a_shard_that_breaks_ends_the_run_with_a_good_checkpoint(shards: Path, tmp_path: Path) -> None:
    images = st.load_data(shards)
    per_epoch = len(images.learned) // 8

    def remove() -> None:
        for path in shards.glob("train-*.tar"):
            path.unlink()

    with pytest.raises(st.FileError, match=r"Cannot read .*train-00000\d\.tar: No such file or directory"):
        train(images, tmp_path / "run", StopAt(per_epoch - 1, remove))
    assert checkpoint.read_header(tmp_path / "run").step in (0, per_epoch)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learn_from": "train+val"}, r"learn_from must be train for a stream of shards, got train\+val"),
        ({"sampling": "balanced"}, "sampling must be uniform for a stream of shards, got balanced"),
    ],
)
def test_what_needs_all_pictures_is_refused(shards: Path, tmp_path: Path, changes: dict[str, str], said: str) -> None:
    images = st.load_data(shards)
    with pytest.raises(st.RecipeError, match=said):
        st.fit(st.build(MODEL, images.spec), images, folder=tmp_path / "run", progress=False, **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("splits", [("train",), ("train", "val", "test")])
def test_classes_are_weighed_by_what_is_in_the_shards_less_what_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits: tuple[str, ...]
) -> None:
    monkeypatch.setattr(scan, "BLOCK_BYTES", 10_000)
    random = np.random.default_rng(0)
    for split in splits:
        for name, count in (("common", 90), ("rare", 10)):
            (tmp_path / "files" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 255, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "files" / split / name / f"{number:02}.png")
    pack(st.load_data(tmp_path / "files"), tmp_path / "shards", shard_bytes=40_000)
    for written in (tmp_path / "shards").glob("*.tar"):
        if written.name.split("-")[0] not in splits:
            written.unlink()
    (tmp_path / "shards" / "striate.json").unlink()
    images = st.load_data(tmp_path / "shards", class_names=("common", "rare"))
    learned = images.learned
    assert isinstance(learned, stream.Stream)
    labels = torch.cat([batch.labels for batch in epoch_batches(learned, 8)])
    shares = class_shares(labels, 2)
    assert learned.class_shares == pytest.approx(shares.tolist())
    network = st.build(MODEL, images.spec)
    run = st.fit(network, images, RECIPE, class_weights="balanced", folder=tmp_path / "run", progress=False)
    assert run.class_weights is not None
    assert run.class_weights.tolist() == pytest.approx((1 / (2 * shares)).tolist())
    assert "val_balanced_accuracy" in run.history[0]


def test_a_network_prepares_itself_from_a_part(shards: Path, tmp_path: Path) -> None:
    images = st.load_data(shards, size=32)
    network = st.build("speednet_small(widths=(4,8,8))", images.spec)
    run = st.fit(network, images, epochs=1, batch_size=32, folder=tmp_path / "run", progress=False)
    assert run.finished
