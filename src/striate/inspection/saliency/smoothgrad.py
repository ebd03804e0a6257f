"""SmoothGrad: the mean gradient of noisy copies of a picture.

D. Smilkov, N. Thorat, B. Kim, F. Viégas, M. Wattenberg, "SmoothGrad: removing noise by adding noise", 2017, section 3:
the gradient of a network of ReLUs jumps from pixel to pixel; its mean around the picture does not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from striate.inspection.saliency.gradient import input_gradients, strongest
from striate.inspection.saliency.registry import METHODS, Method

SAMPLES = 25
NOISE = 0.15  # standard deviation, as a share of the picture's range; the paper finds 0.1 to 0.2 best


def smoothgrad(network: nn.Module, inputs: Tensor, targets: Tensor, *, samples: int = SAMPLES) -> Tensor:
    """Return the largest |mean gradient| among the channels: (N, H, W). The noise is the same at each call.

    Args:
        network: in evaluation mode.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
        samples: noisy copies of each picture.
    """
    generator = torch.Generator().manual_seed(0)
    spread = (inputs.amax((1, 2, 3), keepdim=True) - inputs.amin((1, 2, 3), keepdim=True)) * NOISE
    total = torch.zeros_like(inputs)
    for _ in range(samples):
        noise = torch.randn(inputs.shape[1:], generator=generator).to(inputs)  # one for all pictures
        total += input_gradients(network, inputs + noise * spread, targets)
    return strongest(total / samples)


METHODS.add("smoothgrad")(
    Method(
        "SmoothGrad",
        smoothgrad,
        "how strongly the logit answers to each pixel, averaged over noise",
        "Smilkov et al. 2017",
    )
)
