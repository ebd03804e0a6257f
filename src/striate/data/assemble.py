"""From a source to an ImageSet: hold out what is missing, measure mean and std on train, write the Spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from striate.core.errors import DataError
from striate.core.spec import InputSpec, Resize, Spec, TaskSpec
from striate.data.imageset import ImageSet, Origins, Split
from striate.data.preprocess import resize_to_uint8, statistics
from striate.data.sources.builtin import Labelled
from striate.data.splits import TEST_SHARE, Part, divide

# ITU-R BT.601: what Pillow's "L" weighs red, green and blue with.
_LUMINANCE = (0.299, 0.587, 0.114)
_RESIZED_AT_ONCE = 4_096


def from_tensors(
    source: Labelled,
    *,
    name: str,
    seed: int,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize = "crop",
    test_share: float = TEST_SHARE,
    origin: Mapping[str, object] | None = None,
) -> ImageSet:
    """Return the ImageSet of a source whose pictures are already tensors.

    Args:
        size: (height, width) in pixels; None keeps the source's.
        channels: 1 or 3; None keeps the source's.
        seed, test_share: of what is held out where the source has no ``val`` or ``test``.
        origin: the arguments of ``load_data`` that load it again.
    """
    stored_channels, *stored_size = source.images["train"].shape[1:]
    height, width = size or stored_size
    wanted = unmeasured(channels or stored_channels, height, width, resize)
    return from_parts(
        name,
        divide(source.labels, seed, test_share),
        source.labels,
        source.class_names,
        wanted,
        images_of=lambda part: _fitted(_taken(source.images[part.source], part), wanted),
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
    origins_of: Callable[[Part], Sequence[str]],
    origin: Mapping[str, object] | None = None,
) -> ImageSet:
    """Return an ImageSet from parts of a source's splits.

    Args:
        parts: where the pictures of ``train``, ``val`` and ``test`` come from.
        labels: (N,) int64 of each of the source's splits.
        wanted: the InputSpec, with any mean and std: they are measured on ``train``.
        images_of: reads the pictures of a part, (N, C, H, W) uint8 as ``wanted`` says.
        origins_of: names them.
        origin: the arguments of ``load_data`` that load it again.
    """
    images = {split: images_of(part) for split, part in parts.items()}
    mean, std = statistics(images["train"])
    spec = Spec(input=wanted.model_copy(update={"mean": mean, "std": std}), task=TaskSpec(class_names=class_names))
    splits = {
        split: Split(images[split], labels[part.source][part.index], spec, origins_of(part))
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
    )


def unmeasured(channels: int, height: int, width: int, resize: Resize) -> InputSpec:
    """Return the InputSpec to read the pictures with, before train is there to be measured."""
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    return InputSpec(channels=channels, height=height, width=width, mean=zeros, std=ones, resize=resize)


def _taken(images: Tensor, part: Part) -> Tensor:
    """Return the pictures of a part; a whole split is not copied."""
    return images if len(part.index) == len(images) else images.index_select(0, part.index)


def _fitted(images: Tensor, wanted: InputSpec) -> Tensor:
    images = _with_channels(images, wanted.channels)
    if images.shape[1:] == wanted.shape:
        return images
    # In pieces, because the resize works in float, which takes four times the memory.
    return torch.cat([resize_to_uint8(piece, wanted) for piece in torch.split(images, _RESIZED_AT_ONCE)])


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
