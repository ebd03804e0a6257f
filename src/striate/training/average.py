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
        self._pairs = _floating(self.network, network)
        self._whole_numbers = _others(self.network, network)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after step ``step`` (1 for the first)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, weights = self._pairs
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, weight in self._whole_numbers:
            average.copy_(weight)


def _floating(average: nn.Module, network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    pairs = list(zip(_tensors(average), _tensors(network), strict=True))
    floating = [(a, w) for a, w in pairs if a.is_floating_point()]
    return [a for a, _ in floating], [w for _, w in floating]


def _others(average: nn.Module, network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [(a, w) for a, w in zip(_tensors(average), _tensors(network), strict=True) if not a.is_floating_point()]


def _tensors(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
