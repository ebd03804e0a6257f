"""Fashion-MNIST: `striate train fashion_mnist` reaches 93 % on test within 2 minutes of training."""

from __future__ import annotations

from trials import data_folder, report, spread, train

SEEDS = range(5)


def main() -> None:
    """Train from the command line: five times on train alone, for val, then five times as users do."""
    folder = data_folder("fashion-mnist")
    words = ("fashion_mnist", "--data-dir", folder, "--seed")
    held_out = [train(*words, seed, "--learn-from", "train") for seed in SEEDS]
    trials = [train(*words, seed) for seed in SEEDS]
    accuracy = spread(trial["test_accuracy"] for trial in trials)
    seconds = spread(trial["train_seconds"] for trial in trials)
    report(
        "fashion_mnist",
        "at least 93 % on test, as a mean of 5 seeds, each within 120 s of training",
        accuracy["mean"] >= 0.93 and seconds["max"] <= 120,
        trials,
        val_accuracy=spread(trial["val_accuracy"] for trial in held_out),
        test_accuracy=accuracy,
        train_seconds=seconds,
    )


if __name__ == "__main__":
    main()
