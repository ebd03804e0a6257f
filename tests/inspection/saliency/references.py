"""Small networks whose explanations can be computed by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def small(rectifier: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return a network of one convolution, one pool and two linear layers in float64: (N, 2, 12, 12) → (N, 3)."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(2, 5, 3), rectifier(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3), rectifier(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(36, 8), rectifier(), nn.Linear(8, 3)).double().eval()


def inputs(count: int = 3) -> Tensor:
    """Return pictures for it: (N, 2, 12, 12) float64."""
    return torch.randn(count, 2, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


TARGETS = torch.tensor([0, 2, 1])
