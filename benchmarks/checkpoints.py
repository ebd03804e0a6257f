"""Checkpoints: what part of the training time writing them takes.

Run ``python benchmarks/checkpoints.py [--quick]``. Whole runs of `fit` as they are by default; a clock around
`Checkpoints.save` adds up what writing takes, syncing to the disk included. The runs are short, so that the
checkpoints at the start and at the end, which every run has, weigh as much as they ever do.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch

import striate as st
from striate.training.checkpoint import Checkpoints
from trials import quick, report, say, spread, upper_bound

BOUND = 0.02
RUNS, QUICK_RUNS = 15, 1
CLASSES = 10
# network, shape of a picture, pictures, batch size, epochs, optimiser
CASES = (
    ("lenet5", (1, 28, 28), 6_000, 128, 8, "sgd"),  # epochs of a second or less
    ("speednet_small", (1, 28, 28), 30_000, 256, 2, "adamw"),
    ("resnet18", (3, 32, 32), 1_000, 50, 2, "adamw"),  # 11 M parameters: 0.2 GB with all that goes with them
)


class Clock:
    """Adds up the seconds and the number of the checkpoints that are written."""

    def __init__(self) -> None:
        self.seconds, self.written = 0.0, 0

    def __enter__(self) -> Clock:
        self._usual = Checkpoints.save
        usual = self._usual

        def save(checkpoints: Checkpoints) -> None:
            before, start = checkpoints._run.checkpoint, time.perf_counter()
            usual(checkpoints)
            self.seconds += time.perf_counter() - start
            self.written += checkpoints._run.checkpoint != before

        Checkpoints.save = save  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        Checkpoints.save = self._usual  # type: ignore[method-assign]


def one_run(name: str, shape: tuple[int, int, int], pictures: int, **recipe: Any) -> dict[str, float]:
    """Train once on noise, and return the seconds of training, those of writing, and how often it was."""
    channels, height, width = shape
    images = torch.randint(0, 256, (pictures, height, width, channels), dtype=torch.uint8).numpy()
    data = st.load_data((images, (torch.arange(pictures) % CLASSES).numpy()))
    with tempfile.TemporaryDirectory() as folder, Clock() as clock:
        run = st.fit(st.build(name, data.spec), data, st.Recipe(**recipe), folder=f"{folder}/run", progress=False)
    return {
        "train_seconds": run.train_seconds,
        "writing_seconds": clock.seconds,
        "written": clock.written,
        "share": clock.seconds / run.train_seconds,
    }


def main() -> None:
    """Train each network several times."""
    trials: list[dict[str, Any]] = []
    shares: dict[str, dict[str, float]] = {}
    bounds = {}
    for name, shape, pictures, batch_size, epochs, optimizer in CASES:
        recipe = {"batch_size": batch_size, "epochs": epochs, "optimizer": optimizer, "learning_rate": 1e-3}
        runs = [one_run(name, shape, pictures, **recipe) for _ in range(QUICK_RUNS if quick() else RUNS)]
        own = [run["share"] for run in runs]
        shares[name], bounds[name] = spread(own), upper_bound(own)
        say(f"{name}: {shares[name]['median']:.2%}, at most {bounds[name]:.2%}, {runs[0]['written']:.0f} written")
        trials += [{"network": name, **run} for run in runs]
    report(
        "checkpoints",
        "writing checkpoints takes at most 2 % of the training time, in short runs too (the median's upper bound)",
        max(bounds.values()) <= BOUND,
        trials,
        share=shares,
        upper_bound=bounds,
    )


if __name__ == "__main__":
    main()
