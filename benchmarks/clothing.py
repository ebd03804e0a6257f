"""Clothes from scratch: test accuracy after as many seconds as fastai's defaults take.

Run ``python benchmarks/clothing.py [--quick]``: the clothing photographs at 96×96. For each seed fastai trains a
ResNet-18 from scratch for fifteen epochs, as its documentation shows: `ImageDataLoaders.from_folder`, `Resize`,
`aug_transforms`, `vision_learner`, `fit_one_cycle`; then ``striate train`` with the preset of photographs gets as many
seconds as its budget. fastai's seconds are those of its loaders and `fit_one_cycle`, validation included, imports and
the test evaluation not. Network and recipe of striate were chosen on val.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from trials import data_folder, quick, report, say, spread, train
from turns import Contestant, finish

SIDE, EPOCHS, SEEDS = (32, 1, 1) if quick() else (96, 15, 3)
BAR = 0.06


def fastai(root: Path, seed: int) -> dict[str, float]:
    """Train by fastai's defaults; return its seconds and accuracies."""
    accuracies: list[float] = []

    def progress(_: str, answer: dict[str, Any]) -> None:
        if "val_accuracy" in answer:
            accuracies.append(answer["val_accuracy"])
            say(f"fastai, epoch {len(accuracies)}: {accuracies[-1]:.1%} on val, {answer['seconds']:.1f} s")

    with Contestant("fastai_folder", peer="fastai", root=str(root), side=SIDE, epochs=EPOCHS, seed=seed) as contestant:
        seconds = finish({"fastai": contestant}, progress)["fastai"]
        test = contestant.turn()["test_accuracy"]
    return {"train_seconds": seconds, "val_accuracy": accuracies[-1], "test_accuracy": test}


def striate(root: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Train for as many seconds; return what it says of itself."""
    result = train(root, "--size", SIDE, "--seed", seed, "--budget", f"{seconds:.0f}s")
    return {name: result[name] for name in ("network", "train_seconds", "val_accuracy", "test_accuracy")}


def main() -> None:
    """Train both with each seed, and report the difference."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # seconds of a processor
    trials = []
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(data_folder("") / "clothing.tar.gz", folder, filter="data")
        root = Path(folder) / "clothing-small"
        for seed in range(SEEDS):
            theirs = fastai(root, seed)
            ours = striate(root, seed, theirs["train_seconds"])
            trials.append({"seed": seed, "fastai": theirs, "striate": ours})
            say(trials[-1])
    more = [trial["striate"]["test_accuracy"] - trial["fastai"]["test_accuracy"] for trial in trials]
    report(
        "clothing",
        f"clothes at {SIDE}×{SIDE} from scratch, in the seconds that fastai's {EPOCHS} epochs take: "
        f"≥ {100 * BAR:g} points more on test, as a mean of {SEEDS} seeds",
        statistics.fmean(more) >= BAR,
        trials,
        points_more=spread(100 * one for one in more),
        **{
            f"{who}_{what}": spread(trial[who][what] for trial in trials)
            for who in ("fastai", "striate")
            for what in ("test_accuracy", "val_accuracy", "train_seconds")
        },
    )


if __name__ == "__main__":
    main()
