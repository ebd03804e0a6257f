"""The arithmetic of sliding windows: output sizes, padding to "same", rows that no window reaches.

Along each axis, W pixels under a window of K pixels moved by S, with P pixels of padding in all, give
O = floor((W − K + P) / S) + 1 outputs. Everything that slides (convolution, pooling) counts with this file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
"""One example without its N: (C, H, W), (C, L), (C, D, H, W), or (F,) where it is flat."""


@dataclass(frozen=True)
class Window:
    """A window sliding along one axis.

    Args:
        kernel: pixels under the window, before dilation.
        stride: pixels between two neighbouring positions.
        before, after: pixels of padding at the start and at the end.
        dilation: pixels between two neighbouring taps.
        ceil: whether a last window may hang over the end (PyTorch's ``ceil_mode``), as long as it starts on a
            real pixel or on the padding before it.
    """

    kernel: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def extent(self) -> int:
        """The pixels from its first tap to its last: K_eff = dilation · (K − 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    def room(self, width: int) -> int:
        """How far the window can travel: W − K_eff + P; negative where it does not fit."""
        return width + self.before + self.after - self.extent

    def outputs(self, width: int) -> int:
        """The number of positions over ``width`` pixels; 0 where the window does not fit."""
        room = self.room(width)
        if room < 0:
            return 0
        if not self.ceil:
            return room // self.stride + 1
        positions = -(-room // self.stride) + 1
        starts_beyond = (positions - 1) * self.stride >= width + self.before
        return positions - 1 if starts_beyond else positions

    def exact(self, width: int) -> float:
        """The same before rounding: (W − K_eff + P) / S + 1."""
        return self.room(width) / self.stride + 1

    def lost(self, width: int) -> int:
        """Real pixels at the end that no window reaches: max(0, r − P_after), r = (W + P − K_eff) mod S."""
        if self.ceil or self.room(width) < 0:
            return 0
        return max(0, self.room(width) % self.stride - self.after)

    def overhang(self, width: int) -> int:
        """Pixels that the last window needs after the last real one: padding, and beyond it with ``ceil``."""
        last_end = (self.outputs(width) - 1) * self.stride + self.extent - self.before
        return max(0, last_end - width)


def windows(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], *, ceil: bool = False
) -> tuple[Window, ...]:
    """One Window per axis, padded alike on both sides."""
    axes = zip(kernel, stride, padding, strict=True)
    return tuple(Window(k, s, before=p, after=p, ceil=ceil) for k, s, p in axes)


def slide(over: Sequence[Window], sizes: Sequence[int]) -> tuple[int, ...]:
    """The output size along every axis."""
    return tuple(window.outputs(size) for window, size in zip(over, sizes, strict=True))


def same_padding(width: int, extent: int, stride: int) -> tuple[int, int]:
    """Padding (before, after) that leaves ceil(W / S) outputs; the odd pixel goes after, as in TensorFlow."""
    outputs = math.ceil(width / stride)
    total = max(0, (outputs - 1) * stride + extent - width)
    return total // 2, total - total // 2


def projection_stride(width: int, outputs: int) -> int | None:
    """The smallest stride with which a 1×1 window leaves ``outputs`` of ``width`` pixels, or None."""
    stride = math.ceil(width / outputs)
    return stride if Window(1, stride).outputs(width) == outputs else None
