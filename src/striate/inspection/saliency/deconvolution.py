"""Deconvolution: the answer projected back onto the pixels by a deconvolutional network.

M. D. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 2.1. Filters are
transposed, max pooling is undone by its switches, and what comes back is rectified at each ReLU, whatever its input
was: the gradient's backward pass with another rule for ReLU, as Simonyan et al. 2014, section 4, observed. Without ReLU
it equals the gradient.
"""

from __future__ import annotations

from torch import Tensor, nn

from striate.inspection.saliency.gradient import input_gradients, strongest
from striate.inspection.saliency.registry import METHODS, Method


def deconvolution(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the largest magnitude among the channels of what comes back to each pixel: (N, H, W).

    Args:
        network: in evaluation mode.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
    """
    return strongest(input_gradients(network, inputs, targets, "deconvolution"))


METHODS.add("deconvolution")(
    Method(
        "Deconvolution",
        deconvolution,
        "what the deconvolutional network brings back to each pixel",
        "Zeiler and Fergus 2014",
    )
)
