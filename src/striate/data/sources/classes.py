"""What must hold for the classes of anybody's pictures: two at least, with two pictures to train on each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from striate.core.errors import DataError


def check_classes(labels: Tensor, class_names: Sequence[str], where: str) -> None:
    """Refuse pictures that no classifier can be trained on.

    Args:
        labels: (N,) int64 of the training split, each from 0 to K − 1.
        class_names: K names.
        where: what the pictures are called in an error.

    Raises:
        DataError: fewer than two classes, or a class with fewer than two pictures.
    """
    if len(class_names) < 2:
        raise DataError(
            f"{where} must have at least two classes, got only {class_names[0]!r}. "
            "Add a class of pictures of something else."
        )
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    fewest = min(range(len(counts)), key=counts.__getitem__)
    if counts[fewest] < 2:
        got = "only one" if counts[fewest] else "none"
        raise DataError(
            f"Class {class_names[fewest]!r} of {where} must have at least two pictures to train on, "
            f"got {got}. Add some, or leave the class out."
        )
