from __future__ import annotations

import pytest
import torch
from captum.attr import Saliency

from striate.inspection.saliency.gradient import gradient, input_gradients
from tests.inspection.saliency.references import TARGETS, inputs, small


def test_it_is_the_slope_of_the_logit() -> None:
    network, pictures = small(), inputs(1)
    found = input_gradients(network, pictures, TARGETS[:1])
    step = 1e-6
    with torch.no_grad():
        for place in [(0, 3, 4), (1, 0, 0), (0, 11, 11), (1, 6, 6)]:
            moved = pictures.clone()
            moved[0][place] += step
            slope = (network(moved) - network(pictures))[0, TARGETS[0]] / step
            assert float(found[0][place]) == pytest.approx(float(slope), abs=1e-6)


def test_it_agrees_with_captum() -> None:
    network, pictures = small(), inputs()
    theirs = Saliency(network).attribute(pictures.clone().requires_grad_(), target=TARGETS, abs=True)
    torch.testing.assert_close(gradient(network, pictures, TARGETS), theirs.detach().amax(1))


def test_an_answer_that_does_not_depend_on_the_picture() -> None:
    class Same(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(2))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.bias.expand(len(images), 2)

    assert not gradient(Same(), torch.ones(1, 1, 4, 4), torch.tensor([1])).any()
