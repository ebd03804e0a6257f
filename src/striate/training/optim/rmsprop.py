"""RMSprop: each gradient over the root of its mean square, with momentum."""

from __future__ import annotations

import torch
from torch import nn

from striate.training.optim.rule import Rule, State, Step, zeros_like
from striate.training.recipe import Recipe

_EPSILON = 1e-8


def _first_state(parameter: nn.Parameter, recipe: Recipe) -> State:
    names = ("square", "momentum") if recipe.momentum else ("square",)
    return {name: zeros_like(parameter) for name in names}


def _update(step: Step, recipe: Recipe) -> None:
    """s ← α s + (1 − α) g², v ← μ v + g / (√s + ε), w ← w − rate · v.

    Tieleman & Hinton, COURSERA: Neural Networks for Machine Learning, lecture 6.5, 2012; momentum after the division,
    as in Graves, Generating Sequences With Recurrent Neural Networks, 2013, equation 40, without its centring. Nothing
    makes up for the mean square's start at 0, so that the first steps are larger by 1 / √(1 − α).
    """
    step.shrink()
    squares = step.remembered("square")
    torch._foreach_mul_(squares, recipe.alpha)
    torch._foreach_addcmul_(squares, step.gradients, step.gradients, value=1 - recipe.alpha)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, _EPSILON)
    if not recipe.momentum:
        torch._foreach_addcdiv_(step.parameters, step.gradients, roots, value=-step.rate)
        return
    velocities = step.remembered("momentum")
    torch._foreach_mul_(velocities, recipe.momentum)
    torch._foreach_addcdiv_(velocities, step.gradients, roots)
    torch._foreach_add_(step.parameters, velocities, alpha=-step.rate)


RMSPROP = Rule(_first_state, _update)
