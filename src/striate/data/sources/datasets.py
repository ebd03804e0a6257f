"""Data sets in PyTorch's sense: objects with a length whose items are (picture, label)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from striate.core.errors import DataError
from striate.core.spec import InputSpec, Resize
from striate.data.assemble import DEFAULT_SIDE, Labelled, unmeasured
from striate.data.cache.build import decoding_bar
from striate.data.decode import pixels_of
from striate.data.memory import check_memory
from striate.data.preprocess import resize_to_uint8
from striate.data.sources.arrays import split_by_name
from striate.data.sources.classes import check_classes
from striate.data.sources.labels import numbered_labels
from striate.data.sources.listing import default_size

_KIND = "(picture, label): a PIL image or uint8 pixels, and a number, a word or 0 and 1 for each class"


class Dataset(Protocol):
    """What PyTorch calls a map-style data set."""

    def __len__(self) -> int:
        """How many pictures there are."""

    def __getitem__(self, number: Any, /) -> Any:
        """A picture and its label."""


def are_datasets(data: object) -> TypeGuard[Dataset | tuple[Dataset, ...] | Mapping[str, Dataset]]:
    """Return whether this is a data set, a tuple of them or a dict of them by split, and not arrays."""
    if isinstance(data, Mapping):
        return bool(data) and all(map(_is_dataset, data.values()))
    if isinstance(data, tuple):
        return len(data) in (2, 3) and all(map(_is_dataset, data))
    return _is_dataset(data)


def read_datasets(
    data: Dataset | tuple[Dataset, ...] | Mapping[str, Dataset],
    *,
    class_names: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize = "crop",
    like: InputSpec | None = None,
) -> Labelled:
    """Return the pictures of data sets as labelled tensors; each is read once, in order.

    Args:
        data: one data set; or (train, test) or (train, val, test); or a dict of them by split. A picture is a PIL
            image, taken as ``pixels_of`` does (at full size, where a JPEG file for a much smaller size is decoded at a
            fraction of its own: there the pixels differ a little), or uint8 of shape (h, w), (h, w, C) or (C, h, w).
            A label is a number, a word, or a row of K zeros and ones where a picture may have several classes.
        class_names: in the order that the labels count in; else the attribute ``classes`` of train, where it has one,
            as torchvision's have; else the sorted labels of train.
        size: (height, width) in pixels. None: the most height and the most width of the pictures of train and val where
            all are of at most 96, else 96×96.
        channels: 1 or 3. None: 1 where every picture of train and val is grey, else 3.
        resize: where proportions differ.
        like: what a network takes, instead of size, channels and resize.

    Raises:
        DataError: an item is not a picture with a label, its numbers are not uint8, or memory does not take them all.
    """
    by_split = split_by_name(data, several=isinstance(data, tuple))
    channels = like.channels if like else channels
    if channels not in (None, 1, 3):
        raise DataError(f"channels must be 1 for grey or 3 for RGB where pictures come one by one, got {channels}.")
    fitted = like or (unmeasured(3, *size, resize) if size else None)
    read = {split: _read(own, split, fitted, channels, resize) for split, own in by_split.items()}
    chosen_with = [tuple(one.shape) for split, (pictures, _) in read.items() if split != "test" for one in pictures]
    fitted = fitted or unmeasured(3, *default_size([(height, width) for _, height, width in chosen_with]), resize)
    least = channels or max(shape[0] for shape in chosen_with)
    images = {split: _stacked(pictures, fitted, least) for split, (pictures, _) in read.items()}
    names = class_names if class_names is not None else _classes_of(by_split["train"])
    counts = {split: len(own) for split, own in images.items()}
    labels, known = numbered_labels({split: given for split, (_, given) in read.items()}, counts, names)
    check_classes(labels["train"], known, "the data set")
    return Labelled(images, labels, known)


def _is_dataset(data: object) -> bool:
    """Return whether items are asked for by number; arrays and columns are not, a list is where it holds pairs."""
    if isinstance(data, list):
        return bool(data) and isinstance(data[0], tuple) and len(data[0]) == 2
    if isinstance(data, tuple | str | bytes | Mapping) or hasattr(data, "__array__") or hasattr(data, "shape"):
        return False
    return hasattr(data, "__len__") and hasattr(data, "__getitem__")


def _classes_of(data: Any) -> Sequence[str] | None:
    """Return the names that a data set, or the one that it is a subset of, has in ``classes``; synonyms are joined."""
    classes = getattr(data, "classes", None) or getattr(getattr(data, "dataset", None), "classes", None)
    return classes and [name if isinstance(name, str) else ", ".join(name) for name in classes]


def _read(
    data: Dataset, split: str, fitted: InputSpec | None, channels: int | None, resize: Resize
) -> tuple[list[Tensor], list[object]]:
    """Return pictures, (1 or 3, h, w) uint8 each, and labels.

    Where the size is not known yet, pictures larger than the largest default are resized to that at once, and smaller
    ones, which decide, wait.
    """
    if not len(data):
        raise DataError(f"{split} of the data set must have at least one picture, got none.")
    spec = fitted or unmeasured(3, DEFAULT_SIDE, DEFAULT_SIDE, resize)
    check_memory(len(data), spec, f"of {split}", "Give a smaller size.")
    pictures: list[Tensor] = []
    labels: list[object] = []
    with decoding_bar(f"{split} of the data set", len(data)) as advance:
        for number in range(len(data)):
            name = f"{split}[{number}]"
            image, label = _item(data, number, name)
            grey = channels == 1 or (channels is None and Image.getmodebase(image.mode) == "L")
            own = _with_channels(spec, 1 if grey else 3)
            pixels = pixels_of(image, own, name)
            is_large = max(pixels.shape[1:]) > DEFAULT_SIDE
            pictures.append(resize_to_uint8(pixels, own) if fitted or is_large else pixels)
            labels.append(label)
            advance(1)
    return pictures, labels


def _item(data: Dataset, number: int, name: str) -> tuple[Image.Image, object]:
    try:
        item = data[number]
    except Exception as error:  # it is anybody's code
        raise DataError(f"{name} of the data set cannot be read: {type(error).__name__}: {error}.") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        got = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
        raise DataError(f"{name} of the data set must be {_KIND}, got {got}.")
    picture, label = item
    return (picture if isinstance(picture, Image.Image) else _image(picture, name)), label


def _image(picture: object, name: str) -> Image.Image:
    """Return pixels as a PIL image, so that they are read as those of files are."""
    pixels = np.asarray(picture)
    if pixels.dtype.kind not in "biuf":
        raise DataError(f"{name} of the data set must be {_KIND}, got {type(picture).__name__} as the picture.")
    if pixels.dtype != np.uint8:
        fix = "Leave ToTensor and Normalize out of its transform: pictures are normalised later."
        raise DataError(f"{name} of the data set must be uint8 from 0 to 255, got {pixels.dtype}. {fix}")
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)  # (C, h, w) → (h, w, C)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if 0 in pixels.shape or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise DataError(f"{name} of the data set must have shape (h, w), (h, w, 3) or (3, h, w), got {pixels.shape}.")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _with_channels(spec: InputSpec, channels: int) -> InputSpec:
    plain = unmeasured(channels, spec.height, spec.width, spec.resize)
    return plain.model_copy(update={"interpolation": spec.interpolation})


def _stacked(pictures: list[Tensor], spec: InputSpec, least: int) -> Tensor:
    """Empty a list of pictures into one tensor: (N, C, H, W) uint8, as many channels as any has, or ``least``."""
    channels = max([least, *(len(picture) for picture in pictures)])
    images = torch.empty((len(pictures), channels, spec.height, spec.width), dtype=torch.uint8)
    for number in reversed(range(len(pictures))):
        picture = pictures.pop()
        images[number] = resize_to_uint8(picture, _with_channels(spec, len(picture)))  # a grey one fills all channels
    return images
