"""The average of the weights over steps: often better than the last ones, never worse to look at."""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import Tensor, nn


@final
class WeightAverage:
    """An exponential moving average of a network's weights and statistics.

    ``average ← d · average + (1 − d) · weights`` after every step, with d = min(decay, (1 + t) / (10 + t)) at step
    t, so that a short run is not an average of its random start (Polyak & Juditsky 1992 for the idea; the ramp as in
    TensorFlow's ``ExponentialMovingAverage``).

    Args:
        network: copied; `network` of this object is the copy.
        decay: the part of the average that each step keeps.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network's weights after step ``step`` (1 for the first)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        # Looked up anew at every step: a module may put another tensor in the place of its buffer.
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True))
        averages = [average for average, _ in pairs if average.is_floating_point()]
        torch._foreach_lerp_(averages, [weight for average, weight in pairs if average.is_floating_point()], 1 - decay)
        for average, weight in pairs:
            if not average.is_floating_point():
                average.copy_(weight)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
