"""Training throughput, end to end from a folder of JPEGs, against the textbook loop and a bare one.

Run ``python benchmarks/throughput.py [--quick]``: ResNet-18 on the clothing photographs at 64×64, batches of 64, ten
epochs, each with its validation. Three processes train in turns of one epoch:

- striate: ``load_data`` of the folder and ``fit``, with all it does by default: choosing precision and memory format,
  checkpoints, metrics, the best weights kept;
- the textbook loop: torchvision's ImageFolder, a DataLoader with two processes, fp32, NCHW, SGD;
- the bare loop: the set as one normalised float tensor, channels last, the precision that is fastest here, fused SGD.

Imports are not counted. A ten-epoch figure is that of each epoch with a tenth of the process's start and end: loading,
measuring, saving. Cold is with an empty cache folder; what starts warm has loaded the same folder before and is only
started, since its epochs are the same. The files themselves are in the system's memory for all. The ratio to the bare
loop is of a step, from the end of an epoch's first step to the end of its last.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import striate as st
from contestants import save_arrays
from trials import data_folder, lower_bound, quick, report, say, spread
from turns import Contestant, in_turns

SIDE, EPOCHS, ROUNDS = (32, 1, 1) if quick() else (64, 10, 3)
BATCH = 64
COLD_BAR, WARM_BAR, BARE_BAR = 2.2, 2.35, 0.97


def compete(root: Path, arrays: Path, cache: Path) -> list[dict[str, Any]]:
    """Return the epochs of one round: pictures per second of an epoch with its share of start and end, and of none."""
    options = {"root": str(root), "side": SIDE, "batch_size": BATCH, "epochs": EPOCHS}
    environment = {"STRIATE_CACHE": str(cache)}
    with contextlib.ExitStack() as stack:
        contestants = {
            "striate": Contestant("striate_folder", environment=environment, **options),
            "textbook": Contestant("textbook_folder", **options),
            "bare": Contestant("bare_memory", arrays=str(arrays), batch_size=BATCH, epochs=EPOCHS),
        }
        for contestant in contestants.values():
            stack.enter_context(contestant)
        starts, *trials, ends = in_turns(contestants, EPOCHS + 2)
    with Contestant("striate_folder", environment=environment, **options) as warm:
        warm_start = warm.turn()["seconds"]
    start = {name: starts[name]["seconds"] for name in starts} | {"warm": warm_start}
    end = {name: ends[name]["seconds"] for name in ends}
    say(f"starts {rounded(start)}, ends {rounded(end)} s")
    return [
        {
            "cold": rate(trial["striate"], start["striate"] + end["striate"]),
            "warm": rate(trial["striate"], start["warm"] + end["striate"]),
            "textbook": rate(trial["textbook"], start["textbook"] + end["textbook"]),
            "epochs": {name: rate(trial[name]) for name in trial},
            "step_seconds": {name: trial[name]["step_seconds"] for name in trial},
            "start_seconds": start,
            "end_seconds": end,
        }
        for trial in trials
    ]


def rate(epoch: dict[str, Any], outside_seconds: float = 0.0) -> float:
    """Return pictures per second of an epoch that bears its share of what comes before and after all of them."""
    return float(epoch["pictures"] / (epoch["seconds"] + outside_seconds / EPOCHS))


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Return figures to be read."""
    return {name: round(figure, 2) for name, figure in figures.items()}


def main() -> None:
    """Measure, and report the ratios with their bounds."""
    trials = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.unpack_archive(data_folder("") / "clothing.tar.gz", folder, filter="data")
        root, arrays = folder / "clothing-small", folder / "arrays.npz"
        os.environ["STRIATE_CACHE"] = str(folder / "cache-of-arrays")
        images = st.load_data(root, size=SIDE, channels=3)
        save_arrays(arrays, train=images.train, val=images.val)
        for number in range(ROUNDS):
            trials += compete(root, arrays, folder / f"cache{number}")
            say(f"round {number + 1} of {ROUNDS}:", rounded(trials[-1]["epochs"]))
    cold, warm = ([trial[which] / trial["textbook"] for trial in trials] for which in ("cold", "warm"))
    of_bare = [trial["step_seconds"]["bare"] / trial["step_seconds"]["striate"] for trial in trials]
    epoch_of_bare = [trial["epochs"]["striate"] / trial["epochs"]["bare"] for trial in trials]
    least = {"cold": lower_bound(cold), "warm": lower_bound(warm), "bare": lower_bound(of_bare)}
    report(
        "throughput",
        f"ResNet-18 at {SIDE}×{SIDE} from a folder of JPEGs, ten epochs: ≥ {COLD_BAR} × the textbook loop cold, "
        f"≥ {WARM_BAR} × warm; a step ≥ {BARE_BAR} × a bare loop's",
        least["cold"] >= COLD_BAR and least["warm"] >= WARM_BAR and least["bare"] >= BARE_BAR,
        trials,
        pairs=len(trials),
        cold_times_textbook=[statistics.median(cold), least["cold"]],
        warm_times_textbook=[statistics.median(warm), least["warm"]],
        step_share_of_bare=[statistics.median(of_bare), least["bare"]],
        epoch_share_of_bare=[statistics.median(epoch_of_bare), lower_bound(epoch_of_bare)],
        pictures_per_second={which: spread(trial[which] for trial in trials) for which in ("cold", "warm", "textbook")},
        epoch_pictures_per_second={
            who: spread(trial["epochs"][who] for trial in trials) for who in trials[0]["epochs"]
        },
    )


if __name__ == "__main__":
    main()
