"""Activations that PyTorch lacks: LeCun's scaled tanh, and maxout."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class ScaledTanh(nn.Module):
    """1.7159 · tanh(2x/3), elementwise.

    The constants make f(±1) = ±1 and put the largest curvature there, so that outputs keep about unit
    variance.

    Source: LeCun et al., Gradient-based learning applied to document recognition (1998), appendix A.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same out."""
        return 1.7159 * torch.tanh(x * (2 / 3))


@final
class Maxout(nn.Module):
    """The largest of each group of ``pieces`` neighbouring channels (or features).

    Channels 0 … n−1 make output 0, the next n make output 1, and so on: C channels in, C / n out.

    Source: Goodfellow et al., Maxout networks (2013), section 3.
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, …) → (N, C / pieces, …); C must be a multiple of ``pieces``."""
        channels = x.shape[1] // self.pieces
        grouped = x.reshape(len(x), channels, self.pieces, *x.shape[2:])  # (N, C / n, n, …)
        return grouped.amax(dim=2)

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}"
