"""The rehearsal: what would fail in the middle of a run is refused before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import torch
from torch import nn

from striate.core import machine, processes
from striate.core.copying import copy_of
from striate.core.errors import NetworkError, RecipeError, reason
from striate.core.machine import Execution
from striate.data.augment.augment import training_batch
from striate.data.augment.policy import check_policy
from striate.data.batches import epoch_batches
from striate.data.imageset import ImageSet, Split
from striate.data.preprocess import normalise
from striate.data.stream.stream import Stream
from striate.networks import contract, saved
from striate.prediction.predictor import compute_logits, pictures_at_once
from striate.training.average import WeightAverage
from striate.training.losses import compute_loss, resolve_loss
from striate.training.memory import LiveBytes, Moment, Need, moments_between
from striate.training.optim import Updater, check_stage_names
from striate.training.recipe import Recipe


def rehearse(network: nn.Module, images: ImageSet, recipe: Recipe) -> Need:
    """Refuse what would fail in the middle of the run.

    A copy of the network takes a training step with a few pictures as in every phase.

    Returns:
        What training takes of memory.

    Raises:
        NetworkError: the network does not fit the pictures, or cannot be trained or saved.
        RecipeError: a value that does not fit the network or the pictures, a batch that does not fit in memory.
    """
    contract.check(network, images.spec)
    check_stage_names(network, recipe)
    saved.storable(network.state_dict())
    resolve_loss(recipe, images.spec.task)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise NetworkError("The network must have parameters that learn, got none. Give it a conv or an fc.")
    _check_streamable(images.learned, recipe)
    if recipe.stored_size > 1 and images.learned.stored is None:
        raise RecipeError(
            "stored_size needs pictures from files that were kept larger when they were loaded: "
            f"st.load_data(folder, stored_size={recipe.stored_size:g}). Leave it out for others."
        )
    kept = (images.source or {}).get("stored_size", recipe.stored_size)
    if recipe.stored_size not in (1, kept):
        raise RecipeError(f"stored_size must be {kept:g}, as the pictures were loaded, got {recipe.stored_size:g}.")
    if recipe.learn_from == "train+val" and images.learned.stored is not None:
        raise RecipeError(
            "learn_from must be train where pictures are stored larger for their crops, as val is not, got train+val."
        )
    _check_finite(network)
    batch_size = min(recipe.batch_size, len(images.learned) + len(images.val) * (recipe.learn_from == "train+val"))
    need = _try_steps(network, images, recipe, batch_size)
    need.check(batch_size)
    return need


def _try_steps(network: nn.Module, images: ImageSet, recipe: Recipe, batch_size: int) -> Need:
    """Let a copy of the network take a step with a few pictures as in every phase, and look at val."""
    few = min(2, len(images.learned))
    alone = batch_size < 2 * processes.world()
    with machine.keeping_draws(), LiveBytes() as live:
        trial = _Trial(network, images, recipe)
        moments: list[Moment] = []
        tried = set()
        for number, phase in enumerate(recipe.plan):
            if (phase.resolution, phase.frozen) not in tried:
                tried.add((phase.resolution, phase.frozen))
                if alone:  # a picture alone has no batch statistics
                    trial.step(number, 1)
                moments += _moments(live, few, partial(trial.step, number))
        if recipe.learn_from == "train":
            together = min(len(images.val), pictures_at_once(images.spec.input))
            looks = _moments(live, few, trial.look)
            moments += [Moment(one.fixed + together * one.picture, 0) for one in looks]
        return Need(trial.weights, moments)


def _moments(live: LiveBytes, few: int, act: Callable[[int], None]) -> list[Moment]:
    """Return the moments of what is done with some pictures."""
    taken = {}
    for count in (few, few + 1):
        live.take_moments()
        act(count)
        taken[count] = live.take_moments()
    return moments_between(taken[few], taken[few + 1], few)


@final
class _Trial:
    """A copy of a network, with its optimiser and average, that does what a run does."""

    def __init__(self, network: nn.Module, images: ImageSet, recipe: Recipe) -> None:
        self._execution = Execution(recipe.precision or "fp32", recipe.memory_format or "channels_last")
        self._network = self._execution.place(copy_of(network))
        self._images, self._recipe = images, recipe
        self._some = some_pictures(images.learned, 3)
        normalise(self._some.images, images.spec.input)  # what it remembers is of no step
        self._updater = Updater(self._network, recipe)
        self._average = WeightAverage(self._network, recipe.average_decay) if recipe.average == "ema" else None
        self.weights = sum(one.nbytes for one in (*self._network.parameters(), *self._network.buffers()))

    def step(self, phase_number: int, count: int) -> None:
        """Take a step that changes no weights, as a phase does.

        Raises:
            NetworkError: the network cannot do it.
        """
        recipe, spec = self._recipe, self._images.spec
        phase = recipe.plan[phase_number]
        height, width = size = (phase.resolution or spec.input.height, phase.resolution or spec.input.width)
        check_policy(recipe, spec.input, size)
        self._updater.begin(phase)
        try:
            some = self._some[torch.arange(count) % len(self._some)]
            batch = next(epoch_batches(some, count, size=size if phase.resolution else None))
            pictures, targets = training_batch(batch, recipe, spec, size=size, epoch=0, seed=recipe.seed)
            arranged, targets = self._execution.arrange(pictures), targets.to(machine.device())
            outputs = self._execution.forward(self._network, arranged)
            compute_loss(outputs, targets, self._network, recipe, several=spec.task.several).backward()  # type: ignore[no-untyped-call]
            before = [one.detach().clone() for one in self._network.parameters()]  # which the doctor compares with
            self._updater.step(phase_number, 0.0)
            del before
        except (RuntimeError, ValueError, AssertionError) as error:
            raise NetworkError(
                f"The network cannot be trained on pictures of {height}×{width}, {count} at once: {reason(error)}."
            ) from error

    def look(self, count: int) -> None:
        """Look at some pictures of val."""
        compute_logits(self._network, self._images.val.images[:count], self._images.spec.input, self._execution)


def some_pictures(learned: Split | Stream, pictures: int) -> Split:
    """Return some pictures to measure and to rehearse with: the first ones, or some of a stream."""
    return learned.some(pictures) if isinstance(learned, Stream) else learned[:pictures]


def _check_finite(network: nn.Module) -> None:
    """Refuse weights that are not finite; a buffer may hold −∞ on purpose."""
    for name, weight in network.named_parameters():
        if not weight.isfinite().all():
            raise NetworkError(f"The weights must be finite before training, {name} is not. Initialise it anew.")


def _check_streamable(learned: Split | Stream, recipe: Recipe) -> None:
    """Refuse what needs the label of every single picture, or all of them in memory."""
    for field, only in (("learn_from", "train"), ("sampling", "uniform")):
        if isinstance(learned, Stream) and getattr(recipe, field) != only:
            raise RecipeError(f"{field} must be {only} for a stream of shards, got {getattr(recipe, field)}.")
