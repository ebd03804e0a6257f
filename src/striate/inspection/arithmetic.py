"""The arithmetic behind one number: how a unit comes by its value, and how one training step changes one weight.

A unit of a convolution or of a fully connected layer is Σ w·x + b over the patch x that it sees, which is also
|w||x|cos θ + b: how long the patch is, times how well it points the way of the weights. A pool takes the mean, the sum,
the largest, the median or the Euclidean norm of its window. Everything is computed anew from the layer's input, in
float64, so that it can be compared with what the network itself returned.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, singledispatch
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.core.errors import DataError, NetworkError, suggest
from striate.drawing.colours import Scale
from striate.drawing.curves import Curve, Plane, draw_curves
from striate.drawing.grid import ROOM, WIDEST, Group, Sheet, Tile, draw_grid
from striate.drawing.svg import Drawing
from striate.inspection.record import LISTED, modules_named
from striate.inspection.subject import Pictures, Subject, class_number, subject_of
from striate.networks import contract
from striate.networks.graph import Graph, Node
from striate.networks.layers import BlurPool, FixedConv, GlobalAveragePool, GlobalMaxPool, L2Pool, MedianPool, SumPool
from striate.networks.shapes import Shape, Window, windows
from striate.networks.zoo.bninception import HalvingPool
from striate.networks.zoo.lenet import Subsampling, TableConvolution
from striate.prediction.predictor import Classifier

Rule = Literal["sum", "largest", "norm", "median"]

TERMS = 6  # products written out in words; the others are added up
NUMBERED = 7  # values in a row of a tile, at most, for them to be written upon it
TILES = 8  # channels drawn, at most
PLAIN = 112  # px of a tile without numbers
NEARBY = 9  # losses computed about a weight, to draw their curve

# What follows a layer and changes each value by itself, PyTorch's name → ours.
_ACTIVATIONS: Mapping[str, str] = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leaky_relu": "leaky ReLU",
    "prelu": "PReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "mish": "Mish",
    "softplus": "softplus",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "hardtanh": "hard tanh",
    "hardswish": "hard swish",
    "hardsigmoid": "hard sigmoid",
}
_BETWEEN: Mapping[str, str] = {"batch_norm": "batch normalisation", "add": "add", "sub": "subtract", "mul": "times"}
_RESHAPES = ("flatten", "view", "reshape", "_unsafe_view", "dropout", "squeeze")


@final
@dataclass(frozen=True, eq=False)
class UnitArithmetic:
    """How one unit comes by its value.

    Args:
        layer: path of its module.
        kind: the layer in words.
        unit: its place in the layer's output: channel and place, or the number of a feature.
        output_shape, input_shape: of the layer for one picture.
        rule: ``sum`` of products and bias; the ``largest`` or ``median`` of the window; its Euclidean ``norm``.
        patch: (C, …) float64, what it sees of the layer's input, 0 where there is nothing; of a fully connected layer
            in the shape that the maps had before they became a vector, where that is known.
        present: of the same shape, whether there is an input at all: outside of padding that counts as nothing.
        weights: of the same shape; None where the rule is not a sum.
        bias: 0 where there is none.
        reach: along each axis of the layer's input, the first and the last index that is seen.
        activation: what the network itself returned for the unit.
        following: (name, value) of what is done to the value next, one by one: normalisation, activation.
        note: what is not known; empty where all is.
    """

    layer: str
    kind: str
    unit: tuple[int, ...]
    output_shape: Shape
    input_shape: Shape
    rule: Rule
    patch: Tensor
    present: Tensor
    weights: Tensor | None
    bias: float
    reach: tuple[tuple[int, int], ...]
    activation: float
    following: tuple[tuple[str, float], ...] = ()
    note: str = ""

    @cached_property
    def products(self) -> Tensor | None:
        """What is added up, of the patch's shape: w·x, or x² for a norm; None where nothing is."""
        if self.rule == "norm":
            return self.patch.square()
        return None if self.weights is None else self.patch * self.weights

    @cached_property
    def value(self) -> float:
        """The unit's value as computed here in float64; `activation` to float error."""
        seen = self.patch[self.present]
        if self.products is not None:
            total = float(self.products.sum())
            return math.sqrt(total) if self.rule == "norm" else total + self.bias
        if self.rule == "largest":
            return float(seen.max())
        ranked = seen.sort().values
        return float(ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2

    @property
    def weight_length(self) -> float:
        """|w|."""
        return float(self.weights.norm()) if self.weights is not None else math.nan

    @property
    def patch_length(self) -> float:
        """|x|."""
        return float(self.patch.norm())

    @property
    def cosine(self) -> float:
        """cos θ between weights and patch, −1–1; 0 where one of them is all 0."""
        length = self.weight_length * self.patch_length
        return float(self.products.sum()) / length if self.products is not None and length else 0.0

    @property
    def angle(self) -> float:
        """θ in degrees: 0 where the patch points the way of the weights, 90 where it has nothing of it."""
        return math.degrees(math.acos(max(-1.0, min(1.0, self.cosine))))

    @property
    def sentences(self) -> tuple[str, ...]:
        """The arithmetic in words, a step each."""
        said = [*_sum_in_words(self)] if self.rule == "sum" else [_choice_in_words(self)]
        said += [f"Then {name}: {_written(value)}." for name, value in self.following]
        return (*said, *([self.note] if self.note else ()))

    @property
    def place(self) -> str:
        """The unit in words."""
        return _place(self.unit, self.output_shape)

    def __str__(self) -> str:
        heading = f"{self.layer} ({self.kind}): {self.place} of {_by(self.output_shape)}"
        return "\n  ".join([heading, _reach_in_words(self), *self.sentences])

    def draw(self) -> Sheet:
        """Draw the patch, the weights and their products beside each other, with the sum in words."""
        return _draw(self)


def explain_unit(
    network: nn.Module | Classifier, picture: Pictures, layer: str, unit: int | Sequence[int]
) -> UnitArithmetic:
    """Return how one unit of a layer comes by its value for one picture.

    Args:
        network: any; where it cannot be traced, what follows the layer is not known.
        picture: one.
        layer: name of a stage or path of a module: a convolution, a pool or a fully connected layer, or a stage with
            one of these in it. Of a layer that is used several times, the last time.
        unit: (channel, row, column) in the layer's output, or as many numbers as it has axes; or the channel alone,
            at the place where it answers most.

    Raises:
        DataError: there is not one picture.
        NetworkError: there is no such layer, none that can be explained, or no such unit in it.
    """
    subject = _single(subject_of(network, picture))
    path, module = _explained(subject.network, layer)
    taken, given = _seen(subject, path, module)
    where = _unit(unit, given, path)
    with torch.no_grad():
        view = _view(module, where, tuple(taken.shape), tuple(given.shape))
    patch, present = _patch(taken, view)
    maps = _maps_before(subject.graph, path, patch.numel()) if isinstance(module, nn.Linear) else None
    shape = maps or tuple(patch.shape)
    following, note = _what_follows(subject, path, given, where)
    return UnitArithmetic(
        path,
        view.kind,
        where,
        tuple(given.shape),
        tuple(taken.shape),
        view.rule,
        patch.reshape(shape),
        present.reshape(shape),
        None if view.weights is None else view.weights.cpu().double().reshape(shape),
        view.bias,
        _reach(view),
        float(given[where]),
        following,
        note,
    )


def explainable_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers whose units can be explained, path → module."""
    return {path: module for path, module in network.named_modules() if _can_be_explained(module)}


def _can_be_explained(module: nn.Module) -> bool:
    return _view.dispatch(type(module)) is not _view.dispatch(object)


def _explained(network: nn.Module, layer: str) -> tuple[str, nn.Module]:
    """Return path and module of the layer that is meant."""
    named = modules_named(network, [layer])[layer]
    paths = {module: path for path, module in network.named_modules()}
    inside = explainable_layers(named)
    if len(inside) == 1:
        (module,) = inside.values()
        return paths[module], module
    if inside:
        listed = [paths[module] for module in inside.values()]
        raise NetworkError(f"{layer!r} holds several layers. Name one of them: {_listed(listed)}.")
    raise NetworkError(
        f"{layer!r} is a {type(named).__name__}: only convolutions, pools and fully connected layers can be "
        f"explained. Here they are {_listed(list(explainable_layers(network))) or 'none'}."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:LISTED], *(["…"] if len(names) > LISTED else [])])


def _single(subject: Subject) -> Subject:
    if len(subject.images) != 1:
        raise DataError(f"One picture is explained at a time, got {len(subject.images)}. Pass one of them.")
    return subject


def _seen(subject: Subject, path: str, module: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what a layer took and gave for the one picture, without the axis of pictures."""
    kept: list[tuple[Tensor, Tensor]] = []
    with contract.evaluating(subject.network), torch.no_grad(), _keeping(module, kept):
        subject.network(subject.inputs)
    if not kept:
        raise NetworkError(f"The network does not use the layer {path!r} when it answers.")
    taken, given = kept[-1]
    return taken[0], given[0]


@contextmanager
def _keeping(module: nn.Module, kept: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Keep copies of what a module takes and returns; the hook is removed however it ends."""

    def hook(_: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append((inputs[0].detach().clone(), output.detach().clone()))  # what follows may work in place

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _unit(unit: int | Sequence[int], output: Tensor, layer: str) -> tuple[int, ...]:
    """Return the index of a unit in (C, …); a channel alone is taken where it answers most."""
    shape = tuple(output.shape)
    index = (unit,) if isinstance(unit, int) else tuple(int(one) for one in unit)
    fits = len(index) in (1, len(shape)) and all(0 <= one < size for one, size in zip(index, shape, strict=False))
    if not fits:
        names = ", ".join(_axes(shape))
        raise NetworkError(
            f"A unit of {layer!r} must be ({names}) counted from 0, or the first of these alone, "
            f"in an output of {_by(shape)}; got {unit if isinstance(unit, int) else index}."
        )
    if len(index) == len(shape):
        return index
    rest = torch.unravel_index(output[index[0]].argmax(), shape[1:])
    return (*index, *(int(one) for one in rest))


# What a unit looks at


@dataclass(frozen=True, eq=False)
class _View:
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


def _patch(taken: Tensor, view: _View) -> tuple[Tensor, Tensor]:
    """Return the values under the taps, (C, …) float64 with 0 where there is nothing, and whether there is a value."""
    patch = taken.cpu().double().index_select(0, view.channels)
    present = torch.ones((), dtype=torch.bool)
    for axis, taps in enumerate(view.taps, start=1):
        patch = patch.index_select(axis, taps.clamp(min=0))
        present = present.unsqueeze(-1) & (taps >= 0)
    present = present.expand(patch.shape)
    return patch.masked_fill(~present, 0.0), present


def _reach(view: _View) -> tuple[tuple[int, int], ...]:
    seen = [view.channels, *(taps[taps >= 0] for taps in view.taps)]
    return tuple((int(one.min()), int(one.max())) if len(one) else (0, -1) for one in seen)


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
def _view(layer: nn.Module, unit: Shape, taken: Shape, given: Shape) -> _View:
    """Return what a unit of a layer looks at; ``taken`` and ``given`` are the shapes of its input and output."""
    raise NotImplementedError


@_view.register(nn.Conv1d)
@_view.register(nn.Conv2d)
@_view.register(nn.Conv3d)
def _(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, unit: Shape, taken: Shape, given: Shape) -> _View:
    extents = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    if isinstance(layer.padding, str):  # PyTorch puts the odd pixel of "same" after
        before = [extent // 2 if layer.padding == "same" else 0 for extent in extents]
    else:
        before = [int(one) for one in layer.padding]
    axes = zip(layer.kernel_size, layer.stride, before, layer.dilation, strict=True)
    over = [Window(k, s, before=p, dilation=d) for k, s, p, d in axes]
    depth = layer.in_channels // layer.groups
    first = unit[0] // (layer.out_channels // layer.groups) * depth
    kind = f"convolution {_by(layer.kernel_size)}{_details(over)}"
    kind += f", {layer.groups} groups" if layer.groups > 1 else ""
    bias = 0.0 if layer.bias is None else float(layer.bias[unit[0]])
    taps = _under(over, unit, taken, layer.padding_mode)
    return _View(kind, "sum", torch.arange(first, first + depth), taps, layer.weight[unit[0]], bias)


@_view.register
def _(layer: FixedConv, unit: Shape, taken: Shape, given: Shape) -> _View:
    weights = layer.weight[unit[0]]  # (1, K, K)
    size = int(weights.shape[-1])
    over = windows((size, size), (1, 1), (size // 2, size // 2))
    channel = unit[0] * layer.channels // len(layer.weight)
    taps = _under(over, unit, taken, "replicate")
    return _View(f"fixed kernel {layer.name}", "sum", torch.tensor([channel]), taps, weights)


@_view.register
def _(layer: TableConvolution, unit: Shape, taken: Shape, given: Shape) -> _View:
    mine = (layer.pairs[0] == unit[0]).cpu()
    size = int(layer.weight.shape[-1])
    taps = _under(windows((size, size), (1, 1), (0, 0)), unit, taken)
    kind = f"convolution {size}×{size} of some maps"
    return _View(kind, "sum", layer.pairs[1].cpu()[mine], taps, layer.weight[mine], float(layer.bias[unit[0]]))


@_view.register
def _(layer: nn.Linear, unit: Shape, taken: Shape, given: Shape) -> _View:
    bias = 0.0 if layer.bias is None else float(layer.bias[unit[-1]])
    if len(taken) == 1:
        return _View("fully connected", "sum", torch.arange(taken[0]), (), layer.weight[unit[-1]], bias)
    here = [torch.tensor([place]) for place in unit[:-1]]  # of a sequence, or of maps with the channels last
    weights = layer.weight[unit[-1]].reshape(*[1] * len(here), -1)
    return _View("fully connected", "sum", here[0], (*here[1:], torch.arange(taken[-1])), weights, bias)


@_view.register(nn.AvgPool1d)
@_view.register(nn.AvgPool2d)
@_view.register(nn.AvgPool3d)
def _(layer: nn.AvgPool2d, unit: Shape, taken: Shape, given: Shape) -> _View:
    over = _pool_windows(layer, len(taken) - 1)
    taps = _under(over, unit, taken)
    ends = [
        min(position * window.stride + window.kernel, size + 2 * window.before) - position * window.stride
        for window, position, size in zip(over, unit[1:], taken[1:], strict=True)
    ]  # zeros of the padding count, what hangs over beyond them does not
    counts = ends if layer.count_include_pad else [int((one >= 0).sum()) for one in taps]
    divisor = getattr(layer, "divisor_override", None) or math.prod(counts)
    weights = torch.full((1, *map(len, taps)), 1 / divisor, dtype=torch.float64)
    return _View(f"average pooling {_kernels(over)}", "sum", torch.tensor(unit[:1]), taps, weights)


@_view.register(nn.MaxPool1d)
@_view.register(nn.MaxPool2d)
@_view.register(nn.MaxPool3d)
def _(layer: nn.MaxPool2d, unit: Shape, taken: Shape, given: Shape) -> _View:
    over = _pool_windows(layer, len(taken) - 1)
    return _View(f"max pooling {_kernels(over)}", "largest", torch.tensor(unit[:1]), _under(over, unit, taken))


@_view.register
def _(layer: HalvingPool, unit: Shape, taken: Shape, given: Shape) -> _View:
    over = windows((3, 3), (2, 2), (taken[1] % 2, taken[2] % 2), ceil=True)
    return _View(f"max pooling {_kernels(over)}", "largest", torch.tensor(unit[:1]), _under(over, unit, taken))


@_view.register(nn.AdaptiveAvgPool1d)
@_view.register(nn.AdaptiveAvgPool2d)
@_view.register(nn.AdaptiveAvgPool3d)
@_view.register(nn.AdaptiveMaxPool1d)
@_view.register(nn.AdaptiveMaxPool2d)
@_view.register(nn.AdaptiveMaxPool3d)
def _(layer: nn.Module, unit: Shape, taken: Shape, given: Shape) -> _View:
    places = zip(unit[1:], taken[1:], given[1:], strict=True)
    taps = tuple(torch.arange(i * size // parts, -(-(i + 1) * size // parts)) for i, size, parts in places)
    average = isinstance(layer, nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d | nn.AdaptiveAvgPool3d)
    return _whole(f"adaptive {'average' if average else 'max'} pooling", average, unit, taps)


@_view.register(GlobalAveragePool)
@_view.register(GlobalMaxPool)
def _(layer: nn.Module, unit: Shape, taken: Shape, given: Shape) -> _View:
    average = isinstance(layer, GlobalAveragePool)
    kind = f"global {'average' if average else 'max'} pooling"
    return _whole(kind, average, unit, tuple(torch.arange(size) for size in taken[1:]))


def _whole(kind: str, average: bool, unit: Shape, taps: tuple[Tensor, ...]) -> _View:
    sizes = tuple(map(len, taps))
    weights = torch.full((1, *sizes), 1 / math.prod(sizes), dtype=torch.float64) if average else None
    kind = f"{kind} of {_by(sizes)}"
    return _View(kind, "sum" if average else "largest", torch.tensor(unit[:1]), taps, weights)


@_view.register
def _(layer: SumPool, unit: Shape, taken: Shape, given: Shape) -> _View:
    taps = _under(layer.windows, unit, taken)
    weights = torch.ones(1, *map(len, taps), dtype=torch.float64)
    return _View(f"sum pooling {_kernels(layer.windows)}", "sum", torch.tensor(unit[:1]), taps, weights)


@_view.register(L2Pool)
@_view.register(MedianPool)
def _(layer: L2Pool | MedianPool, unit: Shape, taken: Shape, given: Shape) -> _View:
    word, rule = ("L2", "norm") if isinstance(layer, L2Pool) else ("median", "median")
    kind = f"{word} pooling {_kernels(layer.windows)}"
    taps = _under(layer.windows, unit, taken)
    return _View(kind, rule, torch.tensor(unit[:1]), taps)  # type: ignore[arg-type]


@_view.register
def _(layer: BlurPool, unit: Shape, taken: Shape, given: Shape) -> _View:
    taps = _under(layer.windows, unit, taken)
    weights = layer.weight[0].detach().cpu().double()  # (1, *size)
    for axis, one in enumerate(taps, start=1):
        there = (one >= 0).double()
        weights = weights * there.reshape([-1 if axis == other else 1 for other in range(weights.ndim)])
    kind = f"blur pooling {_kernels(layer.windows)}"
    return _View(kind, "sum", torch.tensor(unit[:1]), taps, weights / weights.sum())


@_view.register
def _(layer: Subsampling, unit: Shape, taken: Shape, given: Shape) -> _View:
    taps = _under(windows((2, 2), (2, 2), (0, 0)), unit, taken)
    weights = layer.coefficient[unit[0]].expand(1, 2, 2)
    return _View("trainable subsampling 2×2", "sum", torch.tensor(unit[:1]), taps, weights, float(layer.bias[unit[0]]))


def _pool_windows(layer: Any, axes: int) -> tuple[Window, ...]:
    """Return the windows of one of PyTorch's pools, whose numbers stand for all axes or for one each."""
    numbers = (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
    spread = [(one,) * axes if isinstance(one, int) else tuple(one) for one in numbers]
    kernels = zip(*spread, strict=True)
    return tuple(Window(k, s, before=p, after=p, dilation=d, ceil=layer.ceil_mode) for k, s, p, d in kernels)


def _kernels(over: Sequence[Window]) -> str:
    return _by([window.kernel for window in over]) + _details(over)


def _details(over: Sequence[Window]) -> str:
    strides, dilations = [window.stride for window in over], [window.dilation for window in over]
    said = f", stride {_by(strides)}" if max(strides) > 1 else ""
    return said + (f", dilation {_by(dilations)}" if max(dilations) > 1 else "")


def _maps_before(graph: Graph, path: str, count: int) -> Shape | None:
    """Return the shape (C, H, W) of the maps whose values a fully connected layer takes as a vector, where known."""
    if not graph.traced:
        return None
    node = graph[graph.last_of(path).inputs[0]]
    while len(node.shape) < 4 and node.operation in _RESHAPES:
        node = graph[node.inputs[0]]
    shape = node.shape[1:]
    return shape if len(shape) == 3 and math.prod(shape) == count and max(shape[1:]) > 1 else None


# What follows


def _what_follows(
    subject: Subject, path: str, output: Tensor, unit: Shape
) -> tuple[tuple[tuple[str, float], ...], str]:
    """Return what is done to a unit's value next, up to its activation, and what is not known."""
    graph = subject.graph
    if not graph.traced:
        return (), "What follows is not known: the network cannot be traced."
    constants = {**dict(subject.network.named_parameters()), **dict(subject.network.named_buffers())}
    values, steps = output[None], []
    for node in _chain_after(graph, graph.last_of(path)):
        given = {name: constants[constant] for name, constant in node.constants.items()}
        operation: Callable[..., Tensor] = getattr(torch.ops.aten, node.operation)
        with torch.no_grad():
            values = operation(values, **given, **node.options)
        steps.append((_step_name(node), float(values[0][unit])))
    return tuple(steps), ""


def _chain_after(graph: Graph, node: Node) -> Iterator[Node]:
    """Yield the nodes that change each value of a node's output by itself, to the end of the first activation."""
    active = ""
    while len(users := graph.users[node.name]) == 1 and len(users[0].inputs) == 1:
        following = users[0]
        known = following.operation in {*_ACTIVATIONS, *_BETWEEN} and (
            following.operation == "batch_norm" or not following.constants or following.operation == "prelu"
        )
        if not known or (active and following.module != active):
            return
        if following.operation in _ACTIVATIONS:
            active = following.module or following.name  # an activation may be several operations of one module
        yield following
        node = following


def _step_name(node: Node) -> str:
    name = (_ACTIVATIONS | _BETWEEN)[node.operation]
    other = node.options.get("other")
    return f"{name} {_written(float(other))}" if other is not None else name


# Words and pictures


def _sum_in_words(unit: UnitArithmetic) -> Iterator[str]:
    assert unit.products is not None
    assert unit.weights is not None
    total = float(unit.products.sum())
    count = int(unit.present.sum())
    largest = unit.products.abs().flatten().argsort(descending=True, stable=True)[:TERMS]
    written = [
        f"{_written(float(unit.weights.flatten()[i]))} · {_written(float(unit.patch.flatten()[i]))}" for i in largest
    ]
    rest = total - float(unit.products.flatten()[largest].sum())
    more = count - len(largest)
    tail = f" + {_written(rest)} ({more:,} more product{'s' * (more > 1)})" if more > 0 else ""
    yield f"Σ weight · input = {_added(written)}{tail} = {_written(total)}."
    yield (
        f"The same as |w| · |x| · cos θ = {_written(unit.weight_length)} · {_written(unit.patch_length)} · "
        f"{_written(unit.cosine)}, with θ = {unit.angle:.0f}°."
    )
    if unit.bias:
        yield f"With the bias: {_added([_written(total), _written(unit.bias)])} = {_written(unit.value)}."


def _choice_in_words(unit: UnitArithmetic) -> str:
    count = int(unit.present.sum())
    values = f"{count:,} value{'s' * (count > 1)}"
    if unit.rule == "norm":
        assert unit.products is not None
        return f"√Σx² over {values} = √{_written(float(unit.products.sum()))} = {_written(unit.value)}."
    if unit.rule == "largest":
        return f"The largest of {values} is {_written(unit.value)}."
    return f"The median of {values} is {_written(unit.value)}{', the mean of the middle two' * (count % 2 == 0)}."


def _reach_in_words(unit: UnitArithmetic) -> str:
    names = _axes(unit.input_shape)
    spans = [
        f"{name} {first}" if first == last else f"{name}s {first}–{last}"
        for name, (first, last) in zip(names, unit.reach, strict=True)
    ]
    absent = int((~unit.present).sum())
    outside = f"; {absent} of {unit.present.numel()} places lie outside of it" if absent else ""
    return f"It sees {', '.join(spans)} of the layer's input of {_by(unit.input_shape)}{outside}."


def _place(unit: Shape, shape: Shape) -> str:
    return ", ".join(f"{name} {one}" for name, one in zip(_axes(shape), unit, strict=True))


def _axes(shape: Shape) -> tuple[str, ...]:
    known = {1: ("feature",), 2: ("channel", "place"), 3: ("channel", "row", "column")}
    return known.get(len(shape), ("channel", "slice", "row", "column", *("axis",) * len(shape)))[: len(shape)]


def _by(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _written(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _added(terms: Sequence[str]) -> str:
    return " + ".join(f"({term})" if term.startswith("−") else term for term in terms)


def _draw(unit: UnitArithmetic) -> Sheet:
    shown, names, left_out = _chosen_planes(unit)
    planes = {"What it sees": unit.patch.where(unit.present, torch.nan)}
    if unit.weights is not None:
        planes["Weights"] = unit.weights
    if unit.products is not None:
        planes["Weight · input" if unit.rule == "sum" else "Squares"] = unit.products.where(unit.present, torch.nan)
    drawn = {heading: _planes(values)[shown] for heading, values in planes.items()}
    height, width = next(iter(drawn.values())).shape[1:]
    numbered = max(height, width) <= NUMBERED
    side = ROOM * max(height, width, 2) if numbered else PLAIN
    chosen = _largest_at(unit) if unit.rule == "largest" and len(shown) == 1 else None
    groups = [
        Group(
            [Tile(plane, name, box=chosen, numbers=numbered) for plane, name in zip(values, names, strict=True)],
            heading,
            _scale(values, heading),
            columns=len(names),
            side=side,
        )
        for heading, values in drawn.items()
    ]
    title = f"{unit.layer}: {unit.place} = {_written(unit.value)}"
    subtitle = f"{unit.kind[0].upper()}{unit.kind[1:]}. {_reach_in_words(unit)}{left_out}"
    return draw_grid(groups, title=title, subtitle=subtitle, notes=unit.sentences)


def _scale(values: Tensor, heading: str) -> Scale:
    meaning = {"What it sees": "values of the layer's input; grey where there is none", "Weights": "weights"}
    signed = heading != "What it sees" or bool((values < 0).any())
    return Scale.of(values, "diverging" if signed else "heat", meaning.get(heading, "what is added up"))


def _chosen_planes(unit: UnitArithmetic) -> tuple[list[int], list[str], str]:
    """Return which planes are drawn, their captions, and a sentence about the others."""
    amounts = _planes(unit.products if unit.products is not None else unit.patch)  # (P, h, w)
    sums = amounts.nan_to_num().sum((1, 2))
    longest = max(amounts.shape[1:])
    fitting = (WIDEST - 100) // (ROOM * longest if longest <= NUMBERED else PLAIN)
    count = max(1, min(TILES, fitting, len(sums)))
    shown = sorted(sums.abs().argsort(descending=True, stable=True)[:count].tolist())
    if len(sums) == 1:
        folded = unit.patch.numel() > amounts.shape[-1] == math.ceil(math.sqrt(unit.patch.numel()))
        whole = unit.patch.ndim == 1 or math.prod(unit.patch.shape[1:]) == 1
        return shown, [""], " Values are written in rows, to be read like text." if folded and whole else ""
    left_out = (
        f" Shown are the {count} of {len(sums)} channels whose products add up to most." if count < len(sums) else ""
    )
    first = unit.reach[0][0] if unit.patch.shape[0] == unit.reach[0][1] - unit.reach[0][0] + 1 else 0
    depth = len(sums) // unit.patch.shape[0]
    names = [
        f"channel {first + i // depth}{f', slice {i % depth}' if depth > 1 else ''}: Σ = {_written(float(sums[i]))}"
        for i in shown
    ]
    return shown, names, left_out


def _planes(values: Tensor) -> Tensor:
    """Return (C, …) values as planes (P, h, w); a vector becomes one plane, row by row, as nearly square as it can."""
    if values.ndim > 1 and math.prod(values.shape[1:]) > 1:
        return values.unsqueeze(0) if values.ndim == 2 else values.flatten(0, -3)
    vector = values.flatten()
    width = math.ceil(math.sqrt(len(vector)))
    height = -(-len(vector) // width)
    return F.pad(vector, (0, height * width - len(vector)), value=math.nan).reshape(1, height, width)


def _largest_at(unit: UnitArithmetic) -> tuple[int, int, int, int]:
    plane = _planes(unit.patch.where(unit.present, -torch.inf))[0]
    row, column = (int(one) for one in torch.unravel_index(plane.argmax(), plane.shape))
    return row, row, column, column


# One training step


@final
@dataclass(frozen=True)
class StepArithmetic:
    """What one step of plain gradient descent on one picture does to one weight: w ← w − lr · dL/dw.

    Args:
        parameter: its name; ``index``: the weight's place in it.
        label: the right class; ``loss``: cross-entropy, −ln of its probability.
        gradient: dL/dw.
        learning_rate: lr.
        weight: w before the step.
        loss_after: after the step of all weights.
        loss_after_alone: after the step of this weight alone.
        nearby: (w, loss) with all other weights as they were.
    """

    parameter: str
    index: tuple[int, ...]
    label: str
    loss: float
    gradient: float
    learning_rate: float
    weight: float
    loss_after: float
    loss_after_alone: float
    nearby: tuple[tuple[float, float], ...]

    @property
    def update(self) -> float:
        """−lr · dL/dw."""
        return -self.learning_rate * self.gradient

    @property
    def weight_after(self) -> float:
        """W after the step."""
        return self.weight + self.update

    @property
    def name(self) -> str:
        """The weight, as Python would write it."""
        return f"{self.parameter}[{', '.join(map(str, self.index))}]"

    def __str__(self) -> str:
        return "\n  ".join(
            [
                f"{self.name}, one step on a picture of {self.label}",
                f"loss = −ln p({self.label}) = {_precisely(self.loss)}, p = {_written(math.exp(-self.loss))}",
                f"dL/dw = {_precisely(self.gradient)}: if w grows a little, the loss {_moves(self.gradient)}",
                f"update = −lr · dL/dw = −{_written(self.learning_rate)} · {_added([_precisely(self.gradient)])} "
                f"= {_precisely(self.update)}",
                f"w: {_precisely(self.weight)} → {_precisely(self.weight_after)}",
                f"loss after the step of this weight alone: {_precisely(self.loss_after_alone)} "
                f"(changed by {_written(self.loss_after_alone - self.loss)}; "
                f"update · dL/dw = {_written(self.update * self.gradient)} was to be expected)",
                f"loss after the step of all weights: {_precisely(self.loss_after)}, "
                f"p = {_written(math.exp(-self.loss_after))}",
            ]
        )

    def draw(self) -> Drawing:
        """Draw the loss over this weight, its slope, and the step along it."""
        weights, losses = zip(*self.nearby, strict=True)
        slope = [self.loss + self.gradient * (one - self.weight) for one in (weights[0], weights[-1])]
        plane = Plane(
            [
                Curve(weights, losses, "loss, all other weights as they are"),
                Curve((weights[0], weights[-1]), slope, f"slope dL/dw = {_written(self.gradient)}", faint=True),
                Curve((self.weight,), (self.loss,), f"before: w = {_precisely(self.weight)}", form="points"),
                Curve(
                    (self.weight_after,),
                    (self.loss_after_alone,),
                    f"after: w = {_precisely(self.weight_after)}",
                    form="points",
                ),
            ],
            title=f"One step of {self.name}",
            x_title=f"w; the update is −{_written(self.learning_rate)} · dL/dw = {_written(self.update)}",
            y_title=f"loss, −ln p({self.label})",
            size=(760, 460),
        )
        return draw_curves(plane, description=str(self))


def explain_step(
    network: nn.Module | Classifier,
    picture: Pictures,
    label: int | str,
    parameter: str,
    index: int | Sequence[int],
    *,
    learning_rate: float = 0.01,
) -> StepArithmetic:
    """Return what one step of gradient descent on one picture does to a chosen weight.

    The step is that of plain gradient descent, w ← w − lr · dL/dw (Cauchy 1847), on the cross-entropy of one picture,
    with the network as it answers: without dropout, normalisation by stored averages. It is computed on a copy, in
    float64; the network is left as it was.

    Args:
        label: the right class of the picture, by name or number.
        parameter: name, as in ``network.named_parameters()``.
        index: of the weight in it, one number per axis.
        learning_rate: above 0.

    Raises:
        DataError: there is not one picture, no such class, or the learning rate is not above 0.
        NetworkError: there is no such parameter, it does not learn, or has no weight there.
    """
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise DataError(f"The learning rate must be a number above 0, got {learning_rate}.")
    subject = _single(subject_of(network, picture))
    target = class_number(subject.spec, label)
    place = _weight_place(subject.network, parameter, index)
    replica = copy.deepcopy(subject.network).double().eval()
    inputs, targets = subject.inputs.double(), torch.tensor([target], device=subject.device)

    def loss_of() -> Tensor:
        return F.cross_entropy(replica(inputs), targets)

    learning = {name: one for name, one in replica.named_parameters() if one.requires_grad}
    loss = loss_of()
    found = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
    gradients = {name: one for name, one in zip(learning, found, strict=True) if one is not None}
    if parameter not in gradients:
        raise NetworkError(f"The loss does not depend on {parameter!r}: the network does not use it when it answers.")
    chosen, gradient = learning[parameter], float(gradients[parameter][place])
    weight = float(chosen[place])
    update = -learning_rate * gradient
    reach = 2.5 * abs(update) or 0.1 * abs(weight) or 0.01
    with torch.no_grad():

        def loss_at(value: float) -> float:
            chosen[place] = value
            return float(loss_of())

        line = torch.linspace(weight - reach, weight + reach, NEARBY, dtype=torch.float64).tolist()
        nearby = tuple((value, loss_at(value)) for value in line)
        alone = loss_at(weight + update)
        chosen[place] = weight
        for name, one in gradients.items():
            learning[name].sub_(learning_rate * one)
        after = float(loss_of())
    name = subject.spec.task.class_names[target]
    return StepArithmetic(parameter, place, name, float(loss), gradient, learning_rate, weight, after, alone, nearby)


def _weight_place(network: nn.Module, parameter: str, index: int | Sequence[int]) -> tuple[int, ...]:
    """Return the checked index of a weight that learns."""
    parameters = dict(network.named_parameters())
    if parameter not in parameters:
        if parameter in dict(network.named_buffers()):
            raise NetworkError(f"{parameter!r} is a buffer, which no training step changes. Choose a parameter.")
        raise NetworkError(
            f"The network has no parameter {parameter!r}.{suggest(parameter, parameters)} "
            f"There are {_listed(list(parameters))}."
        )
    shape = tuple(parameters[parameter].shape)
    if not parameters[parameter].requires_grad:
        raise NetworkError(f"{parameter!r} is frozen: a training step does not change it. Choose one that learns.")
    place = (index,) if isinstance(index, int) else tuple(int(one) for one in index)
    if len(place) != len(shape) or not all(0 <= one < size for one, size in zip(place, shape, strict=True)):
        raise NetworkError(
            f"The index of a weight in {parameter!r} must be {len(shape)} numbers from 0, below {_by(shape)}; "
            f"got {index if isinstance(index, int) else place}."
        )
    return place


def _moves(gradient: float) -> str:
    return "grows" if gradient > 0 else "shrinks" if gradient < 0 else "stays as it is"


def _precisely(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")
