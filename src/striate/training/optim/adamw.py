"""AdamW: each weight moves by the mean of its gradients over the root of their mean square."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.adamw import adamw

from striate.training.optim.rule import Rule, State, Step, zeros_like
from striate.training.recipe import Recipe

_EPSILON = 1e-8


def _first_state(parameter: nn.Parameter, recipe: Recipe) -> State:
    steps = torch.zeros((), device=parameter.device)
    return {"mean": zeros_like(parameter), "square": zeros_like(parameter), "step": steps}


def _update(step: Step, recipe: Recipe) -> None:
    """Kingma & Ba, Adam, ICLR 2015, algorithm 1, with the decay apart (Loshchilov & Hutter, ICLR 2019, algorithm 2)."""
    adamw(
        step.parameters,
        step.gradients,
        step.remembered("mean"),
        step.remembered("square"),
        [],
        step.remembered("step"),
        fused=True,
        amsgrad=False,
        beta1=recipe.momentum,
        beta2=recipe.beta2,
        lr=step.rate,
        weight_decay=step.decay,
        eps=_EPSILON,
        maximize=False,
    )


ADAMW = Rule(_first_state, _update)
