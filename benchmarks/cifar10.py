"""CIFAR-10 from JPEGs: the time of SpeedNet and its preset to the accuracy of airbench94_muon's settings.

Run ``python benchmarks/cifar10.py [SEEDS] [--quick]``. Both learn from all 50,000 training pictures, in processes of
their own that train in turns of one epoch, and are evaluated in one way: on the test pictures as they are, and with
airbench's six views of each (mirror image, moves by a pixel). Training time has all from the first touched batch to the
last update; imports, reading the files and the test evaluation are not in it, nor does either validate.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import airbench94
import striate as st
from contestants import save_arrays
from trials import data_folder, quick, report, say
from turns import Contestant, finish

BAR = 0.55
QUICK_PICTURES, QUICK_BATCH = 200, 100


def compete(arrays: Path, seed: int) -> dict[str, Any]:
    """Train both, and return the seconds and accuracies of each."""
    batch, changes = (
        (QUICK_BATCH, {"epochs": 1, "phases": (), "batch_size": 100}) if quick() else (airbench94.BATCH, {})
    )
    with (
        Contestant("airbench_cifar", arrays=str(arrays), seed=seed, batch=batch) as theirs,
        Contestant("striate_cifar", arrays=str(arrays), seed=seed, changes=changes) as ours,
    ):
        both = {"airbench": theirs, "striate": ours}
        seconds = finish(both, lambda name, answer: say(f"{name}: an epoch in {answer['seconds']:.1f} s"))
        trial: dict[str, Any] = {
            name: {"train_seconds": seconds[name], **_accuracies(contestant.turn())}
            for name, contestant in both.items()
        }
    say(f"seed {seed}:", trial)
    return {"seed": seed, **trial, "ratio": seconds["striate"] / seconds["airbench"]}


def _accuracies(answer: dict[str, Any]) -> dict[str, float]:
    return {name: answer[name] for name in ("plain_accuracy", "views_accuracy")}


def main() -> None:
    """Train with each seed, and report times and accuracies."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.unpack_archive(data_folder("cifar10") / "cifar10-jpeg.tar.gz", folder / "cifar10", filter="data")
        images = st.load_data(folder / "cifar10", size=32, channels=3)
        splits = {"train": images.train, "val": images.val, "test": images.test}
        if quick():
            splits = {name: split[:: len(split) // QUICK_PICTURES] for name, split in splits.items()}
        arrays = folder / "arrays.npz"
        save_arrays(arrays, **splits)
        trials = [compete(arrays, seed) for seed in range(numbers[0] if numbers else 1)]
    means = {
        f"{who}_{what}": statistics.fmean(trial[who][what] for trial in trials)
        for who in ("airbench", "striate")
        for what in ("train_seconds", "plain_accuracy", "views_accuracy")
    }
    ratio = statistics.fmean(trial["ratio"] for trial in trials)
    reached = means["striate_views_accuracy"] >= means["airbench_views_accuracy"]
    report(
        "cifar10",
        f"SpeedNet reaches the accuracy of airbench94_muon's settings on the JPEG files in ≤ {BAR} × their time",
        reached and ratio <= BAR,
        trials,
        n=len(trials),
        ratio=ratio,
        **means,
    )


if __name__ == "__main__":
    main()
