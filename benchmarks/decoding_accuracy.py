"""Does it cost accuracy that JPEGs are decoded at ½, ¼ or ⅛ of their size where twice the network's size remains?

Run ``python benchmarks/decoding_accuracy.py``: the recommended network learns the clothing photographs (about 400×533)
as they are decoded: at ½ for 96×96, at ¼ for 48×48 and at ⅛ for 24×24. It then answers val and test twice: as they are
decoded, and from pictures that Pillow decodes at full size, resized in the same way.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import striate as st
from striate.core.spec import InputSpec
from striate.data.decode import decode_picture, pixels_of
from striate.data.preprocess import resize_to_uint8
from striate.evaluation.compare import Comparison
from striate.evaluation.predictions import Predictions
from striate.prediction.predictor import compute_logits
from striate.training.presets import recommended_model, recommended_recipe
from trials import data_folder, report

SIDES = (24, 48, 96)
MOST_LOST = 0.01  # of the accuracy


def at_full_size(file: str, spec: InputSpec) -> Tensor:
    """Return a picture (C, H, W) uint8 whose every pixel was decoded before it was resized."""
    with Image.open(file) as image:
        return resize_to_uint8(pixels_of(image, spec, file)[None], spec)[0]


def compared(network: torch.nn.Module, split: st.Split) -> tuple[Comparison, Tensor]:
    """Return how the answers from full size differ from those of the split, and its pictures from full size."""
    full = torch.stack([at_full_size(file, split.spec.input) for file in split.origins])
    as_decoded, from_full = (
        Predictions(compute_logits(network, images, split.spec.input), split.labels, split.origins, split.spec.task)
        for images in (split.images, full)
    )
    return st.compare(as_decoded, from_full, split, names=("as decoded", "full size")), full


def one(root: Path, side: int, folder: str) -> dict[str, Any]:
    """Train at a size, and answer val and test both ways."""
    images = st.load_data(root, size=side)
    model = recommended_model(images)
    recipe = recommended_recipe(images, model)
    run = st.fit(st.build(model, images.spec), images, recipe, folder=f"{folder}/run-{side}", progress=False)
    held_out = st.Split(
        torch.cat([images.val.images, images.test.images]),
        torch.cat([images.val.labels, images.test.labels]),
        images.spec,
        [*images.val.origins, *images.test.origins],
    )
    found: dict[str, Any] = {"side": side, "model": model, "epochs": recipe.epochs, "train_seconds": run.train_seconds}
    for name, split in {"val": images.val, "test": images.test, "val and test": held_out}.items():
        comparison, full = compared(run.network, split)
        levels = (split.images.float() - full.float()).abs()
        found[name] = {
            "pictures": len(split),
            "accuracy_as_decoded": comparison.accuracies[0],
            "accuracy_from_full_size": comparison.accuracies[1],
            "full_size_minus_as_decoded": comparison.difference,
            "interval": list(comparison.interval),
            "other_answers": len(comparison.flips),
            "right_from_full_size_only": comparison.mended,
            "right_as_decoded_only": comparison.broken,
            "mcnemar_p": comparison.p_value,
            "mean_absolute_difference_in_levels": levels.mean().item(),
            "first_file_decoded_at": _scale(split.origins[0], images.spec.input),
        }
    return found


def _scale(file: str, spec: InputSpec) -> float:
    """Return the part of its height that a file is decoded at."""
    with Image.open(file) as image:
        return round(decode_picture(file, spec).shape[1] / image.height, 3)


def main() -> None:
    """Train at each size and write what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(data_folder(".") / "clothing.tar.gz", folder, filter="data")
        trials = [one(Path(folder) / "clothing-small", side, folder) for side in SIDES]
    holds = all(trial["val and test"]["full_size_minus_as_decoded"] <= MOST_LOST for trial in trials)
    claim = (
        "a network that learned photographs decoded at a reduced size has no more than 1 % (of val and test together) "
        "more of them right when they are decoded at full size"
    )
    report("decoding_accuracy", claim, holds, trials)


if __name__ == "__main__":
    main()
