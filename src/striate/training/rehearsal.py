"""The rehearsal: what would fail in the middle of a run is refused before anything is written."""

from __future__ import annotations

import copy

import torch
from torch import nn

from striate.core import processes
from striate.core.errors import NetworkError, RecipeError
from striate.data.augment.augment import training_batch
from striate.data.augment.policy import check_policy
from striate.data.batches import epoch_batches
from striate.data.imageset import ImageSet, Split
from striate.data.stream.stream import Stream
from striate.networks import contract, saved
from striate.training.losses import compute_loss, resolve_loss
from striate.training.memory import LiveBytes, Need
from striate.training.optim import check_stage_names
from striate.training.recipe import Recipe


def rehearse(network: nn.Module, images: ImageSet, recipe: Recipe) -> Need:
    """Refuse what would fail in the middle of the run.

    A copy of the network takes one training step on two pictures of every size that the phases train at.

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
    several = images.spec.task.labels == "multi"
    two = some_pictures(images.learned, 2)
    tensors = [*network.parameters(), *network.buffers()]
    need = Need(sum(tensor.nbytes for tensor in tensors), 0.0)
    for resolution in {phase.resolution for phase in recipe.plan}:
        size = (resolution, resolution) if resolution else (images.spec.input.height, images.spec.input.width)
        check_policy(recipe, images.spec.input, size)
        try:
            with torch.random.fork_rng():
                batch = next(epoch_batches(two, 2, size=size if resolution else None))
                trial = copy.deepcopy(network).train()
                pictures, targets = training_batch(batch, recipe, images.spec, size=size, epoch=0, seed=recipe.seed)
                with LiveBytes([*trial.parameters(), *trial.buffers()]) as live:
                    loss = compute_loss(trial(pictures), targets, trial, recipe, several=several)
                    picture = (live.now + pictures.nbytes) / len(pictures)
                del loss
                need = Need(need.weights, max(need.picture, picture))
        except RuntimeError as error:
            raise NetworkError(
                f"The network cannot be trained on pictures of {min(size)}×{min(size)}: {str(error).splitlines()[0]}."
            ) from error
    need.check(-(-min(recipe.batch_size, len(images.learned)) // processes.world()))
    return need


def some_pictures(learned: Split | Stream, pictures: int) -> Split:
    """Return some pictures to measure and to rehearse with: the first ones, or some of a stream."""
    return learned.some(pictures) if isinstance(learned, Stream) else learned[:pictures]


def _check_streamable(learned: Split | Stream, recipe: Recipe) -> None:
    """Refuse what needs the label of every single picture, or all of them in memory."""
    for field, only in (("learn_from", "train"), ("sampling", "uniform")):
        if isinstance(learned, Stream) and getattr(recipe, field) != only:
            raise RecipeError(f"{field} must be {only} for a stream of shards, got {getattr(recipe, field)}.")
