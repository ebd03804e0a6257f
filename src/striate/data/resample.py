"""The antialiased resize as PyTorch's ``interpolate`` defines it; on the processor in half of its time.

Every row of the result is a weighted sum of a few rows of the picture, and then every column of columns: the rows are
added whole, as those of an embedding are, where ``interpolate`` goes value by value.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

_MOST_SIZES = 256  # remembered at once, of at most some 100 KB each


def resample(pictures: Tensor, size: tuple[int, int], filter: Literal["bilinear", "bicubic"]) -> Tensor:
    """Resize pictures with a triangle or Keys' cubic (a = −½), as wide as the scale where they become smaller.

    Args:
        pictures: (B, C, h, w) uint8; channels last, as decoders leave them, is the fastest.

    Returns:
        (B, C, *size) float32; but for rounding the same on any device and in an exported graph.
    """
    if torch.compiler.is_exporting() or pictures.device.type != "cpu" or not pictures.numel():
        return _interpolated(pictures.to(torch.float32), size, filter)
    batch, channels, height, width = pictures.shape
    rows = pictures.permute(0, 2, 3, 1).reshape(batch * height, width * channels).to(torch.float32)
    rows = _sums(rows, batch, height, size[0], filter)
    columns = rows.t().contiguous().view(width, -1)  # (w, C × B × H)
    columns = _sums(columns, 1, width, size[1], filter)
    return columns.view(size[1], channels, batch, size[0]).permute(2, 1, 3, 0)


def _interpolated(pictures: Tensor, size: tuple[int, int], filter: str) -> Tensor:
    if size[1] == 1 < size[0]:
        # PyTorch 2.13 repeats the first row where the result has one column; one row it does right.
        return _interpolated(pictures.mT, (1, size[0]), filter).mT
    return F.interpolate(pictures, size, mode=filter, antialias=True)


def _sums(rows: Tensor, batch: int, size: int, wanted: int, filter: str) -> Tensor:
    """Resize (B × size, M) float32 to (B × wanted, M), each of the B by itself."""
    if size == wanted:
        return rows
    taken, weights = _weights(size, wanted, filter)
    if batch > 1:
        starts = torch.arange(0, batch * size, size, dtype=taken.dtype)
        taken = (starts[:, None, None] + taken).flatten(0, 1)
        weights = weights.repeat(batch, 1)
    # Rows that do not lie in one piece would be added by a slower kernel, which rounds otherwise.
    return F.embedding_bag(taken, rows.contiguous(), per_sample_weights=weights, mode="sum")


@functools.lru_cache(_MOST_SIZES)
def _weights(size: int, wanted: int, filter: str) -> tuple[Tensor, Tensor]:
    """Return which of ``size`` rows each wanted row is made of, and how much of each: (wanted, K) int32 and float32."""
    scale = size / wanted
    width = max(scale, 1.0)
    reach = width if filter == "bilinear" else 2 * width
    centre = (torch.arange(wanted, dtype=torch.float64)[:, None] + 0.5) * scale
    first = (centre - reach + 0.5).floor().clamp(min=0)
    taken = first + torch.arange(int(2 * reach) + 2)
    distance = (taken + 0.5 - centre).abs() / width
    weights = _triangle(distance) if filter == "bilinear" else _cubic(distance)
    weights = torch.where(taken < size, weights, 0.0)
    weights = weights / weights.sum(1, keepdim=True)
    most = int(weights.any(0).nonzero().max()) + 1
    return taken.clamp(max=size - 1)[:, :most].to(torch.int32), weights[:, :most].to(torch.float32)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Keys (1981), Cubic convolution interpolation, equation 4, with a = −½."""
    near = (1.5 * distance - 2.5) * distance.square() + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
