"""A preview of augmentation: some pictures in some epochs, exactly as a network in training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from striate.core.spec import InputSpec
from striate.data.augment.augment import training_batch
from striate.data.augment.policy import Augmentation, check_policy
from striate.data.batches import batch_count, epoch_batches, epoch_order
from striate.data.imageset import Split
from striate.drawing.grid import Group, Sheet, Tile, draw_grid

PICTURES = EPOCHS = 8
_LEFT_OUT = "An epoch ends with its last whole batch: the pictures that would be left over are others in each epoch."
_SMALLEST_SHARE = 0.005  # of a class that a caption names


def preview(
    split: Split,
    policy: Augmentation,
    *,
    batch_size: int,
    seed: int,
    sizes: Sequence[tuple[int, int] | None] = (None,) * EPOCHS,
    shares: Tensor | None = None,
) -> Sheet:
    """Draw pictures of the first classes, one row each, in the first epochs of a run, one column each.

    Args:
        split: what is learned from.
        batch_size, seed: of the run; with the policy they say which pictures are mixed.
        sizes: (H, W) that pictures are trained at in each epoch shown; None for the network's own.
        shares: as `epoch_batches` takes them.

    Raises:
        RecipeError: the policy does not fit the pictures.
    """
    own = (split.spec.input.height, split.spec.input.width)
    for size in sizes:
        check_policy(policy, split.spec.input, size or own)
    chosen = _first_of_each_class(split)
    columns = [
        _epoch(split, chosen, policy, epoch, size, batch_size=batch_size, seed=seed, shares=shares)
        for epoch, size in enumerate(sizes)
    ]
    groups = [
        Group(
            tiles, f"{_in_words(split.labels[number], split)}: {Path(split.origins[number]).name}", columns=len(sizes)
        )
        for number, *tiles in zip(chosen.tolist(), *columns, strict=True)
    ]
    changes = [f"{name} {getattr(policy, name)}" for name in Augmentation.model_fields if _is_set(policy, name)]
    return draw_grid(
        groups,
        title="What the network sees in training",
        subtitle=f"batches of {batch_size}, seed {seed}; {', '.join(changes) or 'nothing is changed'}",
        notes=[_LEFT_OUT] if len(split) > batch_size and len(split) % batch_size else [],
    )


def _is_set(policy: Augmentation, name: str) -> bool:
    return bool(getattr(policy, name) != Augmentation.model_fields[name].default)


def _first_of_each_class(split: Split) -> Tensor:
    """Return the positions of the first pictures of the first classes; of few classes, of several each."""
    labels = split.labels if split.labels.ndim == 1 else split.labels.argmax(1)
    ranked, by_class = labels.sort(stable=True)
    rank = torch.arange(len(ranked)) - torch.searchsorted(ranked, ranked)  # the how many-th of its class
    return by_class[rank.sort(stable=True).indices[:PICTURES]]


def _epoch(
    split: Split,
    chosen: Tensor,
    policy: Augmentation,
    epoch: int,
    size: tuple[int, int] | None,
    *,
    batch_size: int,
    seed: int,
    shares: Tensor | None,
) -> list[Tile]:
    """Return a tile for each chosen picture in one epoch, cut from the batch that it is in."""
    order = epoch_order(len(split), epoch=epoch, seed=seed, shares=shares)
    drop_last = len(split) >= batch_size
    own = (split.spec.input.height, split.spec.input.width)
    tiles = []
    for number in chosen.tolist():
        places = (order == number).nonzero().flatten().tolist()
        start, row = divmod(places[0], batch_size) if places else (len(order), 0)
        if start >= batch_count(len(order), batch_size, drop_last):
            blank = torch.full((1, *(size or own)), 255, dtype=torch.uint8)
            tiles.append(Tile(blank, f"epoch {epoch + 1}: left out"))
            continue
        batches = epoch_batches(
            split, batch_size, epoch=epoch, seed=seed, drop_last=drop_last, start_batch=start, size=size, shares=shares
        )
        pictures, targets = training_batch(next(batches), policy, split.spec, size=size or own, epoch=epoch, seed=seed)
        mixed = f": {_in_words(targets[row], split)}" if targets.is_floating_point() else ""
        tiles.append(Tile(_as_stored(pictures[row], split.spec.input), f"epoch {epoch + 1}{mixed}"))
    return tiles


def _as_stored(picture: Tensor, spec: InputSpec) -> Tensor:
    """Return a normalised picture (C, H, W) as uint8 again; of channels that are neither grey nor RGB the first."""
    mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (spec.mean, spec.std))
    pixels = ((picture * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels if spec.channels in (1, 3) else pixels[:1]


def _in_words(label: Tensor, split: Split) -> str:
    """Return the class of a label; of labels of several classes those that are there; of shares also how much."""
    names = split.spec.task.class_names
    if label.ndim == 0:
        return names[int(label)]
    there = [(share, names[number]) for number, share in enumerate(label.tolist()) if share > _SMALLEST_SHARE]
    if not label.is_floating_point():
        return ", ".join(name for _, name in there) or "no class"
    return ", ".join(f"{name} {share:.0%}" for share, name in sorted(there, reverse=True)) or "no class"
