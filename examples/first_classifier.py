"""The main job from end to end: train on real handwritten digits, score, save, load in a new process, label a picture.

Run it with ``scripts/demo``, or ``python examples/first_classifier.py [--epochs N]``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from PIL import Image

import striate as st
from striate.training.presets import recommended_model, recommended_recipe


def main() -> None:
    """Train, score, save, load again, label a picture file, and say what to try next."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--epochs", type=int, help="fewer are faster, and less accurate")
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()

    images = st.load_data("digits", seed=chosen.seed)
    print(f"1. {len(images.train):,} handwritten digits to learn from, {len(images.test)} kept for the test.")

    model = recommended_model(images)
    recipe = recommended_recipe(images, model).changed(seed=chosen.seed)
    if chosen.epochs:
        recipe = recipe.changed(epochs=chosen.epochs)
    network = st.build(model, images.spec, seed=chosen.seed)
    print(f"2. Training {model} ({st.summary(network, images.spec).parameters:,} parameters) ...")
    run = st.fit(network, images, recipe)

    score = st.evaluate(run.network, images.test)
    print(f"3. After {run.train_seconds:.1f} s, on digits it has never seen: {score}.")

    picture = run.folder / "digit.png"
    Image.fromarray(images.test.images[0, 0].numpy()).save(picture)
    print(f"4. Saved to {run.model_path}. A new process loads it and labels {picture}:")
    predict = [sys.executable, "-m", "striate", "predict", str(run.folder), str(picture)]
    subprocess.run(predict, check=True)
    truth = images.spec.task.class_names[int(images.test.labels[0])]
    print(f"   (it is a {truth})")

    print(
        f"""
Now with your own pictures, one folder per class (photos/cat/*.jpg, photos/dog/*.jpg):

    {Path(sys.executable).parent / "striate"} train photos

and with a picture of a digit of yours, white on black:

    {Path(sys.executable).parent / "striate"} predict {run.folder} my-digit.png"""
    )


if __name__ == "__main__":
    main()
