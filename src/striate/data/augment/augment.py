"""Augmentation of whole batches; each draw is keyed by (seed, epoch, picture), whatever the batching."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.core.errors import DataError
from striate.core.spec import Spec
from striate.data.augment import trivial
from striate.data.augment.boxes import erase
from striate.data.augment.colour import jitter
from striate.data.augment.draws import Draws, Stream
from striate.data.augment.geometry import (
    Affine,
    Window,
    crop_and_resize,
    draw_affine,
    draw_shift,
    draw_steps,
    draw_window,
    resample,
)
from striate.data.augment.mixing import mix
from striate.data.augment.policy import Augmentation, Flip
from striate.data.batches import Batch
from striate.data.keyed import keyed_bits
from striate.data.preprocess import normalise

Padding = Literal["reflect", "zeros"]


def training_batch(
    batch: Batch, policy: Augmentation, spec: Spec, *, size: tuple[int, int], epoch: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return what a network in training sees of a batch: augmented, normalised and mixed.

    Args:
        size: (H, W) that it is trained at.

    Returns:
        The pictures (B, C, H, W) float32, on the batch's device, and the targets of the loss, see `mix`.
    """
    images = augment(batch.images, batch.index, policy, size=size, epoch=epoch, seed=seed)
    pictures = normalise(images, spec.input)
    return mix(pictures, batch.labels, batch.index, policy, classes=spec.task.classes, epoch=epoch, seed=seed)


def augment(
    images: Tensor,
    index: Tensor,
    policy: Augmentation,
    *,
    epoch: int,
    seed: int,
    size: tuple[int, int] | None = None,
    padding: Padding = "reflect",
) -> Tensor:
    """Change each picture of a batch by chance, as the policy says.

    In this order: flip; crop, zoom, shear, rotation and shift, which are one interpolation; TrivialAugment, whose
    geometric operations join that interpolation; colours; erasing. `mix` comes after normalising.

    Args:
        images: (B, C, h, w) uint8.
        index: (B,) int64, the position of each picture in its split.
        policy: what may change, and how much.
        epoch, seed: together with the index they key every draw.
        size: (H, W) of the result, at most h and w: a crop of that size is cut. None for h and w.
        padding: what whole shifts move in at the border: the picture mirrored, or zeros.

    Returns:
        (B, C, H, W) uint8.

    Raises:
        DataError: ``shift`` is not less than the picture, or ``size`` is more.
    """
    stored, draws = (images.shape[2], images.shape[3]), Draws(index, epoch, seed)
    size = size or stored
    _check(policy, stored, size)
    if policy.flip != "none":
        images = _flip(images, _mirrored(draws, policy.flip))
    choice = trivial.choose(draws) if policy.trivial_augment else None
    if policy.rotation or policy.shear or policy.zoom > 1 or (policy.crop_area < 1 and (policy.shift or choice)):
        images = _warp(images, draws, policy, size, choice)
    else:
        images = _cut(images, draws, policy, size, padding)
        if choice is not None:
            images = _move_some(images, choice)
    if choice is not None:
        images = trivial.recolour(images, choice)
    images = jitter(images, draws, policy)
    return erase(images, draws, policy.erase) if policy.erase else images


def _check(policy: Augmentation, stored: tuple[int, int], size: tuple[int, int]) -> None:
    if not policy.shift < min(size):
        raise DataError(f"shift must be from 0 to {min(size) - 1} pixels here, got {policy.shift}.")
    if size[0] > stored[0] or size[1] > stored[1]:
        raise DataError(f"size must be at most the {stored[0]}×{stored[1]} of the pictures, got {size[0]}×{size[1]}.")


def _mirrored(draws: Draws, flip: Flip) -> Tensor:
    """Return 1 for each picture that is mirrored, else 0: (B,) int64."""
    if flip == "alternating":
        return (keyed_bits(draws.index, draws.seed, Stream.FLIP) + draws.epoch) & 1
    return draws.bits(Stream.FLIP) & 1


def _flip(images: Tensor, mirrored: Tensor) -> Tensor:
    # All are mirrored and whole pictures chosen from both: for 256 digits of MNIST 130 µs, torch.where 480.
    both = torch.cat([images, images.flip(3)])
    return both.index_select(0, torch.arange(len(images), device=images.device) + mirrored * len(images))


def _warp(
    images: Tensor, draws: Draws, policy: Augmentation, size: tuple[int, int], choice: trivial.Choice | None
) -> Tensor:
    """Interpolate every picture once, TrivialAugment's geometric operation included."""
    stored = (images.shape[2], images.shape[3])
    window = draw_window(draws, policy, stored, size)
    source = draw_affine(draws, policy, window, stored, size)
    if choice is not None:
        source = source.after(trivial.affine(choice))
    shrinks = policy.zoom > 1 or (policy.crop_area < 1 and stored != size)
    return resample(images, source, size, draw_steps(draws, policy, window, size) if shrinks else None)


def _cut(images: Tensor, draws: Draws, policy: Augmentation, size: tuple[int, int], padding: Padding) -> Tensor:
    """Crop and shift, by whole pixels unless the crop is resized."""
    stored = (images.shape[2], images.shape[3])
    if policy.crop_area < 1:
        return crop_and_resize(images, draw_window(draws, policy, stored, size), size)
    if not policy.shift and stored == size:
        return images
    window = draw_window(draws, policy, stored, size)
    return _runs(images, window, draw_shift(draws, policy.shift), size, policy.shift, padding)


def _runs(
    images: Tensor, window: Window, shift: tuple[Tensor, Tensor], size: tuple[int, int], most: int, padding: Padding
) -> Tensor:
    """Cut a window of whole pixels out of each picture, moved by (down, right) pixels, neither beyond ``most``.

    Each row of the result is W pixels in a row of the padded picture: one ``index_select`` among all runs of
    W pixels copies whole rows. For 256 digits of MNIST it takes 31 µs, where gathering pixel by pixel takes
    310.
    """
    count, channels = images.shape[:2]
    mode = "reflect" if padding == "reflect" else "constant"
    padded = F.pad(images, (most, most, most, most), mode)  # (B, C, h + 2·most, w + 2·most)
    top, left = (most + start.long() - by for start, by in zip(window[:2], shift, strict=True))
    plane = torch.arange(count * channels, device=images.device).view(count, channels, 1)
    row = plane * padded.shape[2] + torch.arange(size[0], device=images.device) + top.view(-1, 1, 1)
    start = row * padded.shape[3] + left.view(-1, 1, 1)  # (B, C, H), counted over the whole batch
    runs = padded.flatten().unfold(0, size[1], 1)  # a view: run i starts at pixel i
    return runs.index_select(0, start.flatten()).view(count, channels, *size)


def _move_some(images: Tensor, choice: trivial.Choice) -> Tensor:
    """Interpolate the pictures that TrivialAugment moves, five of fourteen, and leave the others as they are."""
    some = trivial.moved(choice)
    linear, offset = trivial.affine(choice)
    chosen = resample(
        images.index_select(0, some), Affine(linear[some], offset[some]), (images.shape[2], images.shape[3])
    )
    return images.index_copy(0, some, chosen)
