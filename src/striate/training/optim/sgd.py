"""SGD with Nesterov momentum."""

from __future__ import annotations

from torch import nn
from torch.optim.sgd import sgd

from striate.training.optim.rule import Rule, State, Step, zeros_like
from striate.training.recipe import Recipe


def _first_state(parameter: nn.Parameter, recipe: Recipe) -> State:
    return {"momentum": zeros_like(parameter)} if recipe.momentum else {}


def _update(step: Step, recipe: Recipe) -> None:
    """v ← μ v + g, w ← w − rate · (g + μ v) (Sutskever et al., ICML 2013, as PyTorch writes it)."""
    step.shrink()
    sgd(
        step.parameters,
        step.gradients,
        [state.get("momentum") for state in step.states],
        fused=True,
        weight_decay=0.0,
        momentum=recipe.momentum,
        lr=step.rate,
        dampening=0.0,
        nesterov=recipe.momentum > 0,
        maximize=False,
    )


SGD = Rule(_first_state, _update)
