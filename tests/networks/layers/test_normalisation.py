from __future__ import annotations

import numpy as np
import torch

from striate.networks.layers import local_response_norm


def paper(
    x: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """AlexNet's formula: b_i = a_i / (2 + 1e-4 Σ a_j²)^0.75 over the 5 channels around i."""
    out = np.zeros_like(x)
    for n, i, h, w in np.ndindex(*x.shape):
        around = range(max(0, i - 2), min(x.shape[1] - 1, i + 2) + 1)
        out[n, i, h, w] = x[n, i, h, w] / (2 + 1e-4 * sum(x[n, j, h, w] ** 2 for j in around)) ** 0.75
    return out


def test_local_response_norm_is_alexnets() -> None:
    x = np.random.default_rng(0).normal(size=(2, 7, 2, 2)) * 50
    images = torch.tensor(x, requires_grad=True)
    out = local_response_norm()(images)
    np.testing.assert_allclose(out.detach().numpy(), paper(x), rtol=1e-12)

    out.sum().backward()
    step = 1e-5
    for index in np.ndindex(*x.shape):
        above, below = x.copy(), x.copy()
        above[index] += step
        below[index] -= step
        slope = (paper(above).sum() - paper(below).sum()) / (2 * step)
        assert images.grad is not None
        assert abs(float(images.grad[index]) - slope) < 1e-7
