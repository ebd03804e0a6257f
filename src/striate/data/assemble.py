"""From a source to an ImageSet: hold out what is missing, measure mean and std on train, write the Spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from striate.core.errors import DataError
from striate.core.spec import InputSpec, Resize, Spec, TaskSpec
from striate.data.imageset import ImageSet, Origins, Split, fingerprint_of
from striate.data.memory import check_memory
from striate.data.preprocess import resize_to_uint8, statistics
from striate.data.sources.builtin import Labelled
from striate.data.splits import TEST_SHARE, Part, check_held_out, divide

# ITU-R BT.601: what Pillow's "L" weighs red, green and blue with.
_LUMINANCE = (0.299, 0.587, 0.114)
# Resizing works in float, four bytes a value: pieces of this many values keep that to a quarter of a gigabyte.
_VALUES_AT_ONCE = 1 << 26


def from_tensors(
    source: Labelled,
    *,
    name: str,
    seed: int,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize = "crop",
    like: InputSpec | None = None,
    test_share: float = TEST_SHARE,
    origin: Mapping[str, object] | None = None,
) -> ImageSet:
    """Return the ImageSet of a source whose pictures are already tensors.

    Args:
        size: (height, width) in pixels; None keeps the source's.
        channels: 1 or 3; None keeps the source's.
        like: what a network takes, instead of size, channels and resize; its mean and std are kept.
        seed, test_share: of what is held out where the source has no ``val`` or ``test``.
        origin: the arguments of ``load_data`` that load it again.
    """
    stored_channels, *stored_size = source.images["train"].shape[1:]
    height, width = size or stored_size
    wanted = like or unmeasured(channels or stored_channels, height, width, resize)
    parts = divide(source.labels, seed, test_share)
    return from_parts(
        name,
        parts,
        source.labels,
        source.class_names,
        wanted,
        images_of=lambda part: _fitted(source.images[part.source], part, wanted),
        in_memory={split for split, part in parts.items() if _is_shared(source.images[part.source], part, wanted)},
        measure=like is None,
        origins_of=lambda part: Origins((part.source + "[{}]").format, part.index),
        origin=origin,
    )


def from_parts(
    name: str,
    parts: Mapping[str, Part],
    labels: Mapping[str, Tensor],
    class_names: tuple[str, ...],
    wanted: InputSpec,
    *,
    images_of: Callable[[Part], Tensor],
    in_memory: Collection[str] = (),
    measure: bool = True,
    origins_of: Callable[[Part], Sequence[str]],
    groups: Mapping[str, Tensor] | None = None,
    origin: Mapping[str, object] | None = None,
) -> ImageSet:
    """Return an ImageSet from parts of a source's splits.

    Args:
        parts: where the pictures of ``train``, ``val`` and ``test`` come from.
        labels: (N,) int64 of each of the source's splits, or (N, K) uint8 where a picture may have several classes.
        wanted: the InputSpec.
        images_of: reads the pictures of a part, (N, C, H, W) uint8 as ``wanted`` says.
        origins_of: names them.
        groups: (N,) int64 of each of the source's splits; None where unknown.
        in_memory: the splits that ``images_of`` returns without taking any memory.
        measure: put mean and std of ``train`` into the Spec, not those of ``wanted``.
        origin: the arguments of ``load_data`` that load it again.

    Raises:
        DataError: too few pictures to hold any out, or more than memory takes.
    """
    check_held_out(parts, labels, class_names, groups, name)
    new = sum(len(part.index) for split, part in parts.items() if split not in in_memory)
    check_memory(new, wanted, f"of {name}", "Try a smaller --size.")
    images = {split: images_of(part) for split, part in parts.items()}
    if measure:
        mean, std = statistics(images["train"])
        wanted = wanted.model_copy(update={"mean": mean, "std": std})
    return join_parts(
        name, parts, images, labels, class_names, wanted, origins_of=origins_of, groups=groups, origin=origin
    )


def join_parts(
    name: str,
    parts: Mapping[str, Part],
    images: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    class_names: tuple[str, ...],
    measured: InputSpec,
    *,
    origins_of: Callable[[Part], Sequence[str]],
    groups: Mapping[str, Tensor] | None = None,
    stored: Tensor | None = None,
    fingerprint: Callable[[Split, Split], str] = fingerprint_of,
    origin: Mapping[str, object] | None = None,
) -> ImageSet:
    """Return the ImageSet of pictures that are at hand.

    Args:
        images: of each part, (N, C, H, W) uint8 as ``measured`` says.
        measured: the InputSpec with the mean and std that the network is to see.
        stored: the pictures of ``train`` larger, (N, C, H', W') uint8.
        fingerprint: of train and val, where somebody may know it already.
        parts, labels, class_names, origins_of, groups, origin: see ``from_parts``.
    """
    kind: Literal["single", "multi"] = "single" if labels["train"].ndim == 1 else "multi"
    spec = Spec(input=measured, task=TaskSpec(class_names=class_names, labels=kind))
    splits = {
        split: Split(
            images[split],
            labels[part.source][part.index],
            spec,
            origins_of(part),
            groups=None if groups is None else groups[part.source][part.index],
            stored=stored if split == "train" else None,
        )
        for split, part in parts.items()
    }
    return ImageSet(
        splits["train"],
        splits["val"],
        splits["test"],
        name=name,
        held_out=parts["val"].source == "train",
        test_held_out=parts["test"].source == "train",
        source=origin,
        fingerprint=fingerprint,
    )


def unmeasured(channels: int, height: int, width: int, resize: Resize) -> InputSpec:
    """Return the InputSpec to read the pictures with, before train is there to be measured."""
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    return InputSpec(channels=channels, height=height, width=width, mean=zeros, std=ones, resize=resize)


def _is_shared(images: Tensor, part: Part, wanted: InputSpec) -> bool:
    """Return whether a part is a whole split that is as wanted already: it is not copied then."""
    return len(part.index) == len(images) and images.shape[1:] == wanted.shape


def _fitted(images: Tensor, part: Part, wanted: InputSpec) -> Tensor:
    """Return the pictures of a part as wanted: (N, C, H, W) uint8."""
    if _is_shared(images, part, wanted):
        return images
    fitted = torch.empty((len(part.index), *wanted.shape), dtype=torch.uint8)
    at_once = max(1, _VALUES_AT_ONCE // max(math.prod(images.shape[1:]), math.prod(wanted.shape)))
    for start in range(0, len(fitted), at_once):
        piece = images.index_select(0, part.index[start : start + at_once])
        fitted[start : start + at_once] = resize_to_uint8(_with_channels(piece, wanted.channels), wanted)
    return fitted


def _with_channels(images: Tensor, channels: int) -> Tensor:
    """Turn grey pictures to RGB or RGB ones to grey: (N, C, H, W) uint8."""
    if images.shape[1] == channels:
        return images
    if (images.shape[1], channels) == (1, 3):
        return images.expand(-1, 3, -1, -1).contiguous()
    if (images.shape[1], channels) == (3, 1):
        red, green, blue = (images[:, i : i + 1].to(torch.float32) for i in range(3))
        grey = _LUMINANCE[0] * red + _LUMINANCE[1] * green + _LUMINANCE[2] * blue
        return grey.round().to(torch.uint8)
    raise DataError(
        f"channels must be {images.shape[1]} as the pictures have, or 1 or 3 for grey or RGB, got {channels}."
    )
