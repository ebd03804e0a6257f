"""Which positions of each map reach the output, through whatever branch; exact, position by position.

The rules of `sight` say which places of its inputs every operation sees. Here they are asked one operation at a time,
and what they answer is followed backwards. All channels of a place count as one: it is used where any of them is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast, final

import numpy as np
from numpy.typing import NDArray

from striate.networks.graph import PICTURE, Graph, Node
from striate.networks.receptive.fields import Boxes, Field, Span
from striate.networks.receptive.look import look_at
from striate.networks.receptive.sight import Sight, Unknown
from striate.networks.receptive.taps import Taps

Mask = NDArray[np.bool_]


@final
@dataclass(frozen=True, eq=False)
class Move:
    """An operation along one axis.

    Args:
        axis: of the picture.
        taps: (outputs, inputs) 1 where the output sees the input, else 0.
    """

    axis: int
    taps: NDArray[np.float32]

    @classmethod
    def along(cls, axis: int, taps: Taps) -> Move:
        """Return the move of an operation of `taps`."""
        matrix = np.zeros((taps.outputs, taps.inputs + 1), dtype=np.float32)
        np.put_along_axis(matrix, taps.table % (taps.inputs + 1), 1, axis=1)  # what sees nothing goes to the last
        return cls(axis, matrix[:, :-1])

    @property
    def keeps_places_apart(self) -> bool:
        """Whether no output sees two inputs and no two outputs see the same one: places are moved or left out."""
        return bool((self.taps.sum(0) <= 1).all() and (self.taps.sum(1) <= 1).all())

    def forward(self, mask: Mask) -> Mask:
        """Return the outputs that see any of these inputs."""
        return self._apply(self.taps, mask)

    def backward(self, mask: Mask) -> Mask:
        """Return the inputs that any of these outputs sees."""
        return self._apply(self.taps.T, mask)

    def _apply(self, matrix: NDArray[np.float32], mask: Mask) -> Mask:
        if mask.all() and matrix.any(1).all():
            return np.ones([len(matrix) if axis == self.axis else n for axis, n in enumerate(mask.shape)], dtype=bool)
        counts = np.tensordot(matrix, mask.astype(np.float32), axes=([1], [self.axis]))
        return np.moveaxis(counts, 0, self.axis) > 0


@final
@dataclass(frozen=True, eq=False)
class Route:
    """One way in which an operation sees one of its inputs: move after move."""

    source: str
    moves: tuple[Move, ...] = ()

    @property
    def is_place_by_place(self) -> bool:
        """Whether what is at a place of the output comes from one place alone, which no other place shares."""
        return all(move.keeps_places_apart for move in self.moves)

    def forward(self, mask: Mask) -> Mask:
        """Return the places of the output that see any of these places of the input."""
        for move in self.moves:
            mask = move.forward(mask)
        return mask

    def backward(self, mask: Mask) -> Mask:
        """Return the places of the input that any of these places of the output sees."""
        for move in reversed(self.moves):
            mask = move.backward(mask)
        return mask


@final
@dataclass(frozen=True, eq=False)
class _Trail:
    """Stands where a `Field` has its `Boxes`, and notes what is done to them instead of doing it."""

    routes: tuple[Route, ...]

    def through(self, axis: int, taps: Taps) -> _Trail:
        move = Move.along(axis, taps)
        return _Trail(tuple(Route(route.source, (*route.moves, move)) for route in self.routes))

    def union(self, other: _Trail) -> _Trail:
        return _Trail((*self.routes, *other.routes))


@final
class Coverage:
    """Which positions of each map are used.

    Where an operation is not known, all that it takes counts as used: nothing is found that may not be so.

    Args:
        graph: of a network that was traced.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.routes: dict[str, tuple[Route, ...]] = {}  # name of a node whose operation is known → how it sees inputs
        self._sides: dict[str, tuple[int, ...]] = {}
        seen: dict[str, Sight | Unknown] = {}
        for node in graph.nodes:
            result = look_at(node, [seen[name] for name in node.inputs], graph)
            seen[node.name] = self._note(node, result) if isinstance(result, Sight) else result

    def _note(self, node: Node, result: Sight) -> Sight:
        """Remember the routes to a node, and return what the next ones are to start from."""
        field = result.field
        self._sides[node.name] = field.sides
        self.routes[node.name] = cast("_Trail", field.boxes).routes if node.inputs else ()
        start = Field((Span(((0, 0),), 1),) * len(field.sides), _start(node.name), field.sides)
        return Sight(result.labels, ((sum(count for count, _ in result.parts), start),))

    def is_known(self, name: str) -> bool:
        """Whether it is known what the node sees."""
        return name in self._sides

    def full(self, name: str) -> Mask:
        """Return a mask with all places of a node's output."""
        return np.ones(self._sides[name], dtype=bool)

    @cached_property
    def used(self) -> dict[str, Mask]:
        """Places that reach the output of the network."""
        used = {name: np.zeros(sides, dtype=bool) for name, sides in self._sides.items()}
        for name in (*self.graph.outputs, *self._taken_by_unknown):
            if name in used:
                used[name][...] = True
        for node in reversed(self.graph.nodes):
            for route in self.routes.get(node.name, ()):
                used[route.source] |= route.backward(used[node.name])
        return used

    @property
    def _taken_by_unknown(self) -> list[str]:
        return [name for node in self.graph.nodes if node.name not in self.routes for name in node.inputs]

    @cached_property
    def carried(self) -> dict[str, Mask]:
        """Places whose numbers, or numbers that these were computed from place by place, reach the output.

        Place by place work sums, activations, norms and 1×1 convolutions. So a place that a strided 1×1 convolution
        skips is carried where another branch sees it: after the same activation, before it, or along a shortcut.
        """
        carried: dict[str, Mask] = {}
        for name, routes in self.routes.items():
            carried[name] = self.used[name].copy()
            for route in routes:
                if route.is_place_by_place:
                    carried[name] |= route.forward(carried[route.source])
        return carried

    @cached_property
    def real(self) -> dict[str, Mask]:
        """Places that see any of the picture, and not padding alone."""
        real: dict[str, Mask] = {}
        for name, routes in self.routes.items():
            real[name] = self.full(name) if name == PICTURE else np.zeros(self._sides[name], dtype=bool)
            for route in routes:
                real[name] |= route.forward(real[route.source])
        return real

    def taken(self, name: str) -> Mask:
        """Return the places that the operations right after a node see, whether or not what they make of it is used."""
        taken = np.zeros(self._sides[name], dtype=bool)
        if name in self.graph.outputs or name in self._taken_by_unknown:
            return self.full(name)
        for user in self.graph.users[name]:
            for route in self.routes[user.name]:
                if route.source == name:
                    taken |= route.backward(self.full(user.name))
        return taken


def _start(name: str) -> Boxes:
    return cast("Boxes", _Trail((Route(name),)))
