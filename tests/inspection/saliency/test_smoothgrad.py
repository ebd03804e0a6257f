from __future__ import annotations

import torch

from striate.inspection.saliency.gradient import gradient, input_gradients
from striate.inspection.saliency.smoothgrad import NOISE, smoothgrad
from tests.inspection.saliency.references import TARGETS, inputs, small


def test_it_is_the_mean_gradient_of_noisy_pictures() -> None:
    network, pictures = small(), inputs(1)
    generator = torch.Generator().manual_seed(0)
    spread = NOISE * (pictures.max() - pictures.min())
    total = torch.zeros_like(pictures)
    for _ in range(4):
        noise = torch.randn(2, 12, 12, generator=generator).double()
        total += input_gradients(network, pictures + noise * spread, TARGETS[:1])
    torch.testing.assert_close(smoothgrad(network, pictures, TARGETS[:1], samples=4), (total / 4).abs().amax(1))


def test_of_a_linear_network_it_is_the_gradient() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(288, 3)).double()
    pictures = inputs()
    torch.testing.assert_close(smoothgrad(network, pictures, TARGETS), gradient(network, pictures, TARGETS))


def test_the_noise_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first = smoothgrad(small(), inputs(), TARGETS, samples=2)
    assert torch.equal(first, smoothgrad(small(), inputs(), TARGETS, samples=2))
    assert torch.equal(torch.get_rng_state(), before)
