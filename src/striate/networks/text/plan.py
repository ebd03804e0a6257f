"""Shapes first: a network text walked with numbers alone, so that a mistake costs no memory.

The plan names every stage, knows the shape before and after each layer, and has refused what cannot be built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import nn

from striate.core.finding import Finding
from striate.networks.shapes import Shape, projection_stride
from striate.networks.text.fitting import (
    check_weights,
    convolution_shape,
    convolution_windows,
    fully_connected_shape,
    plain_shape,
    pool_shape,
    pool_windows,
    suffixes_shape,
    times,
)
from striate.networks.text.lost import Lost, lost_pixels
from striate.networks.text.mistakes import Misfit, Span
from striate.networks.text.tree import (
    AdaptivePool,
    Add,
    Concat,
    Convolution,
    FullyConnected,
    GlobalPool,
    Item,
    Layer,
    NetworkText,
    Pool,
    Repeat,
    Size,
    Suffix,
)


@final
@dataclass(frozen=True)
class Step:
    """One item with its name and shapes.

    Args:
        name: the item's label, else its kind and a running number.
        layer: the item's node.
        before: the shape that arrives.
        after: the shape that leaves, suffixes included.
        branches: the steps of each branch, or of each copy of a repeat.
        projection: the strides of an ``add``'s 1×1 shortcut; () for flat features, None for the identity.
    """

    name: str
    layer: Layer
    before: Shape
    after: Shape
    branches: tuple[tuple[Step, ...], ...] = ()
    projection: Size | None = None


@final
class Planner:
    """Walks one text; what does not fit raises ``Misfit``, what is merely unwise is kept as a warning."""

    def __init__(self) -> None:
        self._findings: dict[Span, Finding] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Warnings, the first one of each place: copies of a repeat are warned of once."""
        return tuple(self._findings.values())

    def whole(self, network: NetworkText, shape: Shape) -> tuple[Step, ...]:
        """Plan a whole network, and warn where it ends in maps: a classifier ends in one number per class."""
        steps = self.network(network, shape, "")
        if len(steps[-1].after) > 1:
            span = network.items[-1].place.whole
            sentence = f"the network ends in maps of {times(steps[-1].after)}, not in one number per class."
            fix = 'Add "| gap", or "| fc 10" for 10 classes.'
            self._warn("ends-in-maps", steps[-1].name, Lost(sentence, fix, {}), span)
        return steps

    def network(self, network: NetworkText, shape: Shape, path: str) -> tuple[Step, ...]:
        """Plan items one after the other; ``path`` is what their names are prefixed with in findings."""
        steps = []
        for name, item in zip(_names(network.items), network.items, strict=True):
            steps.append(self.step(name, item.layer, shape, path + name))
            shape = steps[-1].after
        return tuple(steps)

    def step(self, name: str, layer: Layer, shape: Shape, path: str) -> Step:
        """Plan one item."""
        match layer:
            case Repeat():
                return self._repeat(name, layer, shape, path)
            case Add():
                return self._add(name, layer, shape, path)
            case Concat():
                return self._concat(name, layer, shape, path)
            case Convolution():
                after = suffixes_shape(layer.suffixes, convolution_shape(layer, shape))
                self._warn_of_lost(layer, shape, path)
            case FullyConnected():
                after = suffixes_shape(layer.suffixes, fully_connected_shape(layer, shape))
            case Pool():
                after = pool_shape(layer, shape)
                self._warn_of_lost(layer, shape, path)
            case Suffix():
                after = suffixes_shape((layer,), shape)
            case _:
                after = plain_shape(layer, shape)
        return Step(name, layer, shape, after)

    def _warn_of_lost(self, layer: Convolution | Pool, shape: Shape, path: str) -> None:
        sizes = shape[1:]
        if isinstance(layer, Pool):
            over, noun = pool_windows(layer, len(sizes)), "window"
        else:
            over, noun = convolution_windows(layer, sizes), "filter"
        if lost := lost_pixels(over, sizes, noun, can_hang_over=isinstance(layer, Pool)):
            self._warn("lost-rows", path, lost, layer.place.of("stride", "size"))

    def _warn(self, code: str, where: str, what: Lost, span: Span) -> None:
        numbers = {**what.numbers, "start": span.start, "end": span.end}
        finding = Finding(code, "warning", where, what.sentence, numbers, what.fix)
        self._findings.setdefault(span, finding)

    def _repeat(self, name: str, layer: Repeat, shape: Shape, path: str) -> Step:
        copies: list[tuple[Step, ...]] = []
        before = shape
        for number in range(layer.times):
            copies.append(self.network(layer.body, shape, f"{path}.{number}."))
            shape = copies[-1][-1].after
        return Step(name, layer, before, shape, tuple(copies))

    def _concat(self, name: str, layer: Concat, shape: Shape, path: str) -> Step:
        branches = tuple(
            self.network(branch, shape, f"{path}.branch{number}.") for number, branch in enumerate(layer.branches, 1)
        )
        afters = [branch[-1].after for branch in branches]
        for number, (branch, after) in enumerate(zip(layer.branches, afters, strict=True), 1):
            if after[1:] != afters[0][1:]:
                sentence = (
                    f"all branches of concat must leave the same size, but branch {number} leaves "
                    f"{times(after)} and branch 1 leaves {times(afters[0])}."
                )
                fix = 'Give them the same strides, and padding to match (such as "pad same").'
                raise Misfit(_span(branch), sentence, fix)
        joined = (sum(after[0] for after in afters), *afters[0][1:])
        return Step(name, layer, shape, suffixes_shape(layer.suffixes, joined), branches)

    def _add(self, name: str, layer: Add, shape: Shape, path: str) -> Step:
        branches = [self.network(layer.body, shape, f"{path}.body.")]
        after = branches[0][-1].after
        projection: Size | None = None
        if layer.shortcut is not None:
            branches.append(self.network(layer.shortcut, shape, f"{path}.shortcut."))
            other = branches[1][-1].after
            if other != after:
                sentence = f"both branches of add must leave the same shape, not {times(after)} and {times(other)}."
                fix = "Leave the second branch out: it is then projected to fit."
                raise Misfit(_span(layer.shortcut), sentence, fix)
        elif after != shape:
            projection = _projection(layer, shape, after)
        return Step(name, layer, shape, suffixes_shape(layer.suffixes, after), tuple(branches), projection)


def _projection(layer: Add, shape: Shape, after: Shape) -> Size:
    """The strides of the 1×1 convolution from ``shape`` to ``after``; () for flat features."""
    span = layer.place.of("word")
    strides: list[int | None] = [None]
    if len(shape) == len(after):
        strides = [projection_stride(size, wanted) for size, wanted in zip(shape[1:], after[1:], strict=True)]
    found = tuple(stride for stride in strides if stride is not None)
    if len(found) != len(strides):
        sentence = f"a strided 1×1 projection must lead from {times(shape)} to {times(after)}, and no stride does."
        raise Misfit(span, sentence, 'Pad the branch (such as "pad same"), or write the second branch out.')
    check_weights(shape[0] * after[0], span)
    return found


def _names(items: Sequence[Item]) -> list[str]:
    """Labels, else kind and running number; none twice, none that PyTorch's modules use themselves."""
    labels: set[str] = set()
    for item in items:
        if item.label is None:
            continue
        span = item.place.of("label")
        if item.label in labels:
            raise Misfit(span, f"the label {item.label!r} is already used.", f'Try "{item.label}_2:".')
        if hasattr(nn.Sequential, item.label) or item.label == "training":
            sentence = f"a label must not be a name that PyTorch's modules use themselves, such as {item.label!r}."
            raise Misfit(span, sentence, f'Try "{item.label}_:".')
        labels.add(item.label)
    counts: dict[str, int] = {}
    return [item.label or _numbered(_kind(item.layer), counts, labels) for item in items]


def _numbered(kind: str, counts: dict[str, int], labels: set[str]) -> str:
    """The next name of its kind that is no label."""
    while True:
        counts[kind] = counts.get(kind, 0) + 1
        if (name := f"{kind}{counts[kind]}") not in labels:
            return name


def _kind(layer: Layer) -> str:
    match layer:
        case Suffix(name=name):
            return name
        case Pool(kind=kind) | GlobalPool(kind=kind):
            return kind
        case AdaptivePool():
            return "adaptive"
        case Convolution():
            return "conv"
        case FullyConnected():
            return "fc"
        case _:
            return type(layer).__name__.lower()


def _span(branch: NetworkText) -> Span:
    return Span(branch.items[0].place.whole.start, branch.items[-1].place.whole.end)
