"""The methods of saliency by name, and what all of them have in common.

A method explains one number: the logit of the class that is asked about. Where it compares a picture with the absence
of a picture, that is the mean colour of the data, 0 after normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.core.registry import Registry

# A network in evaluation mode, inputs (N, C, H, W) normalised, targets (N,) → maps (N, H, W).
Explain = Callable[[nn.Module, Tensor, Tensor], Tensor]

NUMBERS_AT_ONCE = 2**20  # of the inputs of one pass, so that no size of picture exhausts the memory: 6 of 3×224×224
PICTURES_AT_ONCE = 256


@dataclass(frozen=True)
class Method:
    """One way to explain an answer.

    Args:
        title: its name in words.
        explain: makes the maps.
        meaning: what a value of the map is, for the legend.
        source: the paper.
        gap: what the maps' sums miss of what they should be, (N,) in logits; None where they need not add up.
    """

    title: str
    explain: Explain
    meaning: str
    source: str
    gap: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor] | None = None


METHODS: Registry[Method] = Registry("method of saliency", "help(st.saliency)", NetworkError)


def at_once(inputs: Tensor) -> int:
    """Return how many pictures of this size are run at once."""
    return max(1, min(PICTURES_AT_ONCE, NUMBERS_AT_ONCE // max(1, inputs[0].numel())))


@torch.no_grad()
def logits_in_parts(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the logits (N, K) of any number of inputs (N, C, H, W), no more of them at once than memory holds."""
    return torch.cat([network(part.clone()) for part in torch.split(inputs, at_once(inputs))])


def score(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the number that is explained: the logit (N,) of the class that is asked about."""
    return logits_in_parts(network, inputs).gather(1, targets[:, None])[:, 0]
