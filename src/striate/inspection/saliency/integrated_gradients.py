"""Integrated gradients: the change of the logit from no picture to the picture, shared out among the pixels.

M. Sundararajan, A. Taly, Q. Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, section 3: gradients along the
straight line from a baseline to the picture, times the way. They are complete: their sum is the logit of the picture
minus that of the baseline, which the maps here state how well they keep. Difference: the baseline is the mean colour of
the data instead of black.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from striate.inspection.saliency.gradient import input_gradients
from striate.inspection.saliency.registry import METHODS, Method, score

STEPS = 32


def integrated_gradients(network: nn.Module, inputs: Tensor, targets: Tensor, *, steps: int = STEPS) -> Tensor:
    """Return each pixel's share in the logit, summed over the channels, negative where it speaks against: (N, H, W).

    Args:
        network: in evaluation mode.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
        steps: of the midpoint rule.
    """
    total = torch.zeros_like(inputs)
    for step in range(steps):
        total += input_gradients(network, inputs * ((step + 0.5) / steps), targets)
    return (inputs * total / steps).sum(1)


def completeness_gap(network: nn.Module, inputs: Tensor, targets: Tensor, maps: Tensor) -> Tensor:
    """Return what the sums of maps exceed the change of the logit from the baseline to the picture by: (N,) logits."""
    change = score(network, inputs, targets) - score(network, torch.zeros_like(inputs), targets)
    return maps.sum((1, 2)) - change


METHODS.add("integrated_gradients")(
    Method(
        "Integrated gradients",
        integrated_gradients,
        "share in the logit; below 0 it speaks against the class",
        "Sundararajan et al. 2017",
        completeness_gap,
    )
)
