"""What one unit of a layer looks at: the window upon the layer's input, and what is done with the values under it.

Along each axis the window's taps lie at s·i − p + d·k, k = 0, 1, … (stride s, padding p, dilation d, position i:
Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016). Beyond the input stand zeros, nothing,
or what the padding mode repeats. A new kind of layer is one more function registered with `view`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from striate.networks.layers import BlurPool, FixedConv, GlobalAveragePool, GlobalMaxPool, L2Pool, MedianPool, SumPool
from striate.networks.shapes import Shape, Window, windows
from striate.networks.zoo.bninception import HalvingPool
from striate.networks.zoo.lenet import Subsampling, TableConvolution

Rule = Literal["sum", "largest", "norm", "median"]


def has_view(layer: nn.Module) -> bool:
    """Return whether `view` knows this kind of layer."""
    return view.dispatch(type(layer)) is not view.dispatch(object)


@final
@dataclass(frozen=True, eq=False)
class View:
    """What a unit looks at, and how it comes by a number.

    Args:
        kind: the layer in words.
        channels: which of the input's channels it sees; or of its features.
        taps: along each further axis, the index under each tap of the window; −1 where there is nothing.
        weights: one for each tap, (C, …).
    """

    kind: str
    rule: Rule
    channels: Tensor
    taps: tuple[Tensor, ...]
    weights: Tensor | None = None
    bias: float = 0.0


def patch_under(taken: Tensor, seen: View) -> tuple[Tensor, Tensor]:
    """Return the values under the taps, (C, …) float64 with 0 where there is nothing, and whether there is a value."""
    patch = taken.cpu().double().index_select(0, seen.channels)
    present = torch.ones((), dtype=torch.bool)
    for axis, taps in enumerate(seen.taps, start=1):
        patch = patch.index_select(axis, taps.clamp(min=0))
        present = present.unsqueeze(-1) & (taps >= 0)
    present = present.expand(patch.shape)
    return patch.masked_fill(~present, 0.0), present


def reach_of(seen: View) -> tuple[tuple[int, int], ...]:
    """Return the first and the last index that is seen, along each axis of the layer's input."""
    axes = [seen.channels, *(taps[taps >= 0] for taps in seen.taps)]
    return tuple((int(one.min()), int(one.max())) if len(one) else (0, -1) for one in axes)


def _taps(window: Window, position: int, size: int, mode: str = "zeros") -> Tensor:
    """Return the index under each tap of a window along one axis, as a padding mode of PyTorch has it; −1 if none."""
    index = position * window.stride - window.before + window.dilation * torch.arange(window.kernel)
    match mode:
        case "reflect":
            index = index.abs()
            return torch.where(index >= size, 2 * (size - 1) - index, index)
        case "replicate":
            return index.clamp(0, size - 1)
        case "circular":
            return index.remainder(size)
    return torch.where((index >= 0) & (index < size), index, -1)


def _under(over: Sequence[Window], unit: Shape, taken: Shape, mode: str = "zeros") -> tuple[Tensor, ...]:
    places = zip(over, unit[1:], taken[1:], strict=True)
    return tuple(_taps(window, position, size, mode) for window, position, size in places)


@singledispatch
def view(layer: nn.Module, unit: Shape, taken: Shape, given: Shape) -> View:
    """Return what a unit of a layer looks at; ``taken`` and ``given`` are the shapes of its input and output."""
    raise NotImplementedError


@view.register(nn.Conv1d)
@view.register(nn.Conv2d)
@view.register(nn.Conv3d)
def _(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, unit: Shape, taken: Shape, given: Shape) -> View:
    extents = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    if isinstance(layer.padding, str):  # PyTorch puts the odd pixel of "same" after
        before = [extent // 2 if layer.padding == "same" else 0 for extent in extents]
    else:
        before = [int(one) for one in layer.padding]
    axes = zip(layer.kernel_size, layer.stride, before, layer.dilation, strict=True)
    over = [Window(k, s, before=p, dilation=d) for k, s, p, d in axes]
    depth = layer.in_channels // layer.groups
    first = unit[0] // (layer.out_channels // layer.groups) * depth
    kind = f"convolution {by(layer.kernel_size)}{_details(over)}"
    kind += f", {layer.groups} groups" if layer.groups > 1 else ""
    bias = 0.0 if layer.bias is None else float(layer.bias[unit[0]])
    taps = _under(over, unit, taken, layer.padding_mode)
    return View(kind, "sum", torch.arange(first, first + depth), taps, layer.weight[unit[0]], bias)


@view.register
def _(layer: FixedConv, unit: Shape, taken: Shape, given: Shape) -> View:
    weights = layer.weight[unit[0]]  # (1, K, K)
    size = int(weights.shape[-1])
    over = windows((size, size), (1, 1), (size // 2, size // 2))
    channel = unit[0] * layer.channels // len(layer.weight)
    taps = _under(over, unit, taken, "replicate")
    return View(f"fixed kernel {layer.name}", "sum", torch.tensor([channel]), taps, weights)


@view.register
def _(layer: TableConvolution, unit: Shape, taken: Shape, given: Shape) -> View:
    mine = (layer.pairs[0] == unit[0]).cpu()
    size = int(layer.weight.shape[-1])
    taps = _under(windows((size, size), (1, 1), (0, 0)), unit, taken)
    kind = f"convolution {size}×{size} of some maps"
    return View(kind, "sum", layer.pairs[1].cpu()[mine], taps, layer.weight[mine], float(layer.bias[unit[0]]))


@view.register
def _(layer: nn.Linear, unit: Shape, taken: Shape, given: Shape) -> View:
    bias = 0.0 if layer.bias is None else float(layer.bias[unit[-1]])
    if len(taken) == 1:
        return View("fully connected", "sum", torch.arange(taken[0]), (), layer.weight[unit[-1]], bias)
    here = [torch.tensor([place]) for place in unit[:-1]]  # of a sequence, or of maps with the channels last
    weights = layer.weight[unit[-1]].reshape(*[1] * len(here), -1)
    return View("fully connected", "sum", here[0], (*here[1:], torch.arange(taken[-1])), weights, bias)


@view.register(nn.AvgPool1d)
@view.register(nn.AvgPool2d)
@view.register(nn.AvgPool3d)
def _(layer: nn.AvgPool2d, unit: Shape, taken: Shape, given: Shape) -> View:
    over = _pool_windows(layer, len(taken) - 1)
    taps = _under(over, unit, taken)
    ends = [
        min(position * window.stride + window.kernel, size + 2 * window.before) - position * window.stride
        for window, position, size in zip(over, unit[1:], taken[1:], strict=True)
    ]  # zeros of the padding count, what hangs over beyond them does not
    counts = ends if layer.count_include_pad else [int((one >= 0).sum()) for one in taps]
    divisor = getattr(layer, "divisor_override", None) or math.prod(counts)
    weights = torch.full((1, *map(len, taps)), 1 / divisor, dtype=torch.float64)
    return View(f"average pooling {_kernels(over)}", "sum", torch.tensor(unit[:1]), taps, weights)


@view.register(nn.MaxPool1d)
@view.register(nn.MaxPool2d)
@view.register(nn.MaxPool3d)
def _(layer: nn.MaxPool2d, unit: Shape, taken: Shape, given: Shape) -> View:
    over = _pool_windows(layer, len(taken) - 1)
    return View(f"max pooling {_kernels(over)}", "largest", torch.tensor(unit[:1]), _under(over, unit, taken))


@view.register
def _(layer: HalvingPool, unit: Shape, taken: Shape, given: Shape) -> View:
    over = windows((3, 3), (2, 2), (taken[1] % 2, taken[2] % 2), ceil=True)
    return View(f"max pooling {_kernels(over)}", "largest", torch.tensor(unit[:1]), _under(over, unit, taken))


@view.register(nn.AdaptiveAvgPool1d)
@view.register(nn.AdaptiveAvgPool2d)
@view.register(nn.AdaptiveAvgPool3d)
@view.register(nn.AdaptiveMaxPool1d)
@view.register(nn.AdaptiveMaxPool2d)
@view.register(nn.AdaptiveMaxPool3d)
def _(layer: nn.Module, unit: Shape, taken: Shape, given: Shape) -> View:
    places = zip(unit[1:], taken[1:], given[1:], strict=True)
    taps = tuple(torch.arange(i * size // parts, -(-(i + 1) * size // parts)) for i, size, parts in places)
    average = isinstance(layer, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d)
    return _whole(f"adaptive {'average' if average else 'max'} pooling", average, unit, taps)


@view.register(GlobalAveragePool)
@view.register(GlobalMaxPool)
def _(layer: nn.Module, unit: Shape, taken: Shape, given: Shape) -> View:
    average = isinstance(layer, GlobalAveragePool)
    kind = f"global {'average' if average else 'max'} pooling"
    return _whole(kind, average, unit, tuple(torch.arange(size) for size in taken[1:]))


def _whole(kind: str, average: bool, unit: Shape, taps: tuple[Tensor, ...]) -> View:
    sizes = tuple(map(len, taps))
    weights = torch.full((1, *sizes), 1 / math.prod(sizes), dtype=torch.float64) if average else None
    kind = f"{kind} of {by(sizes)}"
    return View(kind, "sum" if average else "largest", torch.tensor(unit[:1]), taps, weights)


@view.register
def _(layer: SumPool, unit: Shape, taken: Shape, given: Shape) -> View:
    taps = _under(layer.windows, unit, taken)
    weights = torch.ones(1, *map(len, taps), dtype=torch.float64)
    return View(f"sum pooling {_kernels(layer.windows)}", "sum", torch.tensor(unit[:1]), taps, weights)


@view.register(L2Pool)
@view.register(MedianPool)
def _(layer: L2Pool | MedianPool, unit: Shape, taken: Shape, given: Shape) -> View:
    word, rule = ("L2", "norm") if isinstance(layer, L2Pool) else ("median", "median")
    kind = f"{word} pooling {_kernels(layer.windows)}"
    taps = _under(layer.windows, unit, taken)
    return View(kind, rule, torch.tensor(unit[:1]), taps)  # type: ignore[arg-type]


@view.register
def _(layer: BlurPool, unit: Shape, taken: Shape, given: Shape) -> View:
    taps = _under(layer.windows, unit, taken)
    weights = layer.weight[0].detach().cpu().double()  # (1, *size)
    for axis, one in enumerate(taps, start=1):
        there = (one >= 0).double()
        weights = weights * there.reshape([-1 if axis == other else 1 for other in range(weights.ndim)])
    kind = f"blur pooling {_kernels(layer.windows)}"
    return View(kind, "sum", torch.tensor(unit[:1]), taps, weights / weights.sum())


@view.register
def _(layer: Subsampling, unit: Shape, taken: Shape, given: Shape) -> View:
    taps = _under(windows((2, 2), (2, 2), (0, 0)), unit, taken)
    weights = layer.coefficient[unit[0]].expand(1, 2, 2)
    return View("trainable subsampling 2×2", "sum", torch.tensor(unit[:1]), taps, weights, float(layer.bias[unit[0]]))


def _pool_windows(layer: Any, axes: int) -> tuple[Window, ...]:
    """Return the windows of one of PyTorch's pools, whose numbers stand for all axes or for one each."""
    numbers = (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
    spread = [(one,) * axes if isinstance(one, int) else tuple(one) for one in numbers]
    kernels = zip(*spread, strict=True)
    return tuple(Window(k, s, before=p, after=p, dilation=d, ceil=layer.ceil_mode) for k, s, p, d in kernels)


def _kernels(over: Sequence[Window]) -> str:
    return by([window.kernel for window in over]) + _details(over)


def _details(over: Sequence[Window]) -> str:
    strides, dilations = [window.stride for window in over], [window.dilation for window in over]
    said = f", stride {by(strides)}" if max(strides) > 1 else ""
    return said + (f", dilation {by(dilations)}" if max(dilations) > 1 else "")


def by(sizes: Sequence[int]) -> str:
    """Return sizes in words, such as 3×3."""
    return "×".join(map(str, sizes))
