"""The average of the weights over steps: often better than the last ones, never worse to look at."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from striate.core.copying import copy_of


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
        self.network = copy_of(network).requires_grad_(False)
        self._decay = decay
        # Counts, and buffers with an infinity on purpose, such as the mask of an attention: ∞ − ∞ is no number.
        self._taken_over = [not (one.is_floating_point() and one.isfinite().all()) for one in _tensors(self.network)]

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network's weights after step ``step`` (1 for the first)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        # Looked up anew at every step: a module may put another tensor in the place of its buffer.
        averages, weights = [], []
        for average, weight, taken_over in zip(
            _tensors(self.network), _tensors(network), self._taken_over, strict=True
        ):
            if taken_over:
                average.copy_(weight)
            else:
                averages.append(average)
                weights.append(weight)
        torch._foreach_lerp_(averages, weights, 1 - decay)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
