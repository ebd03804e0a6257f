"""Pools against loops written from their formulas, in float64, forward and backward."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from striate.networks.layers import BlurPool, GlobalAveragePool, GlobalMaxPool, L2Pool, MedianPool, SumPool

Array = NDArray[np.float64]
Size = tuple[int, ...]

# axes, window, stride, padding, ceil
GEOMETRIES = [
    ((9,), (3,), (2,), (1,), False),
    ((8,), (3,), (3,), (0,), True),
    ((6, 7), (2, 2), (2, 2), (0, 0), False),
    ((7, 7), (2, 2), (2, 2), (0, 0), True),
    ((7, 6), (3, 2), (2, 1), (1, 1), False),
    ((8, 7), (3, 3), (2, 3), (1, 1), True),
    ((5, 5), (2, 2), (4, 4), (0, 0), True),
    ((4, 5, 4), (2, 3, 2), (2, 2, 1), (1, 0, 1), True),
]


def reference(x: Array, window: Size, stride: Size, padding: Size, ceil: bool, pool: Callable[..., float]) -> Array:
    """``pool(values, taps)`` of the real pixels under each window of every map of x: (N, C, …)."""
    sizes = x.shape[2:]
    places = [
        list(_starts(size, *axis, ceil))
        for size, axis in zip(sizes, zip(window, stride, padding, strict=True), strict=True)
    ]
    out = np.zeros((*x.shape[:2], *map(len, places)))
    for map_index in np.ndindex(*x.shape[:2]):
        for place in np.ndindex(*map(len, places)):
            starts = [places[axis][number] for axis, number in enumerate(place)]
            taps = [
                tap
                for tap in itertools.product(*map(range, window))
                if all(0 <= start + t < size for start, t, size in zip(starts, tap, sizes, strict=True))
            ]
            values = [x[(*map_index, *(start + t for start, t in zip(starts, tap, strict=True)))] for tap in taps]
            out[(*map_index, *place)] = pool(np.array(values), taps)
    return out


def _starts(size: int, window: int, stride: int, padding: int, ceil: bool) -> Iterator[int]:
    start = -padding
    while start + window <= size + padding or (ceil and start < size and start - stride + window < size + padding):
        yield start
        start += stride


def total(values: Array, _taps: list[Size]) -> float:
    return float(sum(values))


def norm(values: Array, _taps: list[Size]) -> float:
    return math.sqrt(sum(value * value for value in values))


def median(values: Array, _taps: list[Size]) -> float:
    ranked = sorted(values)
    return float(ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2


def blur_of(window: Size) -> Callable[[Array, list[Size]], float]:
    def blur(values: Array, taps: list[Size]) -> float:
        weights = [math.prod(math.comb(w - 1, t) for w, t in zip(window, tap, strict=True)) for tap in taps]
        return float(np.dot(values, weights) / sum(weights))

    return blur


def central_differences(function: Callable[[Array], Array], x: Array, upstream: Array) -> Array:
    """d(Σ upstream · function(x)) / dx, one element at a time."""
    gradient = np.zeros_like(x)
    step = 1e-6
    for index in np.ndindex(*x.shape):
        shifted = [x.copy(), x.copy()]
        shifted[0][index] += step
        shifted[1][index] -= step
        above, below = (float((upstream * function(value)).sum()) for value in shifted)
        gradient[index] = (above - below) / (2 * step)
    return gradient


@pytest.mark.parametrize(("sizes", "window", "stride", "padding", "ceil"), GEOMETRIES)
@pytest.mark.parametrize("kind", [SumPool, L2Pool, MedianPool, BlurPool])
def test_forward_and_gradient_are_those_of_the_loop(
    kind: type[nn.Module], sizes: Size, window: Size, stride: Size, padding: Size, ceil: bool
) -> None:
    pool = {SumPool: total, L2Pool: norm, MedianPool: median, BlurPool: blur_of(window)}[kind]
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 2, *sizes))

    def loop(values: Array) -> Array:
        return reference(values, window, stride, padding, ceil, pool)

    images = torch.tensor(x, requires_grad=True)
    out = kind(window, stride, padding, ceil)(images)
    expected = loop(x)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-12, atol=1e-12)

    upstream = random.normal(size=expected.shape)
    out.backward(torch.tensor(upstream))
    assert images.grad is not None
    np.testing.assert_allclose(images.grad.numpy(), central_differences(loop, x, upstream), rtol=1e-6, atol=1e-8)


def test_l2_pool_has_gradient_zero_where_its_window_is_zero() -> None:
    images = torch.zeros(1, 1, 4, 4, requires_grad=True)
    L2Pool((2, 2))(images).sum().backward()
    assert images.grad is not None
    assert torch.equal(images.grad, torch.zeros(1, 1, 4, 4))


def test_stride_defaults_to_the_size() -> None:
    assert SumPool((2, 3))(torch.ones(1, 1, 4, 6)).tolist() == [[[[6.0, 6.0], [6.0, 6.0]]]]


def test_a_pool_of_two_keeps_the_depth_and_a_quarter_of_the_activations() -> None:
    maps = torch.zeros(1, 12, 32, 32)
    for kind in (SumPool, L2Pool, MedianPool, BlurPool):
        pooled = kind((2, 2))(maps)
        assert pooled.shape[1] == 12
        assert pooled.numel() * 4 == maps.numel()


def test_blur_pool_keeps_an_even_grey_at_the_border() -> None:
    grey = torch.full((1, 2, 7, 7), 0.3)
    assert torch.allclose(BlurPool((3, 3), (2, 2), (1, 1))(grey), torch.full((1, 2, 4, 4), 0.3))


def test_blur_pool_changes_less_than_subsampling_under_a_shift() -> None:
    stripes = (torch.arange(33) % 6 < 3).double().expand(1, 1, 33, 33)
    first, second = stripes[..., :32, :32], stripes[..., :32, 1:]

    def change(pool: nn.Module) -> float:
        return float((pool(first) - pool(second)).abs().mean())

    assert change(BlurPool((5, 5), (2, 2))) < 0.85 * change(BlurPool((1, 1), (2, 2)))


@pytest.mark.parametrize("sizes", [(5,), (3, 4), (2, 3, 4)])
def test_global_pools(sizes: Size) -> None:
    x = np.random.default_rng(1).normal(size=(2, 3, *sizes))
    images = torch.tensor(x, requires_grad=True)
    count = math.prod(sizes)

    GlobalAveragePool()(images).sum().backward()
    assert images.grad is not None
    np.testing.assert_allclose(images.grad.numpy(), 1 / count, rtol=1e-12)
    images.grad = None

    largest = GlobalMaxPool()(images)
    largest.sum().backward()
    assert images.grad is not None
    for map_index in np.ndindex(2, 3):
        values = x[map_index]
        assert float(GlobalAveragePool()(images.detach())[map_index]) == pytest.approx(
            sum(values.flat) / count, abs=1e-12
        )
        assert float(largest[map_index].detach()) == max(values.flat)
        assert np.array_equal(images.grad.numpy()[map_index], values == max(values.flat))
