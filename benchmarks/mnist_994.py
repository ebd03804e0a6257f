"""MNIST: `striate train mnist --config mnist_994` reaches 99.4 % on test within 20 s of training."""

from __future__ import annotations

from trials import data_folder, report, spread, train

SEEDS = range(5)
ACCURACY, SECONDS = 0.994, 20.0


def main() -> None:
    """Train from the command line: five times on train alone, for val, then five times as users do."""
    words = ("mnist", "--data-dir", data_folder("mnist"), "--config", "mnist_994", "--seed")
    held_out = [train(*words, seed, "--learn-from", "train") for seed in SEEDS]
    trials = [train(*words, seed) for seed in SEEDS]
    accuracy = spread(trial["test_accuracy"] for trial in trials)
    seconds = spread(trial["train_seconds"] for trial in trials)
    report(
        "mnist_994",
        "at least 99.4 % on test, as a mean of 5 seeds, each within 20 s of training",
        accuracy["mean"] >= ACCURACY and seconds["max"] <= SECONDS,
        trials,
        val_accuracy=spread(trial["val_accuracy"] for trial in held_out),
        test_accuracy=accuracy,
        train_seconds=seconds,
    )


if __name__ == "__main__":
    main()
