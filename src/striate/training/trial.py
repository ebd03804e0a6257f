"""Trials: a copy of a network takes some steps of a recipe, to see how it goes; nothing is drawn or kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from striate.core import machine
from striate.core.copying import copy_of
from striate.core.machine import Execution
from striate.data.batches import batch_count
from striate.data.imageset import ImageSet
from striate.training.prepare import prepare
from striate.training.recipe import Recipe
from striate.training.run import Run


@contextlib.contextmanager
def on_its_machine(recipe: Recipe) -> Iterator[None]:
    """Compute on the device and with the threads that a run with this recipe will; draws leave no trace.

    Raises:
        RecipeError: the device is not there.
    """
    machine.use_device(recipe.device)
    if recipe.keep_buffers:
        machine.keep_buffers()
    with machine.threads(recipe.threads), machine.keeping_draws():
        yield


def trial_run(network: nn.Module, images: ImageSet, recipe: Recipe, steps: int) -> tuple[Run, Execution]:
    """Return a run of some steps on a copy of a network, all as in the recipe's last phase, and how it is run here."""
    execution = Execution(recipe.precision or "fp32", recipe.memory_format or "channels_last")
    learned = images.train_and_val if recipe.learn_from == "train+val" else images.learned
    per_epoch = batch_count(len(learned), recipe.batch_size, drop_last=len(learned) >= recipe.batch_size)
    epochs = steps / per_epoch
    run = Run(
        network=copy_of(network),
        spec=images.spec,
        recipe=recipe.changed(epochs=epochs, phases=(recipe.plan[-1].model_copy(update={"epochs": epochs}),)),
        data={"name": images.name},
        steps_per_epoch=per_epoch,
        learned=learned,
    )
    prepare(run)
    execution.place(run.network)
    return run, execution
