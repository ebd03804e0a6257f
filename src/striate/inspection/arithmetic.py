"""The arithmetic behind one number: how a unit of a layer comes by its value.

A unit of a convolution or of a fully connected layer is Σ w·x + b over the patch x that it sees, which is also
|w||x|cos θ + b: how long the patch is, times how well it points the way of the weights. A pool takes the mean, the sum,
the largest, the median or the Euclidean norm of its window. Everything is computed anew from the layer's input, in
float64, so that it can be compared with what the network itself returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.core.errors import DataError, NetworkError
from striate.drawing.colours import Scale
from striate.drawing.grid import ROOM, WIDEST, Group, Sheet, Tile, draw_grid, in_digits
from striate.inspection.patches import Rule, by, has_view, patch_under, reach_of, view
from striate.inspection.record import listed, modules_named
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.networks import contract
from striate.networks.graph import Graph, Node
from striate.networks.shapes import Shape
from striate.prediction.predictor import Classifier

TERMS = 6  # products written out in words; the others are added up
NUMBERED = 7  # values in a row of a tile, at most, for them to be written upon it
TILES = 8  # channels drawn, at most
PLAIN = 112  # px of a tile without numbers

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
        said += [f"Then {name}: {written(value)}." for name, value in self.following]
        return (*said, *([self.note] if self.note else ()))

    @property
    def place(self) -> str:
        """The unit in words."""
        return _place(self.unit, self.output_shape)

    def __str__(self) -> str:
        heading = f"{self.layer} ({self.kind}): {self.place} of {by(self.output_shape)}"
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
    return explain_units(network, picture, [(layer, unit)])[0]


def explain_units(
    network: nn.Module | Classifier, picture: Pictures, units: Sequence[tuple[str, int | Sequence[int]]]
) -> list[UnitArithmetic]:
    """Explain several units, each (layer, unit), from one forward pass. See `explain_unit`."""
    subject = single(subject_of(network, picture))
    layers = [_explained(subject.network, layer) for layer, _ in units]
    seen = _seen(subject, dict(layers))
    return [
        _arithmetic(subject, path, module, *seen[path], unit)
        for (path, module), (_, unit) in zip(layers, units, strict=True)
    ]


def _arithmetic(
    subject: Subject, path: str, module: nn.Module, taken: Tensor, given: Tensor, unit: int | Sequence[int]
) -> UnitArithmetic:
    """Return the arithmetic of a unit of a layer that took and gave (C, …)."""
    where = _unit(unit, given, path)
    with torch.no_grad():
        seen = view(module, where, tuple(taken.shape), tuple(given.shape))
    patch, present = patch_under(taken, seen)
    maps = _maps_before(subject.graph, path, patch.numel()) if isinstance(module, nn.Linear) else None
    shape = maps or tuple(patch.shape)
    following, note = _what_follows(subject, path, given, where)
    return UnitArithmetic(
        path,
        seen.kind,
        where,
        tuple(given.shape),
        tuple(taken.shape),
        seen.rule,
        patch.reshape(shape),
        present.reshape(shape),
        None if seen.weights is None else seen.weights.detach().cpu().double().reshape(shape),
        seen.bias,
        reach_of(seen),
        float(given[where]),
        following,
        note,
    )


def explainable_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers whose units can be explained, path → module."""
    return {path: module for path, module in network.named_modules() if has_view(module)}


def _explained(network: nn.Module, layer: str) -> tuple[str, nn.Module]:
    """Return path and module of the layer that is meant."""
    named = modules_named(network, [layer])[layer]
    paths = {module: path for path, module in network.named_modules()}
    inside = explainable_layers(named)
    if len(inside) == 1:
        (module,) = inside.values()
        return paths[module], module
    if inside:
        several = [paths[module] for module in inside.values()]
        raise NetworkError(f"{layer!r} holds several layers. Name one of them: {listed(several)}.")
    raise NetworkError(
        f"{layer!r} is a {type(named).__name__}: only convolutions, pools and fully connected layers can be "
        f"explained. Here they are {listed(list(explainable_layers(network))) or 'none'}."
    )


def single(subject: Subject) -> Subject:
    """Return a subject that has one picture.

    Raises:
        DataError: it has several.
    """
    if len(subject.images) != 1:
        raise DataError(f"One picture is explained at a time, got {len(subject.images)}. Pass one of them.")
    return subject


def _seen(subject: Subject, layers: Mapping[str, nn.Module]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what each layer took and gave for the one picture, without the axis of pictures."""
    kept: dict[str, tuple[Tensor, Tensor]] = {}
    with contract.evaluating(subject.network), torch.no_grad(), _keeping(layers, kept):
        subject.network(subject.inputs)
    for path in layers:
        if path not in kept:
            raise NetworkError(f"The network does not use the layer {path!r} when it answers.")
    return kept


@contextmanager
def _keeping(layers: Mapping[str, nn.Module], kept: dict[str, tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Keep copies of what layers take and return for the first picture; the hooks are removed however it ends."""

    def hook_for(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_: nn.Module, inputs: Any, output: Tensor) -> None:
            kept[path] = (inputs[0][0].detach().clone(), output[0].detach().clone())  # what follows may work in place

        return hook

    hooks = [module.register_forward_hook(hook_for(path)) for path, module in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _unit(unit: int | Sequence[int], output: Tensor, layer: str) -> tuple[int, ...]:
    """Return the index of a unit in (C, …); a channel alone is taken where it answers most."""
    shape = tuple(output.shape)
    index = (unit,) if isinstance(unit, int) else tuple(int(one) for one in unit)
    fits = len(index) in (1, len(shape)) and all(0 <= one < size for one, size in zip(index, shape, strict=False))
    if not fits:
        names = ", ".join(_axes(shape))
        raise NetworkError(
            f"A unit of {layer!r} must be ({names}) counted from 0, or the first of these alone, "
            f"in an output of {by(shape)}; got {unit if isinstance(unit, int) else index}."
        )
    if len(index) == len(shape):
        return index
    rest = torch.unravel_index(output[index[0]].argmax(), shape[1:])
    return (*index, *(int(one) for one in rest))


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
    name = {**_ACTIVATIONS, **_BETWEEN}[node.operation]
    other = node.options.get("other")
    return f"{name} {written(float(other))}" if other is not None else name


# Words and pictures


def _sum_in_words(unit: UnitArithmetic) -> Iterator[str]:
    assert unit.products is not None
    assert unit.weights is not None
    total = float(unit.products.sum())
    count = int(unit.present.sum())
    largest = unit.products.abs().flatten().argsort(descending=True, stable=True)[:TERMS]
    terms = [
        f"{written(float(unit.weights.flatten()[i]))} · {written(float(unit.patch.flatten()[i]))}" for i in largest
    ]
    rest = total - float(unit.products.flatten()[largest].sum())
    more = count - len(largest)
    if more > 0:
        terms.append(f"{written(rest)} from {more:,} more")
    yield f"Σ weight · input = {added(terms)} = {written(total)}."
    yield (
        f"The same as |w| · |x| · cos θ = {written(unit.weight_length)} · {written(unit.patch_length)} · "
        f"{written(unit.cosine)}, with θ = {unit.angle:.0f}°."
    )
    if unit.bias:
        yield f"With the bias: {added([written(total), written(unit.bias)])} = {written(unit.value)}."


def _choice_in_words(unit: UnitArithmetic) -> str:
    count = int(unit.present.sum())
    values = f"{count:,} value{'s' * (count > 1)}"
    if unit.rule == "norm":
        assert unit.products is not None
        return f"√Σx² over {values} = √{written(float(unit.products.sum()))} = {written(unit.value)}."
    if unit.rule == "largest":
        return f"The largest of {values} is {written(unit.value)}."
    return f"The median of {values} is {written(unit.value)}{', the mean of the middle two' * (count % 2 == 0)}."


def _reach_in_words(unit: UnitArithmetic) -> str:
    names = _axes(unit.input_shape)
    spans = [
        f"{name} {first}" if first == last else f"{name}s {first}–{last}"
        for name, (first, last) in zip(names, unit.reach, strict=True)
    ]
    absent = int((~unit.present).sum())
    outside = f"; {absent} of {unit.present.numel()} places lie outside of it" if absent else ""
    return f"It sees {', '.join(spans)} of the layer's input of {by(unit.input_shape)}{outside}."


def _place(unit: Shape, shape: Shape) -> str:
    return ", ".join(f"{name} {one}" for name, one in zip(_axes(shape), unit, strict=True))


def _axes(shape: Shape) -> tuple[str, ...]:
    known = {1: ("feature",), 2: ("channel", "place"), 3: ("channel", "row", "column")}
    return known.get(len(shape), ("channel", "slice", "row", "column", *("axis",) * len(shape)))[: len(shape)]


def written(value: float) -> str:
    """Return a number with four digits."""
    return in_digits(value, 4)


def added(terms: Sequence[str]) -> str:
    """Return terms with a plus between them, the negative ones in parentheses."""
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
    title = f"{unit.layer}: {unit.place} = {written(unit.value)}"
    subtitle = f"{unit.kind[0].upper()}{unit.kind[1:]}. {_reach_in_words(unit)}{left_out}"
    return draw_grid(groups, title=title, subtitle=subtitle, notes=unit.sentences)


def _scale(values: Tensor, heading: str) -> Scale:
    absent = "; grey where there is none" if bool(values.isnan().any()) else ""
    meaning = {"What it sees": f"values of the layer's input{absent}", "Weights": "weights"}
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
        f"channel {first + i // depth}{f', slice {i % depth}' if depth > 1 else ''}: Σ = {written(float(sums[i]))}"
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
