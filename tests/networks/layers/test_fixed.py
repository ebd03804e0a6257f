from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from striate.core.errors import NetworkError
from striate.networks.layers import KERNELS, FixedConv


@pytest.mark.parametrize("name", KERNELS)
def test_forward_and_gradient_are_those_of_the_loop(name: str) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 2, 5, 4))
    kernels: NDArray[np.float64] = np.array(KERNELS[name])
    count, size, _ = kernels.shape
    expected, gradient = np.zeros((1, 2 * count, 5, 4)), np.zeros_like(x)
    upstream = random.normal(size=expected.shape)
    for c, k, h, w, i, j in np.ndindex(2, count, 5, 4, size, size):
        row = min(max(h + i - size // 2, 0), 4)
        column = min(max(w + j - size // 2, 0), 3)
        expected[0, c * count + k, h, w] += float(kernels[k, i, j]) * x[0, c, row, column]
        gradient[0, c, row, column] += float(kernels[k, i, j]) * upstream[0, c * count + k, h, w]

    images = torch.tensor(x, requires_grad=True)
    out = FixedConv(name, 2).double()(images)
    out.backward(torch.tensor(upstream))
    assert images.grad is not None
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-6, atol=1e-6)  # 1/9 is rounded to float32
    np.testing.assert_allclose(images.grad.numpy(), gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["edge", "sobel", "kirsch", "curve"])
def test_an_even_grey_has_no_edges(name: str) -> None:
    assert FixedConv(name, 1)(torch.full((1, 1, 9, 9), 0.7)).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["sharpen", "blur", "emboss"])
def test_an_even_grey_stays_as_it_is(name: str) -> None:
    assert torch.allclose(FixedConv(name, 1)(torch.full((1, 1, 9, 9), 0.7)), torch.tensor(0.7))


def test_kirsch_answers_most_in_the_direction_of_the_bright_side() -> None:
    north = torch.zeros(1, 1, 3, 3)
    north[..., 0, :] = 1
    west = north.transpose(2, 3)
    detector = FixedConv("kirsch", 1)
    assert int(detector(north)[0, :, 1, 1].argmax()) == 0
    assert int(detector(west)[0, :, 1, 1].argmax()) == 2
    assert len(set(KERNELS["kirsch"])) == 8


def test_the_curve_detector_is_high_on_its_curve_and_near_zero_elsewhere() -> None:
    drawn = (torch.tensor(KERNELS["curve"][0]) > 0).float()
    detector = FixedConv("curve", 1)

    def answer(picture: torch.Tensor) -> float:
        return float(detector(picture.view(1, 1, 7, 7))[0, 0, 3, 3])

    assert answer(drawn) == pytest.approx(1, abs=1e-6)
    others = [
        drawn.flip(0),
        drawn.flip(1),
        drawn.flip(0, 1),
        torch.ones(7, 7),
        torch.zeros(7, 7),
        torch.eye(7),
    ]
    rows = [torch.zeros(7, 7).index_fill(axis, torch.tensor([n]), 1) for n in range(7) for axis in (0, 1)]
    assert max(map(answer, others)) < 0.2
    assert max(map(answer, rows)) < 0.2


def test_the_weights_are_saved_but_never_trained() -> None:
    layer = FixedConv("sobel", 3)
    assert not list(layer.parameters())
    assert list(layer.state_dict()) == ["weight"]
    assert layer(torch.zeros(1, 3, 4, 4)).shape == (1, 6, 4, 4)


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(NetworkError, match=r"No kernel named 'sobl'\. Did you mean 'sobel'\?"):
        FixedConv("sobl", 1)
