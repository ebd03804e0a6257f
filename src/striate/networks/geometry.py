"""The geometry of any network: what each tensor sees of the picture, what each operation costs, what sharing saves.

Multiply-adds are those of convolutions and matrix products, one per multiplication, for one picture; biases, norms,
activations and pooling are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import final

from torch import nn

from striate.core.errors import NetworkError
from striate.core.spec import Spec
from striate.networks.graph import Graph, Node, trace
from striate.networks.receptive.fields import Field, Seen
from striate.networks.receptive.look import look
from striate.networks.receptive.sight import Sight, Unknown


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of a map see, along each axis of the picture (height, width), as if it had no borders.

    Unit y sees the pixels from offset + y · jump to offset + y · jump + size − 1, negative ones being padding. Where
    units see differently much (adaptive pooling that does not divide evenly, transposed convolution), ``regular`` is
    False, ``size`` is that of the unit that sees most and ``jump`` the mean; `Geometry.sees` then knows each unit.

    Args:
        size: pixels.
        jump: pixels from one unit's field to the next one's; None where there is no rule.
        offset: the first pixel that unit 0 sees; None where it sees nothing.
        regular: whether the rule above holds for every unit.
    """

    size: tuple[int, ...]
    jump: tuple[Fraction | None, ...]
    offset: tuple[int | None, ...]
    regular: bool


@dataclass(frozen=True)
class Sharing:
    """What weight sharing saves in one convolution (LeCun et al. 1998, section II.A).

    Args:
        weights: numbers that are learned, biases included.
        connections: how often they are used for one picture, those into padding included.
        fully_connected: weights and biases of a fully connected layer between the same two maps.
    """

    weights: int
    connections: int
    fully_connected: int


@final
class Geometry:
    """What is known of a network at one input size.

    Args:
        graph: its trace.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @cached_property
    def _sights(self) -> dict[str, Sight | Unknown]:
        return look(self.graph)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What is not known, in sentences; empty where all of it is."""
        reasons = dict.fromkeys(one.reason for one in self._sights.values() if isinstance(one, Unknown))
        return (*self.graph.notes, *(reason for reason in reasons if reason not in self.graph.notes))

    @property
    def multiply_adds(self) -> int:
        """Of the whole network, for one picture."""
        return sum(multiply_adds(node, self.graph) for node in self.graph.nodes)

    @property
    def feature_map(self) -> str | None:
        """The node of the last map: the last with more than one unit along each axis; None where that is not known."""
        for node in reversed(self.graph.nodes):
            sight = self._sights[node.name]
            if isinstance(sight, Unknown):
                return None
            if min(sight.field.sides) > 1:
                return node.name
        return None

    def receptive_field(self, where: str) -> ReceptiveField | None:
        """Return what the units of a tensor see; None where it is not known.

        Args:
            where: the path of a module, whose output is meant, or the name of a node.

        Raises:
            NetworkError: there is no such module or node.
        """
        sight = self._sights[self._node(where).name]
        return reach(sight.field) if isinstance(sight, Sight) else None

    def sees(self, where: str, unit: Sequence[int]) -> tuple[Seen, ...] | None:
        """Return the pixels that one unit sees: (first, last) row and (first, last) column, clipped to the picture.

        Args:
            where: the path of a module, or the name of a node.
            unit: (y, x).

        Returns:
            None where the unit sees none of the picture, but padding alone.

        Raises:
            NetworkError: no such module, node or unit, or what it sees is not known.
        """
        node = self._node(where)
        sight = self._sights[node.name]
        if isinstance(sight, Unknown):
            raise NetworkError(sight.reason)
        sides = sight.field.sides
        if len(unit) != len(sides) or not all(0 <= place < side for place, side in zip(unit, sides, strict=True)):
            size = "×".join(map(str, sides))
            raise NetworkError(f"The map of {where} is {size} units, so there is no unit {tuple(unit)}.")
        return sight.field.boxes.at(unit)

    def _node(self, where: str) -> Node:
        return self.graph[where] if where in self.graph else self.graph.last_of(where)


def geometry(network: nn.Module, spec: Spec) -> Geometry:
    """Trace a network at one input size and return its geometry.

    Args:
        network: any module; on the meta device it takes no memory.
        spec: what it takes.

    Raises:
        NetworkError: it does not fit the pictures.
    """
    return Geometry(trace(network, spec))


def reach(field: Field) -> ReceptiveField:
    """Return a field's numbers."""
    return ReceptiveField(
        size=tuple(span.size for span in field.spans),
        jump=tuple(span.jump for span in field.spans),
        offset=tuple(span.offset for span in field.spans),
        regular=all(span.is_regular for span in field.spans),
    )


def multiply_adds(node: Node, graph: Graph) -> int:
    """Return the multiplications of a convolution or matrix product for one picture; 0 for everything else."""
    outputs = math.prod(node.shape[1:])
    weight = _weight(node, graph)
    if node.operation.startswith("conv_transpose") or node.kind.startswith("ConvTranspose"):
        inputs = math.prod(graph[node.inputs[0]].shape[1:]) if node.inputs else outputs
        return inputs * math.prod(weight[1:]) if weight else 0
    if node.operation.startswith("conv") or node.operation.startswith("Conv"):
        return outputs * math.prod(weight[1:]) if weight else 0
    if node.operation in ("linear", "Linear"):
        return outputs * weight[-1] if weight else 0
    if node.operation in ("matmul", "mm", "bmm") and node.inputs:
        return outputs * graph[node.inputs[0]].shape[-1]
    return 0


def sharing(node: Node, graph: Graph) -> Sharing | None:
    """Return what a convolution saves against a fully connected layer; None for every other operation."""
    weight = _weight(node, graph)
    if not node.operation.startswith("conv") or not node.inputs or weight is None:
        return None
    inputs, outputs = math.prod(graph[node.inputs[0]].shape[1:]), math.prod(node.shape[1:])
    biases = node.shape[1] if "bias" in node.constants else 0
    places = math.prod(node.shape[2:])
    return Sharing(
        weights=math.prod(weight) + biases,
        connections=multiply_adds(node, graph) + biases * places,
        fully_connected=inputs * outputs + (outputs if biases else 0),
    )


def _weight(node: Node, graph: Graph) -> tuple[int, ...] | None:
    return graph.constants.get(node.constants.get("weight", ""))
