"""The learning rate over a run, as a factor on its top value."""

from __future__ import annotations

import math

from striate.training.recipe import Recipe


def learning_rate_factor(recipe: Recipe, step: int, total_steps: int) -> float:
    """Return what the learning rate is multiplied by at a step.

    ============== ==========================================================================================
    ``constant``   1
    ``step``       ``step_factor`` to the power of the drops so far, one every ``step_epochs``
    ``cosine``     half a cosine from 1 to 0 (Loshchilov & Hutter, SGDR, ICLR 2017, without restarts)
    ``one_cycle``  a straight line from 1 to 0 (Smith, A disciplined approach to neural network
                   hyper-parameters, 2018, section 4.1; the momentum stays as it is)
    ============== ==========================================================================================

    All of them rise on a straight line over the first ``warmup_fraction`` of the steps.

    Args:
        step: 0 for the first update.
        total_steps: of the whole run, warm-up included.
    """
    warmup_steps = round(recipe.warmup_fraction * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)  # 0 … just under 1
    if recipe.schedule == "step":
        return recipe.step_factor ** int(step * recipe.epochs / total_steps / recipe.step_epochs)
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * progress)) / 2
    return 1 - progress if recipe.schedule == "one_cycle" else 1.0
