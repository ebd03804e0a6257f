"""From one planned layer to its PyTorch modules."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from striate.networks.layers import (
    BlurPool,
    FixedConv,
    GlobalAveragePool,
    GlobalMaxPool,
    L2Pool,
    Maxout,
    MedianPool,
    SamePad,
    ScaledTanh,
    SumPool,
    local_response_norm,
)
from striate.networks.layers.padding import PaddingMode
from striate.networks.shapes import Shape
from striate.networks.text.fitting import convolution_windows, pool_windows, spread
from striate.networks.text.tree import (
    AdaptivePool,
    Convolution,
    Fixed,
    Flatten,
    GlobalPool,
    PadMode,
    Pool,
    Suffix,
)

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d

CONV: dict[int, Callable[..., Conv]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_CONSTANT_PAD: dict[int, Callable[..., nn.Module]] = {
    1: nn.ConstantPad1d,
    2: nn.ConstantPad2d,
    3: nn.ConstantPad3d,
}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
_MAX: dict[int, Callable[..., nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE: dict[int, Callable[..., nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_OWN_POOLS: dict[str, Callable[..., nn.Module]] = {
    "sumpool": SumPool,
    "l2pool": L2Pool,
    "medianpool": MedianPool,
    "blurpool": BlurPool,
}
_ADAPTIVE_AVERAGE: dict[int, Callable[..., nn.Module]] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}
_ADAPTIVE_MAX: dict[int, Callable[..., nn.Module]] = {
    1: nn.AdaptiveMaxPool1d,
    2: nn.AdaptiveMaxPool2d,
    3: nn.AdaptiveMaxPool3d,
}

_PAD_MODES: dict[PadMode, PaddingMode] = {
    "zeros": "constant",
    "mirror": "reflect",
    "nearest": "replicate",
    "wrap": "circular",
    "constant": "constant",
}

_PLAIN: dict[str, Callable[[], nn.Module]] = {
    "lrn": local_response_norm,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "scaledtanh": ScaledTanh,
    "softplus": nn.Softplus,
}


def convolution(layer: Convolution, shape: Shape) -> dict[str, nn.Module]:
    """``conv``, and ``pad`` before it where PyTorch's convolution cannot pad so by itself."""
    channels, *sizes = shape
    axes = len(sizes)
    modules: dict[str, nn.Module] = {}
    padding = tuple(window.before for window in convolution_windows(layer, sizes))
    mode = _PAD_MODES[layer.padmode]
    if layer.padding == "same" and not _symmetric_for_any_size(layer):
        modules["pad"] = SamePad(layer.kernel, layer.stride, layer.dilation, mode, layer.padvalue)
        padding = (0,) * axes
    elif layer.padmode == "constant" and any(padding):
        widths = tuple(width for axis in reversed(padding) for width in (axis, axis))  # the last axis first
        modules["pad"] = _CONSTANT_PAD[axes](widths, layer.padvalue)
        padding = (0,) * axes
    modules["conv"] = CONV[axes](
        channels,
        layer.filters,
        layer.kernel,
        layer.stride,
        padding,
        layer.dilation,
        channels if layer.groups == "depthwise" else layer.groups,
        layer.bias,
        "zeros" if mode == "constant" else mode,
    )
    return modules


def _symmetric_for_any_size(layer: Convolution) -> bool:
    """Whether "same" means (K_eff − 1) / 2 on both sides, whatever comes in: odd windows moved by 1."""
    extents = (d * (k - 1) + 1 for k, d in zip(layer.kernel, layer.dilation, strict=True))
    return set(layer.stride) == {1} and all(extent % 2 for extent in extents)


def pool(layer: Pool, shape: Shape) -> nn.Module:
    """A sliding pool; an average counts padded zeros, as PyTorch's does."""
    axes = len(shape) - 1
    over = pool_windows(layer, axes)
    size, stride, padding = (tuple(getattr(w, name) for w in over) for name in ("kernel", "stride", "before"))
    if layer.kind == "maxpool":
        return _MAX[axes](size, stride, padding, ceil_mode=layer.ceil)
    if layer.kind == "avgpool":
        return _AVERAGE[axes](size, stride, padding, ceil_mode=layer.ceil)
    return _OWN_POOLS[layer.kind](size, stride, padding, layer.ceil)


def plain(layer: Flatten | Fixed | GlobalPool | AdaptivePool, shape: Shape) -> nn.Module:
    """A layer without weights or windows."""
    match layer:
        case Flatten():
            return nn.Flatten()
        case Fixed(kernel=kernel):
            return FixedConv(kernel, shape[0])
        case GlobalPool(kind=kind):
            return GlobalAveragePool() if kind == "gap" else GlobalMaxPool()
        case AdaptivePool(kind=kind, size=size):
            axes = len(shape) - 1
            pools = _ADAPTIVE_AVERAGE if kind == "avg" else _ADAPTIVE_MAX
            return pools[axes](spread(size, axes))


def suffix(node: Suffix, shape: Shape) -> nn.Module:
    """Normalisation, dropout or activation over input of this shape."""
    if node.name in _PLAIN:
        return _PLAIN[node.name]()
    value = node.value
    match node.name:
        case "bn":
            return _BATCH_NORM[len(shape)](shape[0])
        case "dropout":
            return nn.Dropout(value or 0.0)
        case "leaky":
            return nn.LeakyReLU() if value is None else nn.LeakyReLU(value)
        case "prelu":
            return nn.PReLU(shape[0])  # one slope per channel, as in the paper
        case "maxout":
            return Maxout(int(value or 1))
        case _:
            return nn.Softmax(dim=1)
