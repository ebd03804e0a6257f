"""From a source to an ImageSet: hold out what is missing, measure mean and std on train, write the Spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from striate.core.errors import DataError
from striate.core.spec import InputSpec, Resize, Spec, TaskSpec
from striate.data.imageset import ImageSet, Origins, Split, fingerprint_of
from striate.data.luminance import luminance
from striate.data.memory import check_memory
from striate.data.preprocess import resize_to_uint8, statistics
from striate.data.splits import TEST_SHARE, Part, check_held_out, divide

DEFAULT_SIDE = 96  # px of pictures of many sizes, where none is asked for
# Resizing works in float, four bytes a value: pieces of this many values keep that to a quarter of a gigabyte.
_VALUES_AT_ONCE = 1 << 26


@final
@dataclass(frozen=True, eq=False)
class Labelled:
    """Pictures of one size with their labels, by the splits that their source has, before anything is held out.

    Args:
        images: by split, (N, C, H, W) uint8, all of one C, H and W; ``train`` is among them.
        labels: by split, (N,) int64, or (N, K) uint8 where a picture may have several classes.
        class_names: K names, in the order of the labels.
    """

    images: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    class_names: tuple[str, ...]


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

    Raises:
        DataError: too few pictures to hold any out, or more than memory takes.
    """
    own_channels, *own_size = source.images["train"].shape[1:]
    height, width = size or own_size
    wanted = like or unmeasured(channels or own_channels, height, width, resize)
    parts = divide(source.labels, seed, test_share)
    check_held_out(parts, source.labels, source.class_names, None, name)
    copied = [part for part in parts.values() if not _is_shared(source.images[part.source], part, wanted)]
    check_memory(sum(len(part.index) for part in copied), wanted, f"of {name}", "Try a smaller --size.")
    images = {split: _fitted(source.images[part.source], part, wanted) for split, part in parts.items()}
    if like is None:
        mean, std = statistics(images["train"])
        wanted = wanted.model_copy(update={"mean": mean, "std": std})
    return join_parts(
        name,
        parts,
        images,
        source.labels,
        source.class_names,
        wanted,
        origins_of=lambda part: Origins((part.source + "[{}]").format, part.index),
        origin=origin,
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
        parts: where the pictures of ``train``, ``val`` and ``test`` come from.
        images: of each part, (N, C, H, W) uint8 as ``measured`` says.
        labels: of each of the source's splits, (N,) int64, or (N, K) uint8 where a picture may have several classes.
        measured: the InputSpec with the mean and std that the network is to see.
        origins_of: names the pictures of a part.
        groups: of each of the source's splits, (N,) int64; None where unknown.
        stored: the pictures of ``train`` larger, (N, C, H', W') uint8.
        fingerprint: of train and val, where somebody may know it already.
        origin: the arguments of ``load_data`` that load it again.
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


def enlarged(wanted: InputSpec, times: float) -> InputSpec | None:
    """Return the InputSpec of pictures that are kept so many times as large; None where they are no larger."""
    height, width = round(wanted.height * times), round(wanted.width * times)
    if (height, width) == (wanted.height, wanted.width):
        return None
    return wanted.model_copy(update={"height": height, "width": width})


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
        return luminance(images.to(torch.float32)).round_().to(torch.uint8)
    raise DataError(
        f"channels must be {images.shape[1]} as the pictures have, or 1 or 3 for grey or RGB, got {channels}."
    )
