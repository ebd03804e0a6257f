"""Blur pooling: a low-pass filter before subsampling, so that a shift by one pixel changes little."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.networks.layers.pooling import Size, pad_for, sliding

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@final
class BlurPool(nn.Module):
    """A binomial blur sampled every ``stride`` pixels: (N, C, H, W) → (N, C, H', W'), and in 1 and 3-D.

    The filter is the outer product of binomial coefficients: ``size`` 2 is a box, 3 is [1 2 1] / 4, 5 is
    [1 4 6 4 1] / 16. The paper's usual choice is ``size`` 3, ``stride`` 2, ``padding`` 1. Max-blur pooling is
    a max pool of stride 1 followed by this.

    The paper pads by reflection. Here what lies outside is absent and the remaining weights are scaled to sum
    to 1, so that brightness is kept at the border and ``padding`` and ``ceil`` mean the same.

    Source: Zhang, Making convolutional networks shift-invariant again (2019), section 3.2.
    """

    weight: Tensor

    def __init__(self, size: Size, stride: Size | None = None, padding: Size | None = None, ceil: bool = False) -> None:
        super().__init__()
        self.windows = sliding(size, stride, padding, ceil)
        self.register_buffer("weight", _binomial(size))  # (1, 1, *size)

    def forward(self, x: Tensor) -> Tensor:
        maps = x.flatten(0, 1).unsqueeze(1)  # (N·C, 1, …): one filter serves all channels
        blurred = self._convolve(maps)
        if any(window.before or window.overhang(size) for window, size in zip(self.windows, x.shape[2:], strict=True)):
            blurred = blurred / self._convolve(torch.ones_like(maps[:1]))
        return blurred.view(*x.shape[:2], *blurred.shape[2:])

    def _convolve(self, maps: Tensor) -> Tensor:
        stride = tuple(window.stride for window in self.windows)
        return _CONVOLVE[len(stride)](pad_for(maps, self.windows, 0), self.weight.to(maps.dtype), stride=stride)


def _binomial(size: Size) -> Tensor:
    """The blur filter, (1, 1, *size), summing to 1."""
    weight = torch.ones(1, 1)
    for length in size:
        row = [math.comb(length - 1, tap) / 2 ** (length - 1) for tap in range(length)]
        weight = weight.unsqueeze(-1) * torch.tensor(row)
    return weight
