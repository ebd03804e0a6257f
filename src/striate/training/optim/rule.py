"""The rule of an optimiser: what it remembers of each parameter, and how it updates some that learn alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from striate.training.recipe import Recipe

State = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """Parameters that are updated alike, and by how much.

    Args:
        parameters: changed in place.
        gradients, states: of each parameter; the states are changed in place.
        rate: learning rate.
        decay: each weight loses ``rate · decay`` of itself, apart from the gradient.
    """

    parameters: list[Tensor]
    gradients: list[Tensor]
    states: list[State]
    rate: float
    decay: float

    def shrink(self) -> None:
        """Apply the weight decay: w ← (1 − rate · decay) w."""
        if self.decay:
            torch._foreach_mul_(self.parameters, 1 - self.rate * self.decay)

    def remembered(self, what: str) -> list[Tensor]:
        """Return one tensor of each state."""
        return [state[what] for state in self.states]


class Rule(NamedTuple):
    """An optimiser.

    Args:
        first_state: what is remembered of a parameter before its first update.
        update: one step.
    """

    first_state: Callable[[nn.Parameter, Recipe], State]
    update: Callable[[Step, Recipe], None]


def zeros_like(parameter: nn.Parameter) -> Tensor:
    """Return zeros of the parameter's shape and layout in memory, in which the kernels walk all of them."""
    return torch.zeros_like(parameter, requires_grad=False)
