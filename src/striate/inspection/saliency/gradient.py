"""The gradient of a class with respect to the pixels.

K. Simonyan, A. Vedaldi, A. Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models and
Saliency Maps", ICLR workshop 2014, section 3: how strongly the logit answers to the smallest change of each pixel. Of a
pixel's channels the strongest counts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from striate.inspection.backward import Rectified, Rule
from striate.inspection.saliency.registry import METHODS, Method, at_once


def gradient(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the largest |∂ logit / ∂ pixel| among the channels: (N, H, W).

    Args:
        network: in evaluation mode.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
    """
    return strongest(input_gradients(network, inputs, targets))


def input_gradients(network: nn.Module, inputs: Tensor, targets: Tensor, rule: Rule = "gradient") -> Tensor:
    """Return what goes backwards from the target logits to the inputs, by a rule for each ReLU: (N, C, H, W)."""
    parts = []
    for part, wanted in zip(*(torch.split(one, at_once(inputs)) for one in (inputs, targets)), strict=True):
        leaf = part.detach().clone().requires_grad_()
        with torch.enable_grad(), Rectified(rule):
            logits = network(leaf.mul(1))  # a copy, so that layers may work on their input in place
            asked = logits.gather(1, wanted[:, None]).sum()
            (found,) = torch.autograd.grad(asked, [leaf], allow_unused=True)
        parts.append(torch.zeros_like(leaf) if found is None else found)
    return torch.cat(parts).detach()


def strongest(gradients: Tensor) -> Tensor:
    """Return the largest magnitude among the channels: (N, C, H, W) → (N, H, W)."""
    return gradients.abs().amax(1)


METHODS.add("gradient")(
    Method("Gradient", gradient, "how strongly the logit answers to each pixel", "Simonyan et al. 2014")
)
