"""The learning rate over a run, as a factor on its top value."""

from __future__ import annotations

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

    All of them rise on a straight line over the first ``warmup_fraction`` of the steps. ``step_epochs`` count from the
    start of the run, and are a third of it when not given; all else goes by the recipe's ``pace``, where it has one.

    Args:
        step: 0 for the first update.
        total_steps: of the whole run, warm-up included.
        history: of the run, see `Run`; for ``plateau`` alone, which reads ``val_loss``.
    """
    at, planned = paced(recipe, step, total_steps)
    warmup_steps = round(recipe.warmup_fraction * planned)
    if at < warmup_steps:
        return (at + 1) / (warmup_steps + 1)
    progress = (at - warmup_steps) / max(1, planned - warmup_steps)  # 0 … just under 1
    drops = step * recipe.epochs / total_steps / recipe.step_epochs if recipe.step_epochs else 3 * at / planned
    match recipe.schedule:
        case "step":
            return recipe.step_factor ** int(drops)
        case "exponential":
            return math.pow(recipe.step_factor, drops)
        case "plateau":
            return recipe.step_factor ** _plateaus(
                [epoch["val_loss"] for epoch in history[recipe.prepared_by :]], recipe.plateau_epochs
            )
        case "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        case "one_cycle":
            return 1 - progress
        case "constant":
            return 1.0


def paced(recipe: Recipe, step: int, total_steps: int) -> tuple[float, int]:
    """Return where the schedule stands: at a step, of so many in all; both as given where the recipe has no pace.

    Whenever the plan is changed, what is left of the schedule is spread over the steps that are left then.
    """
    per_epoch = round(total_steps / recipe.epochs)
    plans = [(round(done * per_epoch), round(planned * per_epoch)) for done, planned in recipe.pace]
    start, progress = 0, 0.0
    for until, planned in [*plans, (total_steps, total_steps)]:
        if step < until or until == total_steps:
            break
        progress += (1 - progress) * (until - start) / (planned - start)
        start = until
    if not start:
        return step, planned
    return planned * (progress + (1 - progress) * (step - start) / (planned - start)), planned


def _plateaus(losses: Sequence[float], patience: int) -> int:
    """Return how often the loss has had no new minimum for ``patience`` epochs."""
    least, waited, plateaus = math.inf, 0, 0
    for loss in losses:
        waited = 0 if loss < least else waited + 1
        least = min(least, loss)
        if waited == patience:
            waited, plateaus = 0, plateaus + 1
    return plateaus
