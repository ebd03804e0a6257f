"""What must hold for the classes of anybody's pictures: two at least, with two pictures to train on each."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor

from striate.core.errors import DataError, listed
from striate.data.balance import class_counts

_LOGGER = logging.getLogger(__name__)


def check_classes(labels: Tensor, class_names: Sequence[str], where: str, empty: Sequence[str] = ()) -> None:
    """Refuse pictures that no classifier can be trained on.

    Args:
        labels: (N,) int64 of the training split, each from 0 to K − 1; or (N, K) uint8 where a picture may have several
            classes. That every one has exactly one is then said, because it is seldom meant.
        class_names: K names.
        where: what the pictures are called in an error.
        empty: names of what would be classes too, had they any pictures.

    Raises:
        DataError: fewer than two classes, two of one name, or a class with fewer than two pictures.
    """
    if len(class_names) < 2:
        without = f"; no pictures are in {listed(empty)}" if empty else ""
        raise DataError(
            f"{where} must have at least two classes, got only {class_names[0]!r}{without}. "
            "Add a class of pictures of something else."
        )
    if len(set(class_names)) < len(class_names):
        twice = next(name for place, name in enumerate(class_names) if name in class_names[:place])
        raise DataError(f"The classes of {where} must have different names, got {twice!r} twice. Rename one.")
    if labels.ndim == 2 and bool((labels.sum(dim=1) == 1).all()):
        _LOGGER.warning(
            "Each picture of %s has exactly one class, and is trained as if it may have several or none. "
            "If the classes exclude each other, give one label for each picture.",
            where,
        )
    counts = class_counts(labels, len(class_names)).tolist()
    fewest = min(range(len(counts)), key=counts.__getitem__)
    if counts[fewest] < 2:
        got = "only one" if counts[fewest] else "none"
        raise DataError(
            f"Class {class_names[fewest]!r} of {where} must have at least two pictures to train on, "
            f"got {got}. Add some, or leave the class out."
        )
