"""Local response normalisation with the numbers of the paper that introduced it."""

from __future__ import annotations

from torch import nn


def local_response_norm() -> nn.LocalResponseNorm:
    """Return AlexNet's normalisation across channels: b = a / (k + α Σ a²)^β, the sum over n = 5 channels.

    n = 5, k = 2, α = 1e-4, β = 0.75. PyTorch writes α / n where the paper writes α, so its ``alpha`` is 5e-4
    here. Caffe also divides by n but kept the number 1e-4, with k = 1: it normalises five times less.

    Source: Krizhevsky et al., ImageNet classification with deep convolutional neural networks (2012),
    section 3.3.
    """
    size = 5
    return nn.LocalResponseNorm(size, alpha=size * 1e-4, beta=0.75, k=2.0)
