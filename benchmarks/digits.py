"""Digits: the network and recipe of `scripts/demo` reach 98.5 % on test, as a mean of 5 seeds × 5 splits."""

from __future__ import annotations

import tempfile

import striate as st
from striate.training.presets import recommended_model, recommended_recipe
from trials import report, spread

SEEDS, SPLITS = range(5), range(5)


def one(seed: int, split: int) -> dict[str, float]:
    """Train with a seed on a split, and score its test pictures."""
    images = st.load_data("digits", seed=split)
    model = recommended_model(images)
    network = st.build(model, images.spec, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        recipe = recommended_recipe(images, model).changed(seed=seed)
        run = st.fit(network, images, recipe, folder=f"{folder}/run", progress=False)
    return {
        "seed": seed,
        "split": split,
        "val_accuracy": run.val_accuracy or 0.0,
        "test_accuracy": st.evaluate(run.network, images.test).accuracy,
        "train_seconds": run.train_seconds,
    }


def main() -> None:
    """Train 25 times."""
    trials = [one(seed, split) for split in SPLITS for seed in SEEDS]
    accuracy = spread(trial["test_accuracy"] for trial in trials)
    report(
        "digits",
        "at least 98.5 % on test, as a mean of 5 seeds × 5 splits",
        accuracy["mean"] >= 0.985,
        trials,
        val_accuracy=spread(trial["val_accuracy"] for trial in trials),
        test_accuracy=accuracy,
        train_seconds=spread(trial["train_seconds"] for trial in trials),
    )


if __name__ == "__main__":
    main()
