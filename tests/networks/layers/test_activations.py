from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from striate.networks.layers import Maxout, ScaledTanh


def test_scaled_tanh_and_its_gradient() -> None:
    x = np.linspace(-4, 4, 41)
    values = torch.tensor(x, requires_grad=True)
    out = ScaledTanh()(values)
    out.sum().backward()
    assert values.grad is not None
    for place, number in enumerate(x):
        tanh = math.tanh(2 * number / 3)
        assert float(out[place].detach()) == pytest.approx(1.7159 * tanh, abs=1e-12)
        assert float(values.grad[place]) == pytest.approx(1.7159 * (1 - tanh**2) * 2 / 3, abs=1e-12)


def test_scaled_tanh_keeps_one() -> None:
    assert float(ScaledTanh()(torch.tensor(1.0))) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("sizes", [(), (4,), (3, 2), (2, 2, 2)])
@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_maxout_takes_the_largest_of_neighbouring_channels(sizes: tuple[int, ...], pieces: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, *sizes))
    images = torch.tensor(x, requires_grad=True)
    out = Maxout(pieces)(images)
    assert out.shape == (2, 6 // pieces, *sizes)

    upstream = np.random.default_rng(1).normal(size=tuple(out.shape))
    out.backward(torch.tensor(upstream))
    gradient = np.zeros_like(x)
    for n, group, *place in np.ndindex(*out.shape):
        members = [(n, group * pieces + member, *place) for member in range(pieces)]
        winner = max(members, key=lambda index: x[index])
        assert float(out[(n, group, *place)].detach()) == x[winner]
        gradient[winner] = upstream[(n, group, *place)]
    assert images.grad is not None
    assert np.array_equal(images.grad.numpy(), gradient)
