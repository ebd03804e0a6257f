from __future__ import annotations

import torch
from captum.attr import IntegratedGradients
from torch import nn

from striate.inspection.saliency.integrated_gradients import completeness_gap, integrated_gradients
from tests.inspection.saliency.references import TARGETS, inputs, small


def test_it_agrees_with_captum() -> None:
    network, pictures = small(), inputs()
    theirs = IntegratedGradients(network).attribute(pictures, target=TARGETS, n_steps=9, method="riemann_middle")
    torch.testing.assert_close(integrated_gradients(network, pictures, TARGETS, steps=9), theirs.sum(1))


def test_of_a_quadratic_it_is_known() -> None:
    class Squares(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (images**2).sum((1, 2, 3))[:, None]

    pictures = inputs(2)
    maps = integrated_gradients(Squares(), pictures, torch.zeros(2, dtype=torch.long), steps=1)
    torch.testing.assert_close(maps, (pictures**2).sum(1))  # the midpoint rule is exact where the gradient is linear


def test_the_gap_is_what_the_sum_misses() -> None:
    network, pictures = small(), inputs()
    maps = integrated_gradients(network, pictures, TARGETS)
    with torch.no_grad():
        change = (network(pictures) - network(torch.zeros_like(pictures))).gather(1, TARGETS[:, None])[:, 0]
    gap = completeness_gap(network, pictures, TARGETS, maps)
    torch.testing.assert_close(gap, maps.sum((1, 2)) - change)
    assert gap.abs().max() < 0.1 * change.abs().max()
    fine = completeness_gap(network, pictures, TARGETS, integrated_gradients(network, pictures, TARGETS, steps=256))
    assert fine.abs().max() < 0.5 * gap.abs().max()
