"""Pooling that PyTorch lacks: sum, L2 and median over sliding windows, and global average and maximum.

The three sliding pools work in 1, 2 and 3 dimensions, after the length of ``size``. Padding and the part of a
window that hangs over the end (``ceil``) count as absent: they add nothing to a sum and nothing to a median.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.networks.shapes import Window, windows

Size = tuple[int, ...]


def sliding(size: Size, stride: Size | None, padding: Size | None, ceil: bool) -> tuple[Window, ...]:
    """The windows of a pool, one per axis; the stride defaults to the size, the padding to none."""
    return windows(size, stride or size, padding or (0,) * len(size), ceil=ceil)


def pad_for(x: Tensor, over: tuple[Window, ...], value: float) -> Tensor:
    """``x`` padded with ``value`` so that every window lies inside it."""
    widths: list[int] = []
    for window, size in zip(over, x.shape[2:], strict=True):
        widths = [window.before, window.overhang(size), *widths]  # F.pad wants the last axis first
    return F.pad(x, widths, value=value)


def _patches(x: Tensor, over: tuple[Window, ...], value: float) -> Tensor:
    """x: (N, C, …) → (N, C, *outputs, K): the K pixels under each window."""
    x = pad_for(x, over, value)
    for axis, window in enumerate(over, start=2):
        x = x.unfold(axis, window.kernel, window.stride)
    return x.flatten(start_dim=2 + len(over))


def _window_sum(x: Tensor, over: tuple[Window, ...]) -> Tensor:
    """The sum under each window, by PyTorch's average pooling with 1 as its divisor."""
    size, stride, padding = (tuple(getattr(w, name) for w in over) for name in ("kernel", "stride", "before"))
    ceil = over[0].ceil
    if len(over) == 3:
        return F.avg_pool3d(x, size, stride, padding, ceil, divisor_override=1)
    if len(over) == 2:
        return F.avg_pool2d(x, size, stride, padding, ceil, divisor_override=1)
    row = F.avg_pool2d(x.unsqueeze(2), (1, *size), (1, *stride), (0, *padding), ceil, divisor_override=1)
    return row.squeeze(2)  # avg_pool1d has no divisor


@final
class SumPool(nn.Module):
    """The sum under each window: (N, C, H, W) → (N, C, H', W'), and likewise in 1 and 3 dimensions."""

    def __init__(self, size: Size, stride: Size | None = None, padding: Size | None = None, ceil: bool = False) -> None:
        super().__init__()
        self.windows = sliding(size, stride, padding, ceil)

    def forward(self, x: Tensor) -> Tensor:
        return _window_sum(x, self.windows)


@final
class L2Pool(nn.Module):
    """The Euclidean norm √Σx² under each window: (N, C, H, W) → (N, C, H', W'), and in 1 and 3 dimensions.

    The norm has no derivative where the whole window is 0; there the gradient is 0, not NaN.

    Source: Sermanet et al., Convolutional neural networks applied to house numbers digit classification
    (2012), section 2.1, with equal weights and p = 2.
    """

    def __init__(self, size: Size, stride: Size | None = None, padding: Size | None = None, ceil: bool = False) -> None:
        super().__init__()
        self.windows = sliding(size, stride, padding, ceil)

    def forward(self, x: Tensor) -> Tensor:
        squares = _window_sum(x * x, self.windows)
        positive = squares > 0
        # √0 has an infinite slope, and ∞ · 0 is NaN: take the root of something else where the sum is 0.
        return torch.where(positive, squares, torch.ones_like(squares)).sqrt() * positive


@final
class MedianPool(nn.Module):
    """The median under each window: (N, C, H, W) → (N, C, H', W'), and in 1 and 3 dimensions.

    Where the window holds an even number of pixels it is the mean of the middle two.
    """

    def __init__(self, size: Size, stride: Size | None = None, padding: Size | None = None, ceil: bool = False) -> None:
        super().__init__()
        self.windows = sliding(size, stride, padding, ceil)

    def forward(self, x: Tensor) -> Tensor:
        ranked = _patches(x, self.windows, torch.inf).sort(dim=-1).values  # what is absent comes last
        present = _patches(torch.ones_like(x[:1, :1]), self.windows, 0).sum(-1, keepdim=True).long()
        present = present.expand(*ranked.shape[:-1], 1)
        lower, upper = ranked.gather(-1, (present - 1) // 2), ranked.gather(-1, present // 2)
        return (0.5 * lower + 0.5 * upper).squeeze(-1)


@final
class GlobalAveragePool(nn.Module):
    """The mean of each map: (N, C, …) → (N, C).

    Source: Lin et al., Network in network (2013), section 3.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(start_dim=2).mean(dim=2)


@final
class GlobalMaxPool(nn.Module):
    """The largest value of each map: (N, C, …) → (N, C); equal largest values share the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(start_dim=2).amax(dim=2)
