"""Branches that meet again: by a sum (residual learning) or side by side (Inception)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn


@final
class Residual(nn.Module):
    """body(x) + shortcut(x).

    Source: He et al., Deep residual learning for image recognition (2015), section 3.1.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, …); both branches must return the same shape."""
        total: Tensor = self.body(x) + self.shortcut(x)
        return total


@final
class Concat(nn.Module):
    """The outputs of all branches side by side along the channels (or features).

    Source: Szegedy et al., Going deeper with convolutions (2014), section 4.
    """

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        for number, branch in enumerate(branches, 1):
            self.add_module(f"branch{number}", branch)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, …) → (N, C₁ + C₂ + …, …); the branches must agree in everything but channels."""
        return torch.cat([branch(x) for branch in self.children()], dim=1)
