"""A convolution written out as the one matrix that it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolution_matrix(conv: nn.Conv2d, height: int, width: int) -> Tensor:
    """Return the dense matrix M of a convolution over C × height × width pixels.

    For one picture x: (C, H, W), ``conv(x).flatten()`` equals ``M @ x.flatten()`` plus each filter's bias at
    each of its positions, ``conv.bias.repeat_interleave(H' * W')``. Every row holds one filter at one
    position, zero where the filter does not look: weight sharing and locality can be seen.

    Args:
        conv: any stride, padding, padding mode, dilation and groups.
        height, width: of the input, in pixels.

    Returns:
        M: (filters · H' · W', C · height · width), in the type of the weights, detached from them.

    Source: Dumoulin & Visin, A guide to convolution arithmetic for deep learning (2016), section 4.1.
    """
    weight = conv.weight.detach()
    filters, depth, *kernel = weight.shape
    pixels = conv.in_channels * height * width
    sources = _source_pixels(conv, height, width)  # (groups, depth · Kh · Kw, positions)
    positions = sources.shape[-1]
    matrix = weight.new_zeros(filters, positions, pixels + 1)  # the last column collects what is padded with 0
    for number in range(filters):
        group = number // (filters // conv.groups)
        taps = weight[number].reshape(depth * kernel[0] * kernel[1], 1).expand(-1, positions)
        matrix[number].scatter_add_(1, sources[group].T, taps.T)
    return matrix[..., :pixels].reshape(filters * positions, pixels)


def _source_pixels(conv: nn.Conv2d, height: int, width: int) -> Tensor:
    """Which input pixel lies under each tap at each position; one past the last where it is a padded zero."""
    pixels = conv.in_channels * height * width
    device = conv.weight.device
    numbers = torch.arange(1, pixels + 1, dtype=torch.float64, device=device)  # 0 is left for padding
    picture = numbers.view(1, conv.in_channels, height, width)
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    picture = F.pad(picture, _pad_widths(conv), mode)
    taps = F.unfold(picture, _pair(conv.kernel_size), _pair(conv.dilation), 0, _pair(conv.stride))
    sources = (taps.long() - 1) % (pixels + 1)  # (1, C · Kh · Kw, positions): 0 becomes ``pixels``
    return sources.view(conv.groups, -1, sources.shape[-1])


def _pad_widths(conv: nn.Conv2d) -> list[int]:
    """Left, right, top, bottom, as ``F.pad`` takes them."""
    if conv.padding == "valid":
        return [0, 0, 0, 0]
    if conv.padding == "same":
        totals = [d * (k - 1) for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    else:
        totals = [2 * int(padding) for padding in conv.padding]
    (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    return [left, right, top, bottom]


def _pair(numbers: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = numbers
    return rows, columns
