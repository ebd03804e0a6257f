"""Arrays that are in memory already: (images, labels), or several splits of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.errors import DataError
from striate.data.sources.builtin import Labelled
from striate.data.sources.classes import check_classes

AnyArray: TypeAlias = NDArray[Any]
# What people hand over: anything that np.asarray takes, a tensor included.
Pair: TypeAlias = tuple[object, object]

_SPLITS = ("train", "val", "test")
_SPLITS_OF = {2: ("train", "test"), 3: _SPLITS}


def read_arrays(
    data: Pair | tuple[Pair, ...] | Mapping[str, Pair],
    *,
    channels: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Labelled:
    """Return arrays as labelled tensors.

    Args:
        data: (images, labels); or (train, test) or (train, val, test) of such pairs; or a dict of them by
            split. images: uint8 of shape (N, H, W), (N, H, W, C) or (N, C, H, W). labels: (N,), numbers or
            words.
        channels: C, where the shape leaves open which axis has the channels; of 1 and 3 either will do, as
            ``from_tensors`` makes one of the other.
        class_names: in the order that the labels count in; else the sorted labels of train.

    Raises:
        DataError: another shape, type or length, one class only, a class with one picture, or an unknown
            label.
    """
    pairs = _by_split(data)
    images = {split: _images(pair[0], split, channels) for split, pair in pairs.items()}
    raw_labels = {split: _raw_labels(pair[1], split, len(images[split])) for split, pair in pairs.items()}
    known = _known_labels(raw_labels["train"], class_names)
    names = tuple(class_names) if class_names is not None else tuple(str(label) for label in known)
    labels = {split: _numbered(raw, known, split) for split, raw in raw_labels.items()}
    check_classes(labels["train"], names, "the arrays")
    for split, own in images.items():
        if own.shape[1:] != images["train"].shape[1:]:
            raise DataError(
                f"images of {split} must have the shape of train, {tuple(images['train'].shape[1:])}, "
                f"got {tuple(own.shape[1:])}."
            )
    return Labelled(images, labels, names)


def _by_split(data: Pair | tuple[Pair, ...] | Mapping[str, Pair]) -> dict[str, Any]:
    pairs: dict[str, Any]
    if isinstance(data, Mapping):
        pairs = dict(data)
    elif isinstance(data, tuple) and len(data) in _SPLITS_OF and all(isinstance(part, tuple) for part in data):
        pairs = dict(zip(_SPLITS_OF[len(data)], data, strict=True))
    else:
        pairs = {"train": data}
    if "train" not in pairs or not set(pairs) <= set(_SPLITS):
        raise DataError(f"Arrays by split must be named train, and val or test, got {', '.join(map(repr, pairs))}.")
    for split, pair in pairs.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise DataError(f"Arrays of {split} must be a pair (images, labels), got {_kind(pair)}.")
    return pairs


def _kind(pair: object) -> str:
    return f"{len(pair)} parts" if isinstance(pair, tuple) else type(pair).__name__


def _images(given: object, split: str, channels: int | None) -> Tensor:
    """Return images as (N, C, H, W) uint8; the caller's memory is used where its layout allows it."""
    array = np.asarray(given)
    if array.dtype != np.uint8:
        raise DataError(
            f"images of {split} must be uint8 from 0 to 255, got {array.dtype}. "
            "Numbers from 0 to 1 become that by (images * 255).round().astype('uint8')."
        )
    if array.ndim == 3:
        array = array[:, None]  # (N, H, W) → (N, 1, H, W)
    elif array.ndim == 4:
        array = _channels_first(array, split, channels)
    if array.ndim != 4 or 0 in array.shape:
        raise DataError(
            f"images of {split} must have shape (N, H, W), (N, H, W, C) or (N, C, H, W), got {array.shape}."
        )
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _channels_first(array: AnyArray, split: str, channels: int | None) -> AnyArray:
    """Return (N, C, H, W), with the channels asked for or, as these can be converted, grey or RGB."""
    possible = ((1, 3),) if channels is None else ((channels,), (1, 3)) if channels in (1, 3) else ((channels,),)
    for counts in possible:
        if array.shape[3] in counts:
            return array.transpose(0, 3, 1, 2)
        if array.shape[1] in counts:
            return array
    raise DataError(
        f"images of {split} must have {' or '.join(map(str, possible[-1]))} channels in their last or second "
        f"axis, got shape {array.shape}. Give the number with channels=."
    )


def _raw_labels(given: object, split: str, count: int) -> AnyArray:
    array = np.asarray(given)
    if array.shape == (count, 1):
        array = array[:, 0]  # as Keras gives CIFAR's
    if array.shape != (count,):
        raise DataError(f"labels of {split} must be one per image, shape ({count},), got {array.shape}.")
    if array.dtype.kind in "OS":
        array = np.array([_word(label, split) for label in array.tolist()])
    if array.dtype.kind not in "biuU":
        raise DataError(f"labels of {split} must be whole numbers or words, got {array.dtype}.")
    return array


def _word(label: object, split: str) -> str:
    """Return a label as text; bytes are UTF-8."""
    try:
        return label.decode() if isinstance(label, bytes) else str(label)
    except UnicodeDecodeError:
        raise DataError(f"labels of {split} must be UTF-8 where they are bytes, got {label!r}.") from None


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
