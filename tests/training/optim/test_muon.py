from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st_

import striate as st
from striate.training.optim import Updater
from striate.training.optim.muon import orthogonalise
from tests.training.optim.steps import RATES, assert_same, give_gradients, small, updated


def by_singular_values(matrix: np.ndarray) -> np.ndarray:
    """Return U p(S) Vᵀ, p the iterated polynomial of the singular values: what the iterations amount to."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.sqrt((s**2).sum())
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ v


@given(st_.integers(1, 12), st_.integers(1, 12), st_.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_iterations_act_on_singular_values_alone(rows: int, columns: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(rows, columns))
    found = orthogonalise(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(found, by_singular_values(matrix), atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(64, 576), (200, 27), (32, 32)])
def test_directions_come_out_alike(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)), full_matrices=False)
    uneven = (u * torch.logspace(0, -1.5, min(shape))) @ v  # the weakest direction is 32 times as weak
    values = torch.linalg.svdvals(orthogonalise(uneven.to(dtype)).float())
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_no_gradient_is_no_direction() -> None:
    assert torch.equal(orthogonalise(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_filters_and_matrices_follow_the_formula_and_the_rest_adamw() -> None:
    recipe = st.Recipe(optimizer="muon", momentum=0.8, weight_decay=0.3, precision="fp32")
    expected = updated(recipe.changed(optimizer="adamw"))
    start = small()
    for name in ("0", "3"):  # the convolution and the matrix within the network
        weight = start.body.get_parameter(f"{name}.weight").detach().numpy().copy()
        velocity = np.zeros_like(weight)
        for step, rate in enumerate(RATES):
            give_gradients(start, step)
            gradient = start.body.get_parameter(f"{name}.weight").grad.numpy()  # type: ignore[union-attr]
            velocity = 0.8 * velocity + gradient
            matrix = (gradient + 0.8 * velocity).reshape(len(weight), -1)
            factor = 0.2 * np.sqrt(max(matrix.shape))
            weight = weight * (1 - rate * 0.3) - rate * factor * by_singular_values(matrix).reshape(weight.shape)
        expected.body.get_parameter(f"{name}.weight").data.copy_(torch.from_numpy(weight))
    assert_same(updated(recipe), expected)


def test_an_update_is_about_as_large_as_one_by_adamw() -> None:
    """Which is what makes the two share a learning rate: a root mean square of 0.2 of it, less in narrow layers."""
    layer = torch.nn.Sequential(torch.nn.Conv2d(16, 64, 3, bias=False), torch.nn.Flatten(), torch.nn.Linear(64, 2))
    updater = Updater(layer, st.Recipe(optimizer="muon", weight_decay=0.0))
    before = layer[0].weight.detach().clone()
    give_gradients(layer, 0)
    updater.step(0, 1.0)
    moved = (layer[0].weight - before).square().mean().sqrt().item()
    assert moved == pytest.approx(0.2, rel=0.15)


@pytest.mark.parametrize("weakest", [-3, -6])
def test_single_precision_is_enough(weakest: int) -> None:
    u, _, v = torch.linalg.svd(torch.randn(96, 300, generator=torch.Generator().manual_seed(0)), full_matrices=False)
    matrix = (u * torch.logspace(0, weakest, 96)) @ v
    exact = torch.from_numpy(by_singular_values(matrix.double().numpy())).float()
    assert torch.linalg.matrix_norm(orthogonalise(matrix) - exact, 2) < 0.005  # of singular values near 1
