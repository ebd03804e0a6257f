from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from striate.networks.shapes import Window, projection_stride, same_padding, slide, windows

SMALL = st.integers(1, 6)


@settings(deadline=None, max_examples=100)
@given(width=st.integers(1, 20), kernel=SMALL, stride=SMALL, before=st.integers(0, 3), dilation=st.integers(1, 3))
def test_outputs_and_lost_pixels_are_what_a_walk_finds(
    width: int, kernel: int, stride: int, before: int, dilation: int
) -> None:
    window = Window(kernel, stride, before, before, dilation)
    starts = []
    start = -before
    while start + window.extent <= width + before:
        starts.append(start)
        start += stride
    assert window.outputs(width) == len(starts)
    assume(starts)
    assert window.lost(width) == max(0, width - (starts[-1] + window.extent))
    assert window.overhang(width) == max(0, starts[-1] + window.extent - width)


@settings(deadline=None, max_examples=100)
@given(width=st.integers(1, 20), kernel=SMALL, stride=SMALL, padding=st.integers(0, 3))
def test_ceil_is_pytorchs(width: int, kernel: int, stride: int, padding: int) -> None:
    assume(padding <= kernel // 2 and kernel <= width + 2 * padding)
    window = Window(kernel, stride, padding, padding, ceil=True)
    pooled = F.max_pool1d(torch.zeros(1, 1, width), kernel, stride, padding, ceil_mode=True)
    assert window.outputs(width) == pooled.shape[-1]
    assert window.lost(width) == 0


@settings(deadline=None, max_examples=100)
@given(width=st.integers(1, 30), kernel=SMALL, stride=SMALL)
def test_same_padding_leaves_the_ceiling(width: int, kernel: int, stride: int) -> None:
    before, after = same_padding(width, kernel, stride)
    assert Window(kernel, stride, before, after).outputs(width) == math.ceil(width / stride)
    assert after - before in (0, 1)


def test_worked_sizes() -> None:
    assert slide(windows((5, 5), (1, 1), (2, 2)), (32, 32)) == (32, 32)
    assert slide(windows((5, 5), (1, 1), (0, 0)), (32, 32)) == (28, 28)
    assert Window(5, 3).exact(28) == pytest.approx(8.67, abs=0.01)
    assert Window(5, 3).lost(28) == 2
    assert Window(7, 2, 3, 3).lost(224) == 0
    assert Window(5).outputs(4) == 0


def test_projection_stride() -> None:
    assert projection_stride(56, 28) == 2
    assert projection_stride(7, 4) == 2
    assert projection_stride(9, 9) == 1
    assert projection_stride(9, 6) is None
    assert projection_stride(9, 12) is None
