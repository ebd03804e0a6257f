"""THE preprocessing, defined once: uint8 picture → antialiased resize → uint8 at the network's size → float.

Training, evaluation, prediction, the exported network and the server all go through these functions, in
tensor operations that export unchanged, so that preprocessing cannot drift from the weights.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from striate.core.errors import DataError
from striate.core.spec import InputSpec, Interpolation

# A channel without contrast has a deviation of 0; dividing by half a grey level keeps its values near 0.
MINIMUM_STD = 0.5 / 255
# Counted in pieces of this many values, since memory-mapped pictures may be more than memory takes.
_VALUES_AT_ONCE = 1 << 22


def resize_to_uint8(picture: Tensor, spec: InputSpec) -> Tensor:
    """Resize pictures to the network's size: in float, antialiased, then rounded and clamped to uint8.

    Args:
        picture: (…, C, h, w) uint8.
        spec: says H, W, the policy (``stretch``, ``crop`` or ``pad``) and the interpolation.

    Returns:
        (…, C, H, W) uint8; the same tensor where nothing is to be done.

    Raises:
        DataError: not uint8, or another number of channels.
    """
    if picture.dtype != torch.uint8 or picture.ndim < 3 or picture.shape[-3] != spec.channels:
        raise DataError(
            f"A picture must be uint8 of shape (…, {spec.channels}, h, w), "
            f"got {str(picture.dtype).removeprefix('torch.')} of shape {tuple(picture.shape)}."
        )
    size = (spec.height, spec.width)
    if picture.shape[-2:] == size:
        return picture
    if spec.resize == "crop":
        return _interpolate(_centre_crop(picture, spec), size, spec.interpolation)
    if spec.resize == "pad":
        return _centre_pad(_interpolate(picture, _size_inside(picture, spec), spec.interpolation), size)
    return _interpolate(picture, size, spec.interpolation)


def normalise(images: Tensor, spec: InputSpec) -> Tensor:
    """Return (images / 255 − mean) / std per channel.

    Args:
        images: (…, C, H, W) uint8.

    Returns:
        (…, C, H, W) float32, on the same device.
    """
    mean = torch.tensor(spec.mean, device=images.device).view(-1, 1, 1)
    std = torch.tensor(spec.std, device=images.device).view(-1, 1, 1)
    return images.to(torch.float32, copy=True).sub_(255 * mean).mul_(1 / (255 * std))


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel on the 0–1 scale, the same for any number of threads.

    Args:
        images: (N, C, H, W) uint8, of the training split only.

    Returns:
        C means and C deviations, none of these below half a grey level.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    pieces = torch.split(images, max(1, _VALUES_AT_ONCE // max(1, math.prod(images.shape[1:]))))
    for channel in range(images.shape[1]):
        counted = (torch.bincount(piece[:, channel].flatten(), minlength=256) for piece in pieces)
        histogram = sum(counted, torch.zeros(256, dtype=torch.int64)).to(torch.float64)
        share = histogram / histogram.sum()
        mean = (share * levels).sum()
        deviation = (share * (levels - mean).square()).sum().sqrt()
        means.append(float(mean))
        deviations.append(max(float(deviation), MINIMUM_STD))
    return tuple(means), tuple(deviations)


def _interpolate(picture: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    if picture.shape[-2:] == size:
        return picture
    batch = picture.reshape(-1, *picture.shape[-3:])  # (…, C, h, w) → (B, C, h, w)
    resized = _nearest(batch, size) if interpolation == "nearest" else _filtered(batch, size, interpolation)
    return resized.reshape(*picture.shape[:-2], *size)


def _nearest(batch: Tensor, size: tuple[int, int]) -> Tensor:
    if size[1] == 1 < size[0]:
        # PyTorch 2.13 repeats the first row where the result has one column; one row it does right.
        return _nearest(batch.mT, (1, size[0])).mT
    return F.interpolate(batch, size, mode="nearest-exact")


def _filtered(batch: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """Resize (B, C, h, w) by a separable antialiasing filter: rows first, as a decoder lays them out, then columns.

    Each pass is a weighted sum of a few whole rows, which ``embedding_bag`` takes two to four times as fast as
    ``interpolate`` filters, and adds in the same order for a picture alone and for one of a batch.
    """
    rows = batch.permute(2, 3, 0, 1).to(torch.float32, memory_format=torch.contiguous_format)  # (h, w, B, C)
    rows = _weighted_rows(rows.flatten(1), size[0], interpolation)  # (H, w·B·C)
    columns = rows.T.contiguous().reshape(batch.shape[3], -1)  # (w, B·C·H)
    columns = _weighted_rows(columns, size[1], interpolation)  # (W, B·C·H)
    levels = columns.round().clamp(0, 255).to(torch.uint8)  # bicubic overshoots
    return levels.T.contiguous().reshape(*batch.shape[:2], *size)


def _weighted_rows(rows: Tensor, wanted: int, interpolation: Interpolation) -> Tensor:
    """Filter along the first dimension of (size, L) float32; returns (wanted, L)."""
    if len(rows) == wanted:
        return rows
    taken, starts, weights = (torch.from_numpy(one).to(rows.device) for one in _taps(len(rows), wanted, interpolation))
    return F.embedding_bag(taken, rows, starts, mode="sum", per_sample_weights=weights)


@functools.lru_cache(maxsize=1024)
def _taps(
    size: int, wanted: int, interpolation: Interpolation
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return which of ``size`` values each of ``wanted`` is made of, where the list of each starts, and the weights.

    The filter is a triangle, or the cubic of Keys (1981) with a = −½, as wide as the scale where that is above 1.
    """
    scale = size / wanted
    width = max(scale, 1.0)
    reach = width * (1 if interpolation == "bilinear" else 2)
    centre = (np.arange(wanted) + 0.5)[:, np.newaxis] * scale
    count = min(size, math.ceil(2 * reach) + 1)
    taken = np.clip(np.floor(centre - reach).astype(np.int64), 0, size - count) + np.arange(count)
    distance = np.abs(taken + 0.5 - centre) / width
    weights = _triangle(distance) if interpolation == "bilinear" else _cubic(distance)
    weights /= weights.sum(axis=1, keepdims=True)
    return taken.ravel(), np.arange(0, taken.size, count), weights.astype(np.float32).ravel()


def _triangle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1 - distance, 0)


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def _centre_crop(picture: Tensor, spec: InputSpec) -> Tensor:
    """Return the largest centred part with the network's proportions; cut first, less is to be resized."""
    height, width = picture.shape[-2:]
    cut_height = min(height, max(1, round(width * spec.height / spec.width)))
    cut_width = min(width, max(1, round(height * spec.width / spec.height)))
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    return picture[..., top : top + cut_height, left : left + cut_width]


def _size_inside(picture: Tensor, spec: InputSpec) -> tuple[int, int]:
    """Return the largest size with the picture's proportions that fits inside the network's."""
    height, width = picture.shape[-2:]
    scale = min(spec.height / height, spec.width / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _centre_pad(picture: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = size[0] - picture.shape[-2], size[1] - picture.shape[-1]
    top, left = rows // 2, columns // 2
    return F.pad(picture, (left, columns - left, top, rows - top))
