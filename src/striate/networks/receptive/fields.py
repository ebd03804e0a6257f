"""Receptive fields: what a unit sees of the picture, carried through one operation after another.

Two views are carried side by side, both as the smallest box around what is seen. `Span` is the theory, along one axis
and without borders: size, jump and offset (A. Araujo, W. Norris, J. Sim, Computing Receptive Fields of Convolutional
Neural Networks, Distill 2019, whose closed form it extends to irregular operations). `Boxes` is what each single unit
of a map really sees, clipped to the picture. Unions at sums and concatenations, and what falls into padding, are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import numpy as np
from numpy.typing import NDArray

from striate.networks.receptive.taps import Taps

Seen = tuple[int, int]  # first and last pixel along an axis
Numbers = NDArray[np.int32]

_NOTHING = 2**30  # the first pixel of a unit that sees none; its last is the negative of this


@final
@dataclass(frozen=True)
class Span:
    """What the units along one axis see, as if the picture had no borders.

    Args:
        seen: first and last pixel of units 0 … P − 1, None where a unit sees nothing.
        advance: pixels by which what unit y + P sees lies further.
        endless: whether units before 0 and after the last follow the same rule, so that padding counts as picture.
    """

    seen: tuple[Seen | None, ...]
    advance: int
    endless: bool = True

    def at(self, unit: int) -> Seen | None:
        """Return the first and last pixel that a unit sees."""
        if not self.endless and not 0 <= unit < len(self.seen):
            return None
        turn, place = divmod(unit, len(self.seen))
        pixels = self.seen[place]
        return None if pixels is None else (pixels[0] + turn * self.advance, pixels[1] + turn * self.advance)

    @property
    def size(self) -> int:
        """Pixels from the first to the last that a unit sees; of the unit that sees most, where they differ."""
        return max((last - first + 1 for first, last in filter(None, self.seen)), default=0)

    @property
    def jump(self) -> Fraction | None:
        """Pixels from one unit's field to the next one's; their mean where it varies; None where there is no rule."""
        return Fraction(self.advance, len(self.seen)) if self.endless else None

    @property
    def offset(self) -> int | None:
        """The first pixel that unit 0 sees, negative where that is padding; None where it sees nothing."""
        return None if self.seen[0] is None else self.seen[0][0]

    @property
    def is_regular(self) -> bool:
        """Whether unit y sees pixels offset + y · jump to offset + y · jump + size − 1, for every y."""
        return self.endless and len(self.seen) == 1

    def through(self, taps: Taps) -> Span:
        """Return what the outputs of an operation see."""
        if taps.is_identity:
            return self
        if not self.endless:
            table = taps.table
            return Span(tuple(_around([self.at(int(t)) for t in row if t >= 0]) for row in table), 0, endless=False)
        step, move = taps.period
        turns = len(self.seen) // math.gcd(len(self.seen), move) if move else 1
        seen = [_around([self.at(tap) for tap in taps.at(unit)]) for unit in range(turns * step)]
        return _shortest(seen, turns * move * self.advance // len(self.seen))

    def union(self, other: Span, units: int) -> Span:
        """Return what units see that see both; ``units`` of them are real."""
        if self == other:
            return self
        period = math.lcm(len(self.seen), len(other.seen))
        advances = {span.advance * period // len(span.seen) for span in (self, other)}
        if self.endless and other.endless and len(advances) == 1:
            return _shortest([_around([self.at(unit), other.at(unit)]) for unit in range(period)], advances.pop())
        return Span(tuple(_around([self.at(unit), other.at(unit)]) for unit in range(units)), 0, endless=False)


def _around(pixels: Sequence[Seen | None]) -> Seen | None:
    known = [one for one in pixels if one is not None]
    return (min(first for first, _ in known), max(last for _, last in known)) if known else None


def _shortest(seen: list[Seen | None], advance: int) -> Span:
    """Return the span with the shortest period that says the same."""
    for period in range(1, len(seen)):
        if len(seen) % period or advance * period % len(seen):
            continue
        short = Span(tuple(seen[:period]), advance * period // len(seen))
        if all(short.at(unit) == pixels for unit, pixels in enumerate(seen)):
            return short
    return Span(tuple(seen), advance)


@final
class Boxes:
    """What each unit of a map sees of the picture, clipped to it.

    Args:
        first, last: one array per axis of the picture; their shapes broadcast to that of the map.
    """

    def __init__(self, first: Sequence[Numbers], last: Sequence[Numbers]) -> None:
        self.first, self.last = tuple(first), tuple(last)

    @classmethod
    def of_picture(cls, sides: Sequence[int]) -> Boxes:
        """Return the boxes of the pixels themselves."""
        axes = range(len(sides))
        places = [
            np.arange(side, dtype=np.int32).reshape([-1 if axis == own else 1 for axis in axes])
            for own, side in enumerate(sides)
        ]
        return cls(places, places)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Boxes):
            return NotImplemented
        pairs = zip((*self.first, *self.last), (*other.first, *other.last), strict=True)
        return self is other or all(one is two or np.array_equal(one, two) for one, two in pairs)

    __hash__ = None  # type: ignore[assignment]

    def at(self, unit: Sequence[int]) -> tuple[Seen, ...] | None:
        """Return first and last pixel per axis; None where the unit sees nothing."""

        def value(numbers: Numbers) -> int:
            return int(numbers[tuple(min(place, side - 1) for place, side in zip(unit, numbers.shape, strict=True))])

        box = tuple((value(first), value(last)) for first, last in zip(self.first, self.last, strict=True))
        return None if any(first > last for first, last in box) else box

    def through(self, axis: int, taps: Taps) -> Boxes:
        """Return what the outputs of an operation along one axis see."""
        if taps.is_identity:
            return self
        table = taps.table
        if (table < 0).all(1).any():  # a unit that sees nothing along one axis sees nothing along the others
            return self._each(axis, table, along=taps.inputs)
        return self._each(axis, table, along=None)

    def _each(self, axis: int, table: NDArray[np.int64], along: int | None) -> Boxes:
        first = [_gather(numbers, axis, table, along, np.minimum, _NOTHING) for numbers in self.first]
        last = [_gather(numbers, axis, table, along, np.maximum, -_NOTHING) for numbers in self.last]
        return Boxes(first, last)

    def union(self, other: Boxes) -> Boxes:
        """Return what units see that see both."""
        if self is other:
            return self
        first, last, other_first, other_last = self.first, self.last, other.first, other.last
        return Boxes(
            [np.minimum(one, two) for one, two in zip(first, other_first, strict=True)],
            [np.maximum(one, two) for one, two in zip(last, other_last, strict=True)],
        )


def _gather(
    numbers: Numbers, axis: int, table: NDArray[np.int64], along: int | None, least: np.ufunc, nothing: int
) -> Numbers:
    """Reduce, for each output, over the inputs that it sees. ``along`` spreads a constant axis to so many first."""
    if along is None and numbers.shape[axis] == 1:
        return numbers
    if numbers.shape[axis] == 1 and along is not None:
        numbers = np.repeat(numbers, along, axis)
    blank = np.full([1 if own == axis else side for own, side in enumerate(numbers.shape)], nothing, dtype=np.int32)
    numbers = np.concatenate([numbers, blank], axis)  # position -1 sees nothing
    taken = [np.take(numbers, column, axis) for column in table.T]
    result: Numbers = taken[0]
    for one in taken[1:]:
        result = least(result, one)
    return result


@final
@dataclass(frozen=True, eq=False)
class Field:
    """What the units of a map see: ``spans`` in theory, one per axis of the picture, ``boxes`` each for itself.

    Args:
        sides: how many units the map has along each axis of the picture; 1 where the axis is gone.
    """

    spans: tuple[Span, ...]
    boxes: Boxes
    sides: tuple[int, ...]

    @classmethod
    def of_picture(cls, sides: Sequence[int]) -> Field:
        """Return the field of the pixels: each sees itself."""
        return cls((Span(((0, 0),), 1),) * len(sides), Boxes.of_picture(sides), tuple(sides))

    def through(self, axis: int, taps: Taps) -> Field:
        """Return the field of the outputs of an operation along one axis."""
        if taps.is_identity:
            return self
        spans = tuple(span.through(taps) if own == axis else span for own, span in enumerate(self.spans))
        sides = tuple(taps.outputs if own == axis else side for own, side in enumerate(self.sides))
        return Field(spans, self.boxes.through(axis, taps), sides)

    def union(self, other: Field) -> Field:
        """Return the field of units that see both; the maps must be of one size."""
        if self is other or self == other:
            return self
        spans = tuple(one.union(two, side) for one, two, side in zip(self.spans, other.spans, self.sides, strict=True))
        return Field(spans, self.boxes.union(other.boxes), self.sides)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Field) and (
            self is other or (self.sides == other.sides and self.spans == other.spans and self.boxes == other.boxes)
        )

    __hash__ = None  # type: ignore[assignment]
