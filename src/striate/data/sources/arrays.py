"""Arrays that are in memory already: (images, labels), or several splits of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from striate.core.errors import DataError
from striate.data.assemble import Labelled
from striate.data.sources.classes import check_classes
from striate.data.sources.labels import AnyArray, numbered_labels
from striate.data.splits import SPLITS

# What people hand over: anything that np.asarray takes, a tensor included.
Pair: TypeAlias = tuple[object, object]

_SPLITS_OF = {2: ("train", "test"), 3: SPLITS}


def read_arrays(
    data: object,
    *,
    channels: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Labelled:
    """Return arrays as labelled tensors.

    Args:
        data: (images, labels); or (train, test) or (train, val, test) of such pairs; or a dict of them by
            split. images: uint8 of shape (N, H, W), (N, H, W, C) or (N, C, H, W). labels: (N,), numbers or
            words; or (N, K) whole numbers 0 and 1 where a picture may have several classes.
        channels: C, where the shape leaves open which axis has the channels; of 1 and 3 either will do, as
            ``from_tensors`` makes one of the other.
        class_names: in the order that the labels count in; else the sorted labels of train.

    Raises:
        DataError: another shape, type or length, one class only, a class with one picture, or an unknown
            label.
    """
    if not isinstance(data, tuple | Mapping):
        raise DataError(
            "data must be a name, a path, a data frame, a data set, or arrays (images, labels), "
            f"got {type(data).__name__}."
        )
    is_tuple_of_pairs = isinstance(data, tuple) and len(data) in _SPLITS_OF and all(isinstance(p, tuple) for p in data)
    pairs = split_by_name(data, several=is_tuple_of_pairs)
    for split, pair in pairs.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise DataError(f"Arrays of {split} must be a pair (images, labels), got {_kind(pair)}.")
    images = {split: _images(pair[0], split, channels) for split, pair in pairs.items()}
    counts = {split: len(own) for split, own in images.items()}
    labels, names = numbered_labels({split: pair[1] for split, pair in pairs.items()}, counts, class_names)
    check_classes(labels["train"], names, "the arrays")
    for split, own in images.items():
        if own.shape[1:] != images["train"].shape[1:]:
            raise DataError(
                f"images of {split} must have the shape of train, {tuple(images['train'].shape[1:])}, "
                f"got {tuple(own.shape[1:])}."
            )
    return Labelled(images, labels, names)


def split_by_name(data: Any, *, several: bool) -> dict[str, Any]:
    """Return what was handed over by the name of its split, train where there is one alone.

    Args:
        data: a dict by split; where ``several``, a tuple of (train, test) or (train, val, test); else train.

    Raises:
        DataError: a split has another name, or there is no train.
    """
    splits: dict[str, Any]
    if isinstance(data, Mapping):
        splits = dict(data)
    elif several:
        splits = dict(zip(_SPLITS_OF[len(data)], data, strict=True))
    else:
        splits = {"train": data}
    if "train" not in splits or not set(splits) <= set(SPLITS):
        raise DataError(f"Arrays by split must be named train, and val or test, got {', '.join(map(repr, splits))}.")
    return splits


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
