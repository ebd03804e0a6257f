"""Labels as people have them, numbers, words or rows of 0 and 1, become tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.errors import DataError

AnyArray = NDArray[Any]


def numbered_labels(
    given: Mapping[str, object], counts: Mapping[str, int], class_names: Sequence[str] | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return labels by split, (N,) int64 or (N, K) uint8, and the names of the classes.

    Args:
        given: by split, anything that ``np.asarray`` takes: (N,) whole numbers or words; or (N, K) 0 and 1, a column
            for each class, where a picture may have several.
        counts: N by split.
        class_names: in the order that numbers and columns count in; None for the sorted labels of train, or the numbers
            of the columns.

    Raises:
        DataError: another shape or type, a split unlike train, or a label that is not of the classes.
    """
    raw = {split: _raw_labels(own, split, counts[split]) for split, own in given.items()}
    for split, own in raw.items():
        if own.shape[1:] != raw["train"].shape[1:]:
            raise DataError(
                f"labels of {split} must have the shape of train, {('N', *raw['train'].shape[1:])}, got {own.shape}."
            )
    if raw["train"].ndim == 2:
        return _marked(raw, class_names)
    known = _known_labels(raw["train"], class_names)
    names = tuple(class_names) if class_names is not None else tuple(str(label) for label in known)
    return {split: _numbered(own, known, split) for split, own in raw.items()}, names


def _raw_labels(given: object, split: str, count: int) -> AnyArray:
    try:
        array = np.asarray(given)
    except ValueError:
        raise DataError(f"labels of {split} must be of one shape each, got several.") from None
    if array.shape == (count, 1):
        array = array[:, 0]  # as Keras gives CIFAR's
    if array.shape[:1] != (count,) or array.ndim > 2:
        raise DataError(
            f"labels of {split} must be one per image, shape ({count},), or 0 and 1 for each class, "
            f"shape ({count}, K), got {array.shape}."
        )
    if array.ndim == 2 and array.dtype.kind not in "biu":
        raise DataError(
            f"labels of {split} with a column for each class must be 0 and 1 in whole numbers, got {array.dtype}. "
            "Where each picture has exactly one class, give labels.argmax(1)."
        )
    if array.dtype.kind in "OS":
        array = np.array([_word(label, split) for label in array.tolist()])
    if array.dtype.kind not in "biuU":
        raise DataError(f"labels of {split} must be whole numbers or words, got {array.dtype}.")
    return array


def _word(label: object, split: str) -> str:
    """Return a label as text; bytes are UTF-8."""
    if not isinstance(label, str | bytes | int | np.integer):
        raise DataError(f"labels of {split} must be whole numbers or words, got {label!r}.")
    try:
        return label.decode() if isinstance(label, bytes) else str(label)
    except UnicodeDecodeError:
        raise DataError(f"labels of {split} must be UTF-8 where they are bytes, got {label!r}.") from None


def _marked(
    raw: Mapping[str, AnyArray], class_names: Sequence[str] | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return labels that are marked by 0 and 1: (N, K) uint8."""
    columns = raw["train"].shape[1]
    names = tuple(class_names) if class_names is not None else tuple(map(str, range(columns)))
    if len(names) != columns:
        raise DataError(f"labels must have a column for each of the {len(names)} classes, got {columns}.")
    for split, own in raw.items():
        wrong = (own != 0) & (own != 1)
        if wrong.any():
            raise DataError(f"labels of {split} with a column for each class must be 0 or 1, got {own[wrong][0]}.")
    return {split: torch.from_numpy(own.astype(np.uint8)) for split, own in raw.items()}, names


def _known_labels(train: AnyArray, class_names: Sequence[str] | None) -> AnyArray:
    """Return the K labels in the order of the classes."""
    if class_names is None:
        return np.unique(train)
    return np.arange(len(class_names)) if train.dtype.kind in "biu" else np.asarray(class_names)


def _numbered(raw: AnyArray, known: AnyArray, split: str) -> Tensor:
    """Return labels as numbers from 0 to K − 1: (N,) int64."""
    order = np.argsort(known)
    position = np.searchsorted(known, raw, sorter=order).clip(max=len(known) - 1)
    numbers = order[position]
    wrong = known[numbers] != raw
    if wrong.any():
        raise DataError(f"labels of {split} must be of the {len(known)} classes, got {raw[wrong.argmax()].item()!r}.")
    return torch.from_numpy(numbers.astype(np.int64))
