"""What the units of a tensor see, and what a rule is given to say so.

A tensor's dimensions are labelled: ``N``, ``C`` for channels and features, 0, 1 … for the axes of the picture, ``F``
for features that see different parts of it, ``-`` for dimensions of size 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from striate.networks.graph import Graph, Node
from striate.networks.receptive.fields import Field
from striate.networks.receptive.taps import Taps

Label = str | int


@dataclass(frozen=True)
class Unknown:
    """What a tensor sees is not known.

    Args:
        reason: a sentence.
    """

    reason: str


@dataclass(frozen=True)
class Sight:
    """What the units of a tensor see.

    Args:
        labels: one per dimension.
        parts: (channels, field) of runs of channels that see the same, in order; one part where channels do not matter.
        mixed: whether the one part stands for channels that see different things, so that none can be taken alone.
    """

    labels: tuple[Label, ...]
    parts: tuple[tuple[int, Field], ...]
    mixed: bool = False

    @property
    def field(self) -> Field:
        """What the units at each place see, over all channels."""
        return reduce(Field.union, (field for _, field in self.parts))

    def together(self) -> Sight:
        """Return the same with all channels seen as one."""
        if len(self.parts) == 1:
            return self
        return Sight(self.labels, ((sum(count for count, _ in self.parts), self.field),), mixed=True)

    def through(self, axis: int, along: Taps) -> Sight:
        """Return what is seen after an operation along one axis of the picture."""
        return replace(self, parts=merged([(count, field.through(axis, along)) for count, field in self.parts]))


def merged(parts: Sequence[tuple[int, Field]]) -> tuple[tuple[int, Field], ...]:
    """Join neighbouring runs of channels that see the same."""
    runs: list[tuple[int, Field]] = []
    for count, field in parts:
        if runs and runs[-1][1] == field:
            runs[-1] = (runs[-1][0] + count, runs[-1][1])
        else:
            runs.append((count, field))
    return tuple(runs)


def ends(sight: Sight) -> list[int]:
    ends: list[int] = []
    for count, _ in sight.parts:
        ends.append(count + (ends[-1] if ends else 0))
    return ends


def part_at(sight: Sight, channel: int) -> Field:
    return next(field for end, (_, field) in zip(ends(sight), sight.parts, strict=True) if channel < end)


class NotKnownError(Exception):
    """This cannot be said exactly."""


@dataclass(frozen=True)
class Step:
    """A node with what its inputs see and, for reading shapes, the graph it is in."""

    node: Node
    sights: list[Sight]
    graph: Graph

    @property
    def sight(self) -> Sight:
        return self.sights[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first input."""
        return self.graph[self.node.inputs[0]].shape

    def numbers(self, option: str, count: int, default: int) -> list[int]:
        """Return an option that is one number or one per axis."""
        value = self.node.options.get(option)
        if isinstance(value, int):
            return [int(value)] * count
        given = [int(one) for one in value or ()]
        return (given * count if len(given) == 1 else given) or [default] * count

    def dimension(self, option: str = "dim", default: int = 0) -> int:
        value = self.node.options.get(option, default)
        return int(default if value is None else value) % len(self.shape)

    def dimensions(self, option: str = "dim") -> list[int]:
        value = self.node.options.get(option)
        every = range(len(self.shape))
        if value is None or value == []:
            return list(every)
        return sorted({one % len(self.shape) for one in (value if isinstance(value, list) else [value])})

    def is_constant(self, argument: str) -> bool:
        return argument in self.node.constants


Rule = Callable[[Step], Sight]
