"""The learning rate over a run, as a factor on its top value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from striate.training.recipe import Recipe


def learning_rate_factor(
    recipe: Recipe, step: int, total_steps: int, history: Sequence[Mapping[str, float]] = ()
) -> float:
    """Return what the learning rate is multiplied by at a step.

    =============== =========================================================================================
    ``constant``    1
    ``step``        ``step_factor`` to the power of the drops so far, one every ``step_epochs``
    ``exponential`` ``step_factor`` to the power of the epochs so far / ``step_epochs``: the same without stairs
    ``plateau``     ``step_factor`` to the power of the drops so far, one whenever the loss on val has had no
                    new minimum for ``plateau_epochs``, counted anew after each drop
    ``cosine``      half a cosine from 1 to 0 (Loshchilov & Hutter, SGDR, ICLR 2017, without restarts)
    ``one_cycle``   a straight line from 1 to 0 (Smith, A disciplined approach to neural network
                    hyper-parameters, 2018, section 4.1; the momentum stays as it is)
    =============== =========================================================================================

    All of them rise on a straight line over the first ``warmup_fraction`` of the steps. The epochs of ``step`` and
    ``exponential`` count from the start of the run; the others go by the recipe's ``pace``, where it has one.

    Args:
        step: 0 for the first update.
        total_steps: of the whole run, warm-up included.
        history: of the run, see `Run`; for ``plateau`` alone, which reads ``val_loss``.
    """
    warmup_steps = round(recipe.warmup_fraction * total_steps)
    at = paced_step(recipe, step, total_steps)
    if at < warmup_steps:
        return (at + 1) / (warmup_steps + 1)
    progress = (at - warmup_steps) / max(1, total_steps - warmup_steps)  # 0 … just under 1
    drops = step * recipe.epochs / total_steps / recipe.step_epochs
    match recipe.schedule:
        case "step":
            return recipe.step_factor ** int(drops)
        case "exponential":
            return recipe.step_factor**drops
        case "plateau":
            return recipe.step_factor ** _plateaus([epoch["val_loss"] for epoch in history], recipe.plateau_epochs)
        case "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        case "one_cycle":
            return 1 - progress
        case "constant":
            return 1.0


def paced_step(recipe: Recipe, step: int, total_steps: int) -> float:
    """Return the step that the schedule stands at: the step itself, where the recipe says nothing of its pace."""
    if not recipe.pace:
        return step
    epoch = step * recipe.epochs / total_steps
    knots = [(0.0, 0.0), *recipe.pace, (recipe.epochs, 1.0)]
    for (start, low), (end, high) in itertools.pairwise(knots):
        if epoch <= end:
            return total_steps * (low + (high - low) * (epoch - start) / (end - start))
    return total_steps


def _plateaus(losses: Sequence[float], patience: int) -> int:
    """Return how often the loss has had no new minimum for ``patience`` epochs."""
    least, waited, plateaus = math.inf, 0, 0
    for loss in losses:
        waited = 0 if loss < least else waited + 1
        least = min(least, loss)
        if waited == patience:
            waited, plateaus = 0, plateaus + 1
    return plateaus
