"""Convolutions of maps of a few pixels, such as a ResNet's last ones at 64×64, as one matrix product.

Where a filter is as large as its map, a general kernel spends most of its time on zeros around the map and on turning
the weights into a layout of its own. Written out, every pixel of the output is a weighted sum of every pixel of the
input: one product, forward and backward. What is computed is the same, up to rounding.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard, final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Measured on two cores of an AMD EPYC with filters of 3×3 and 5×5, batches of 16 to 256, in bf16 and fp32: from here on
# it is never slower, and up to 6 times as fast with 512 filters of 3×3, 20 times with those of 5×5.
_LEAST_PAIRS = 8_192  # of input and output channels
_MOST_MEMORY = 2  # of the weights written out, as a multiple of the filters'

_candidates: WeakKeyDictionary[nn.Module, list[nn.Conv2d]] = WeakKeyDictionary()


@contextlib.contextmanager
def written_out(network: nn.Module) -> Iterator[None]:
    """Compute the convolutions of small maps within a network as matrix products for a while, and their gradients."""
    if network not in _candidates:
        _candidates[network] = [layer for layer in network.modules() if layer is not network and _is_plain(layer)]
    layers = [layer for layer in _candidates[network] if "forward" not in vars(layer)]
    try:
        for layer in layers:
            vars(layer)["forward"] = functools.partial(_convolve, layer)  # before that of its class
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _is_plain(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether it is a convolution as PyTorch has it, with enough channels."""
    return type(layer) is nn.Conv2d and layer.in_channels * layer.out_channels >= _LEAST_PAIRS


def _convolve(layer: nn.Conv2d, input: Tensor) -> Tensor:
    """Return what the layer does: of pictures (N, I, H, W) whose maps are small, by a product."""
    if not _is_small(layer, input):
        return nn.Conv2d.forward(layer, input)
    if torch.is_autocast_enabled("cpu"):
        input = input.to(torch.get_autocast_dtype("cpu"))
    maps: Tensor = _Product.apply(input, layer.weight, layer.stride, layer.padding)  # type: ignore[no-untyped-call]
    if layer.bias is not None:
        maps = maps + layer.bias.to(maps.dtype).view(1, -1, 1, 1)
    return maps.contiguous() if input.is_contiguous() and layer.weight.is_contiguous() else maps


def _is_small(layer: nn.Conv2d, images: Tensor) -> bool:
    """Return whether the layer would be busy with zeros around small maps, and nothing but a convolution is asked."""
    return (
        images.dim() == 4
        and len(images) > 0
        and images.shape[1] == layer.in_channels
        and (images.dtype == layer.weight.dtype or torch.is_autocast_enabled("cpu"))
        and layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and any(layer.padding)
        and _all_see_all(images.shape[2:], layer.kernel_size, layer.stride, layer.padding)
        # What a network recomputes on the way back, to save memory, is recomputed outside of the context.
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )


def _all_see_all(sides: Sequence[int], kernel: Sequence[int], strides: Sequence[int], zeros: Sequence[int]) -> bool:
    """Return whether each pixel of the output sees all of the map, and writing that out does not take much memory."""
    blocks, taps = 1, 1
    for side, reach, stride, before in zip(sides, kernel, strides, zeros, strict=True):
        out = _output_side(side, reach, stride, before)
        if out < 1 or before + side > reach or stride * (out - 1) > before:
            return False
        blocks, taps = blocks * out * side, taps * reach
    return taps > 1 and blocks <= _MOST_MEMORY * taps


def _output_side(side: int, reach: int, stride: int, before: int) -> int:
    return (side + 2 * before - reach) // stride + 1


@final
class _Product(torch.autograd.Function):
    """y = x Dᵀ, x the pictures as rows (N, H·W·I), D (H'·W'·O, H·W·I) the weights between every two pixels."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, strides: tuple[int, int], zeros: tuple[int, int]) -> Tensor:
        count, channels, *sides = images.shape
        outputs = [_output_side(*of) for of in zip(sides, weight.shape[2:], strides, zeros, strict=True)]
        rows = images.permute(0, 2, 3, 1).reshape(count, -1)
        taps = weight.permute(0, 2, 3, 1)  # (O, kH, kW, I), as channels-last weights lie in memory
        dense = images.new_empty(*outputs, len(weight), *sides, channels)
        ctx.seen = [*_seen(outputs, sides, strides, zeros)]
        for p, q, window in ctx.seen:
            dense[p, q] = taps[window]
        ctx.save_for_backward(rows, dense)
        ctx.taps = taps.shape, weight.dtype
        return (rows @ _matrix(dense).T).view(count, *outputs, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients of images and weight."""
        rows, dense = ctx.saved_tensors
        own = gradient.permute(0, 2, 3, 1).reshape(len(gradient), -1)
        of_images = of_weight = None
        if ctx.needs_input_grad[0]:
            of_images = (own @ _matrix(dense)).view(len(gradient), *dense.shape[3:]).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            of_dense = (own.T @ rows).view(dense.shape)
            shape, dtype = ctx.taps
            taps = gradient.new_zeros(shape, dtype=dtype)
            for p, q, window in ctx.seen:
                taps[window] += of_dense[p, q]
            of_weight = taps.permute(0, 3, 1, 2)
        return of_images, of_weight, None, None


def _matrix(dense: Tensor) -> Tensor:
    """Return (H', W', O, H, W, I) as (H'·W'·O, H·W·I)."""
    return dense.flatten(3).flatten(0, 2)


def _seen(
    outputs: Sequence[int], sides: Sequence[int], strides: Sequence[int], zeros: Sequence[int]
) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
    """Yield each pixel of the output with the taps, of (O, kH, kW, I), through which it sees the pixels of the map.

    Pixel p of the output sees pixel r of the input through tap r − stride · p + padding.
    """
    for p in range(outputs[0]):
        for q in range(outputs[1]):
            top, left = zeros[0] - strides[0] * p, zeros[1] - strides[1] * q
            yield p, q, (slice(None), slice(top, top + sides[0]), slice(left, left + sides[1]))
