"""P4: Fashion-MNIST by `striate train fashion_mnist --config fashion_mnist_949`: 94.9 % on test in 20 minutes.

Run ``python benchmarks/fashion_mnist_949.py [SEEDS] [MINUTES…]``: one run of 20 minutes that learns from train alone,
for val, and three seeds that learn from both, where nothing is named. The network has under a million parameters;
``--budget`` makes the recipe as long as the time allows on this machine. With several times, such as
``1 5 10 20 40 60``, that of 20 is judged, and all make the curve of accuracy against minutes: each point is a whole
run, its schedule finished. Run it alone.
"""

from __future__ import annotations

import sys
from typing import Any

from trials import data_folder, quick, report, say, spread, train

ACCURACY, PARAMETERS = 0.949, 1_000_000
MINUTES = 20.0
SEEDS, QUICK_MINUTES = 3, 0.5


def one(seed: int, minutes: float, *more: object) -> dict[str, Any]:
    """Train from the command line with a budget."""
    words = ("fashion_mnist", "--data-dir", data_folder("fashion-mnist"), "--config", "fashion_mnist_949")
    trial = {"seed": seed, "minutes": minutes, **train(*words, "--seed", seed, "--budget", f"{60 * minutes:g}s", *more)}
    say(trial)
    return trial


def main() -> None:
    """Train with every seed and every time."""
    numbers = [float(word) for word in sys.argv[1:] if not word.startswith("--")]
    seeds = range(int(numbers[0]) if numbers else SEEDS)
    times = [QUICK_MINUTES] if quick() else numbers[1:] or [MINUTES]
    nearest = min(times, key=lambda minutes: abs(minutes - MINUTES))
    held_out = [one(seed, nearest, "--learn-from", "train") for seed in seeds[:1]]
    trials = [one(seed, minutes) for minutes in times for seed in seeds]
    judged = [trial for trial in trials if trial["minutes"] == nearest]
    accuracy = spread(trial["test_accuracy"] for trial in judged)
    seconds = spread(trial["train_seconds"] for trial in judged)
    parameters = max(trial["parameters"] for trial in judged)
    in_time = seconds["max"] <= 60 * MINUTES
    report(
        "fashion_mnist_949",
        "at least 94.9 % on test, as a mean over seeds, in 20 minutes of training each, under 1 M parameters",
        accuracy["mean"] >= ACCURACY and in_time and parameters < PARAMETERS,
        trials,
        parameters=parameters,
        val_accuracy=spread(trial["val_accuracy"] for trial in held_out),
        test_accuracy=accuracy,
        train_seconds=seconds,
    )


if __name__ == "__main__":
    main()
