"""Along one axis: which positions of its input each position of an operation's output sees.

The arithmetic of convolution, pooling and their relatives: V. Dumoulin, F. Visin, A guide to convolution arithmetic for
deep learning, arXiv 1603.07285.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Outside = Literal["nothing", "reflect", "replicate", "circular"]


@dataclass(frozen=True)
class Taps:
    """What the outputs see.

    Args:
        inputs: number of input positions.
        outputs: number of output positions.
        at: output position → the input positions that it sees; some may lie outside 0 … inputs − 1.
        period: (p, q): what output position y + p sees lies q input positions further than what y sees.
        outside: what stands there; ``nothing`` for zeros and constants.
    """

    inputs: int
    outputs: int
    at: Callable[[int], Sequence[int]]
    period: tuple[int, int]
    outside: Outside = "nothing"

    @property
    def is_identity(self) -> bool:
        """Whether every output sees the input at its own position, and that alone."""
        return self.inputs == self.outputs and self.period == (1, 1) and list(self.at(0)) == [0]

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """(outputs, T) real input positions; -1 fills the rows of those that see fewer."""
        rows = [sorted({self._real(tap) for tap in self.at(place)} - {-1}) for place in range(self.outputs)]
        table = np.full((self.outputs, max(1, max(map(len, rows)))), -1, dtype=np.int64)
        for place, row in enumerate(rows):
            table[place, : len(row)] = row
        return table

    def _real(self, tap: int) -> int:
        if 0 <= tap < self.inputs:
            return tap
        if self.outside == "replicate":
            return min(max(tap, 0), self.inputs - 1)
        if self.outside == "circular":
            return tap % self.inputs
        if self.outside == "reflect":
            around = tap % (2 * self.inputs - 2) if self.inputs > 1 else 0
            return min(around, 2 * self.inputs - 2 - around)
        return -1


def window(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Taps:
    """A kernel that is moved over the input: convolution and pooling. ``padding`` is that before the first position."""
    return Taps(
        inputs,
        outputs,
        lambda y: range(y * stride - padding, y * stride - padding + kernel * dilation, dilation),
        (1, stride),
    )


def transposed(inputs: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> Taps:
    """Transposed convolution: an input is seen wherever the kernel, moved by its stride, spreads it."""

    def at(y: int) -> list[int]:
        reached = [y + padding - tap * dilation for tap in range(kernel)]
        return [place // stride for place in reached if place % stride == 0]

    return Taps(inputs, outputs, at, (stride, 1))


def adaptive(inputs: int, outputs: int) -> Taps:
    """Adaptive pooling: output y sees ⌊y·I/O⌋ to ⌈(y + 1)·I/O⌉ − 1. One output sees all: global pooling."""
    common = math.gcd(inputs, outputs)
    return Taps(
        inputs,
        outputs,
        lambda y: range(y * inputs // outputs, -(-(y + 1) * inputs // outputs)),
        (outputs // common, inputs // common),
    )


def broadcast(outputs: int) -> Taps:
    """One input position, seen by every output."""
    return Taps(1, outputs, lambda y: (0,), (1, 0))


def pick(inputs: int, outputs: int, start: int, step: int) -> Taps:
    """A slice: output y is input start + y · step."""
    return Taps(inputs, outputs, lambda y: (start + y * step,), (1, step))


def pad(inputs: int, outputs: int, before: int, outside: Outside) -> Taps:
    """Padding, of which a negative amount crops."""
    return Taps(inputs, outputs, lambda y: (y - before,), (1, 1), outside)


def repeat(inputs: int, outputs: int, factor: int) -> Taps:
    """Every input becomes ``factor`` outputs: pixel shuffling, along each axis."""
    return Taps(inputs, outputs, lambda y: (y // factor,), (factor, 1))


def interpolate(inputs: int, outputs: int, scale: Fraction, reach: int, *, align_corners: bool = False) -> Taps:
    """Interpolation, as PyTorch places its samples.

    Args:
        inputs, outputs: positions.
        scale: input positions per output position.
        reach: 0 for nearest, 1 for linear (two neighbours), 2 for cubic (four).
        align_corners: whether the first and last positions of both fall on each other.
    """
    if align_corners:
        scale = Fraction(inputs - 1, max(1, outputs - 1))

    def at(y: int) -> Sequence[int]:
        if reach == 0:
            return (math.floor(y * scale),)
        source = y * scale if align_corners else (y + Fraction(1, 2)) * scale - Fraction(1, 2)
        if not align_corners and reach == 1:
            source = max(source, Fraction(0)) if y >= 0 else source
        nearest = math.floor(source)
        return (nearest,) if source == nearest else range(nearest - reach + 1, nearest + reach + 1)

    return Taps(inputs, outputs, at, (scale.denominator, scale.numerator), "replicate")
