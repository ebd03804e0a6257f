from __future__ import annotations

import warnings

import pytest
import torch
from captum.attr import GuidedBackprop
from torch import Tensor, nn

from striate.inspection.backward import Rule
from striate.inspection.saliency.gradient import input_gradients
from striate.inspection.saliency.guided_backpropagation import guided_backpropagation
from tests.inspection.saliency.references import TARGETS, inputs, small


def test_it_agrees_with_captum() -> None:
    network, pictures = small(), inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it sets hooks
        theirs = GuidedBackprop(network).attribute(pictures.clone(), target=TARGETS)
    torch.testing.assert_close(guided_backpropagation(network, pictures, TARGETS), theirs.abs().amax(1))


def test_by_hand() -> None:
    first, second = torch.tensor([[1.0, -2.0], [3.0, 1.0], [-1.0, -1.0]]), torch.tensor([[1.0, -1.0, 1.0]])
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(first)
        network[3].weight.copy_(second)
    # Before the ReLU there are 0.3, 1.6 and −0.6: the second unit's gradient is negative, the third is inactive.
    back = input_gradients(network, torch.tensor([[[[0.5, 0.1]]]]), torch.tensor([0]), "guided")
    torch.testing.assert_close(back.flatten(), first[0])


@pytest.mark.parametrize("rule", ["gradient", "deconvolution", "guided"])
def test_every_way_of_writing_relu_goes_backwards_alike(rule: Rule) -> None:
    def in_place_method(values: Tensor) -> Tensor:
        return (values + 0).relu_()

    ways = [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.functional.relu,
        lambda values: nn.functional.relu(values, inplace=True),
        torch.relu,
        torch.relu_,
        Tensor.relu,
        in_place_method,
    ]

    class Rectifier(nn.Module):
        way = 0

        def forward(self, values: Tensor) -> Tensor:
            rectified: Tensor = ways[Rectifier.way](values)
            return rectified

    network, pictures, found = small(Rectifier), inputs(), []
    for Rectifier.way in range(len(ways)):
        found.append(input_gradients(network, pictures, TARGETS, rule))
    assert found[0].any()
    for one in found[1:]:
        assert torch.equal(one, found[0])
