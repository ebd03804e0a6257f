"""Guided backpropagation: the gradient, of which each ReLU lets back only what is positive where it was active.

J. T. Springenberg, A. Dosovitskiy, T. Brox, M. Riedmiller, "Striving for Simplicity: The All Convolutional Net", ICLR
2015 workshop, section 3.4. Its pictures are sharp, but Adebayo et al. 2018 found them nearly the same for a network of
random weights; the check that comes with each map says whether this one is. A network without ReLU has it equal to the
gradient.
"""

from __future__ import annotations

from torch import Tensor, nn

from striate.inspection.saliency.gradient import input_gradients, strongest
from striate.inspection.saliency.registry import METHODS, Method


def guided_backpropagation(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the largest magnitude among the channels of what comes back to each pixel: (N, H, W).

    Args:
        network: in evaluation mode.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
    """
    return strongest(input_gradients(network, inputs, targets, "guided"))


METHODS.add("guided_backpropagation")(
    Method(
        "Guided backpropagation",
        guided_backpropagation,
        "what guided backpropagation brings back to each pixel",
        "Springenberg et al. 2015",
    )
)
