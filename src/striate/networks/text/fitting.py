"""Whether one layer fits the shape that arrives, and the shape that it leaves: numbers only, no memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from striate.networks.layers import KERNELS
from striate.networks.shapes import Shape, Window, same_padding, slide, windows
from striate.networks.text.mistakes import Misfit, Span
from striate.networks.text.tree import (
    AdaptivePool,
    Convolution,
    Fixed,
    Flatten,
    FullyConnected,
    GlobalPool,
    Layer,
    Pool,
    Size,
    Suffix,
    Suffixes,
)

MOST_WEIGHTS = 2**40
"""Weights of one layer: beyond any machine, and far below where 64-bit sizes overflow."""

_WIDEST_BLUR = 63  # its binomial coefficients are computed one by one


def convolution_windows(layer: Convolution, sizes: Sequence[int]) -> tuple[Window, ...]:
    """The windows of a convolution over an input of these sizes."""
    axes = zip(layer.kernel, layer.stride, layer.dilation, strict=True)
    bare = [Window(kernel, stride, dilation=dilation) for kernel, stride, dilation in axes]
    if layer.padding == "same":
        pads = [same_padding(size, w.extent, w.stride) for w, size in zip(bare, sizes, strict=True)]
    else:
        pads = [(padding, padding) for padding in layer.padding]
    return tuple(replace(w, before=before, after=after) for w, (before, after) in zip(bare, pads, strict=True))


def pool_windows(layer: Pool, axes: int) -> tuple[Window, ...]:
    """The windows of a pool over an input of so many axes."""
    size = spread(layer.size, axes)
    stride = spread(layer.stride or layer.size, axes)
    return windows(size, stride, spread(layer.padding or (0,), axes), ceil=layer.ceil)


def spread(size: Size, axes: int) -> Size:
    """``size`` with one number per axis."""
    return size * axes if len(size) == 1 else size


def convolution_shape(layer: Convolution, shape: Shape) -> Shape:
    """(C, …) → (filters, …)."""
    channels, *sizes = _maps(layer, shape, len(layer.kernel))
    groups = channels if layer.groups == "depthwise" else layer.groups
    _check_groups(layer, groups, channels)
    check_weights(layer.filters * (channels // groups) * math.prod(layer.kernel), layer.place.of("kernel"))
    over = convolution_windows(layer, sizes)
    _check_room(layer, over, sizes)
    _check_padmode(layer, over, sizes)
    return (layer.filters, *slide(over, sizes))


def pool_shape(layer: Pool, shape: Shape) -> Shape:
    """(C, …) → (C, …)."""
    written = {len(size) for size in (layer.size, layer.stride, layer.padding) if size is not None} - {1}
    for axes in written or {0}:
        _maps(layer, shape, axes)
    channels, *sizes = shape
    over = pool_windows(layer, len(sizes))
    for window in over:
        if window.before > window.kernel // 2:
            sentence = f"the padding must be at most half of the window of {window.kernel}, not {window.before}."
            raise Misfit(layer.place.of("pad"), sentence, f'Try "pad {window.kernel // 2}".')
        if layer.kind == "blurpool" and window.kernel > _WIDEST_BLUR:
            raise Misfit(layer.place.of("size"), f"a blur must be at most {_WIDEST_BLUR} wide.", 'Try "3".')
    _check_room(layer, over, sizes)
    return (channels, *slide(over, sizes))


def plain_shape(layer: Flatten | Fixed | GlobalPool | AdaptivePool, shape: Shape) -> Shape:
    """The layers without weights or windows."""
    match layer:
        case Flatten():
            return (math.prod(shape),)
        case Fixed():
            channels, *sizes = _maps(layer, shape, 2)
            return (channels * len(KERNELS[layer.kernel]), *sizes)
        case GlobalPool():
            return _maps(layer, shape, 0)[:1]
        case AdaptivePool():
            channels, *sizes = _maps(layer, shape, len(layer.size) if len(layer.size) > 1 else 0)
            return (channels, *spread(layer.size, len(sizes)))


def fully_connected_shape(layer: FullyConnected, shape: Shape) -> Shape:
    """Anything → (features,)."""
    check_weights(math.prod(shape) * layer.features, layer.place.of("features"))
    return (layer.features,)


def suffixes_shape(suffixes: Suffixes, shape: Shape) -> Shape:
    """The shape behind all suffixes."""
    for suffix in suffixes:
        shape = suffix_shape(suffix, shape)
    return shape


def suffix_shape(suffix: Suffix, shape: Shape) -> Shape:
    """The shape behind a suffix: only maxout changes it."""
    if suffix.name == "lrn" and len(shape) == 1:
        raise Misfit(suffix.place.whole, '"lrn" must follow maps, not flat features.', 'Try "bn".')
    if suffix.name != "maxout":
        return shape
    channels, pieces = shape[0], int(suffix.value or 1)
    if channels % pieces:
        sentence = f"maxout {pieces} must divide the {channels} channels or features before it."
        divisor = max(n for n in range(1, min(pieces, channels, 1000) + 1) if channels % n == 0)
        raise Misfit(suffix.place.whole, sentence, f'Try "maxout {divisor}".')
    return (channels // pieces, *shape[1:])


def check_weights(count: int, span: Span) -> None:
    """Refuse a layer that no machine could hold."""
    if count > MOST_WEIGHTS:
        sentence = f"a layer must have at most {MOST_WEIGHTS:,} weights, and this has {count:,}."
        raise Misfit(span, sentence, "Use fewer or smaller filters, or pool before it.")


def _maps(layer: Layer, shape: Shape, wanted: int) -> Shape:
    """``shape``, which must be maps with ``wanted`` axes (0: any number)."""
    found = len(shape) - 1
    if found == 0:
        sentence = f"this layer must follow maps, not {shape[0]} flat features."
        raise Misfit(layer.place.whole, sentence, 'Move it before the first "flatten", "gap" or "fc".')
    if wanted not in (0, found):
        sentence = f"this layer slides over {_axes(wanted)}, and what arrives has {_axes(found)}: {times(shape)}."
        conv = {1: "conv1d", 2: "conv", 3: "conv3d"}[found]
        fix = f'Try "{conv}".' if isinstance(layer, Convolution) else f"It must have {_axes(found)}."
        raise Misfit(layer.place.whole, sentence, fix)
    return shape


def _check_groups(layer: Convolution, groups: int, channels: int) -> None:
    for count, what in ((channels, "input channels"), (layer.filters, "filters")):
        if count % groups:
            fitting = [n for n in range(1, 65) if channels % n == 0 and layer.filters % n == 0]
            fix = f'Try "groups {min(fitting, key=lambda n: abs(n - groups))}".'
            if layer.groups == "depthwise":
                fix = f"Try {max(1, round(count / groups)) * groups} filters."
            raise Misfit(layer.place.of("groups"), f"{groups} groups must divide the {count} {what}.", fix)


def _check_room(layer: Convolution | Pool, over: Sequence[Window], sizes: Sequence[int]) -> None:
    """Every window must fit into its input."""
    if all(slide(over, sizes)):
        return
    noun = "filter" if isinstance(layer, Convolution) else "window"
    padded = [w.before + size + w.after for w, size in zip(over, sizes, strict=True)]
    including = f" ({times(padded)} with its padding)" if padded != list(sizes) else ""
    extent = times([w.extent for w in over])
    sentence = f"a {extent} {noun} must fit into its input, which is {times(sizes)}{including}."
    largest = "x".join(str(min(w.extent, size)) for w, size in zip(over, padded, strict=True))
    fix = f'Try a {noun} of "{largest}" at most, or fewer strides and pools before it.'
    raise Misfit(layer.place.of("kernel", "size"), sentence, fix)


def _check_padmode(layer: Convolution, over: Sequence[Window], sizes: Sequence[int]) -> None:
    """Mirroring and wrapping can only repeat pixels that there are."""
    spare = {"mirror": 1, "wrap": 0}.get(layer.padmode)
    if spare is None:
        return
    for window, size in zip(over, sizes, strict=True):
        width, most = max(window.before, window.after), size - spare
        if width > most:
            sentence = f'"{layer.padmode}" can pad {size} pixels by at most {most}, not by {width}.'
            raise Misfit(layer.place.of("pad"), sentence, 'Try "padmode nearest", or less padding.')


def _axes(count: int) -> str:
    return "1 axis" if count == 1 else f"{count} axes"


def times(sizes: Sequence[int]) -> str:
    """3×32×32."""
    return "×".join(map(str, sizes))
