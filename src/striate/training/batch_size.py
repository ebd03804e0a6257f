"""The batch size that is fastest on this machine and fits in its memory, and the learning rate that goes with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from torch import nn

from striate.core import machine, processes
from striate.data.imageset import ImageSet
from striate.training.estimate import estimate
from striate.training.memory import Need, memory_explained, ran_out
from striate.training.recipe import Recipe
from striate.training.rehearsal import rehearse
from striate.training.trial import on_its_machine, trial_run

SMALLEST = 16
LEAST_GAIN = 1.05  # in pictures a second, for which a batch is doubled
LEAST_STEPS = 8  # in an epoch
MOST_MEMORY = 0.8  # of what is free
_TRIED = 60.0  # seconds of a run that is measured as long as these are: 2 seconds


@final
@dataclass(frozen=True)
class BatchChoice:
    """The batches that were chosen.

    Args:
        recipe: with them, and with the learning rate scaled.
        given: the recipe before.
        rates: pictures of a batch in one process → pictures a second there.
    """

    recipe: Recipe
    given: Recipe
    rates: dict[int, float]

    def __str__(self) -> str:
        rates = ", ".join(f"{size}: {rate:,.0f}" for size, rate in self.rates.items())
        before, after = self.given.learning_rate, self.recipe.learning_rate
        if after == before:
            rule = f"stays {before:g}"
        else:
            root = "" if self.recipe.optimizer == "sgd" else "the square root of "
            rule = f"{before:g} → {after:g}, by {root}{self.recipe.batch_size} / {self.given.batch_size}"
        world = processes.world()
        each = f", {self.recipe.batch_size // world} in each process" if world > 1 else ""
        return f"of {self.recipe.batch_size}{each} (pictures/s with {rates}); learning rate {rule}"


def choose_batch_size(network: nn.Module, images: ImageSet, recipe: Recipe) -> BatchChoice:
    """Double the batch as long as that trains at least 5 % more pictures a second, fits in memory and leaves 8 steps.

    Of several processes the first measures what is good for one, and a batch has as many pictures for each.

    The learning rate is scaled with the batch: by their ratio for SGD (Goyal et al., Accurate, Large Minibatch SGD,
    2017), by its square root for optimisers that divide by the size of the gradients (Malladi et al., On the SDEs and
    Scaling Rules for Adaptive Gradient Algorithms, NeurIPS 2022).

    Args:
        network: left as it was; copies are measured. Consumes no randomness.
    """
    world = processes.world()
    with on_its_machine(recipe):
        measured = processes.from_first(lambda: list(_measure(network, images, recipe, world).items()))
    rates = dict(measured)
    chosen, best = next(iter(rates.items()))
    for size, rate in rates.items():
        if rate >= LEAST_GAIN * best:
            chosen, best = size, rate
    ratio = chosen * world / recipe.batch_size
    factor = ratio if recipe.optimizer == "sgd" else math.sqrt(ratio)
    changed = recipe.changed(batch_size=chosen * world, learning_rate=recipe.learning_rate * factor)
    return BatchChoice(changed, recipe, rates)


def _measure(network: nn.Module, images: ImageSet, recipe: Recipe, world: int) -> dict[int, float]:
    """Return the pictures a second of one of ``world`` processes, with batches that double while they gain enough."""
    need: Need = rehearse(network, images, recipe.changed(batch_size=2))
    most = min(need.largest(MOST_MEMORY * machine.available_memory()), len(images.learned) // (LEAST_STEPS * world))
    size = min(SMALLEST, max(2, most))  # one picture alone has no batch statistics
    with memory_explained(need, size):
        rates = {size: _rate(network, images, recipe.changed(batch_size=size))}
    while 2 * size <= most and rates[size] >= LEAST_GAIN * rates.get(size // 2, 0.0):
        size *= 2
        try:
            rates[size] = _rate(network, images, recipe.changed(batch_size=size))
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            break
    return rates


def _rate(network: nn.Module, images: ImageSet, recipe: Recipe) -> float:
    run, execution = trial_run(network, images, recipe, LEAST_STEPS)
    run.budget_seconds = _TRIED
    return recipe.batch_size / estimate(run, None, execution).step_seconds[-1]
