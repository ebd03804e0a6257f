"""Batches cut from one uint8 tensor, or read from a stream of shards: no worker processes."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from striate.core.errors import DataError
from striate.data.imageset import Split
from striate.data.keyed import keyed_generator
from striate.data.preprocess import resize_to_uint8
from striate.data.stream.stream import Stream


@final
@dataclass(frozen=True, eq=False)
class Batch:
    """Some pictures of a split.

    Args:
        images: (B, C, h, w) uint8; larger than the network's H and W where the split is stored larger.
        labels: (B,) int64, or (B, K) uint8 where a picture may have several classes.
        index: (B,) int64, what keys the random draws of each: its position in the split, and the size of the split
            more for every time that the epoch has drawn it before. In a stream, its number.
    """

    images: Tensor
    labels: Tensor
    index: Tensor


def batch_count(pictures: int, batch_size: int, drop_last: bool = False) -> int:
    """Return how many batches an epoch has."""
    return pictures // batch_size if drop_last else -(-pictures // batch_size)


def epoch_batches(
    split: Split | Stream,
    batch_size: int,
    *,
    epoch: int = 0,
    seed: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    start_batch: int = 0,
    size: tuple[int, int] | None = None,
    shares: Tensor | None = None,
    rows: slice = slice(None),
) -> Iterator[Batch]:
    """Yield one epoch of a split or a stream.

    Args:
        batch_size: B; the last batch may be shorter, unless ``drop_last``.
        epoch, seed: the order is a permutation keyed by the two; the global generator is not touched.
        shuffle: False for the order of the split.
        start_batch: the first batch to yield, for resuming in the middle: the others stay what they were.
        size: (height, width) in pixels instead of the network's, for phases at another resolution; what is stored
            larger stays larger by as much.
        shares: see `epoch_order`.
        rows: which pictures of each batch to read and to yield, where several processes divide them.

    Raises:
        DataError: ``batch_size`` is not positive.
    """
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}.")
    pictures = _stored_shape(split)
    resized = None
    if size is not None:
        height = round(size[0] * pictures[1] / split.spec.input.height)
        width = round(size[1] * pictures[2] / split.spec.input.width)
        resized = split.spec.input.model_copy(update={"height": height, "width": width})
    if isinstance(split, Stream):
        if shares is not None:
            raise DataError("A stream of shards is read in whole blocks: sampling must be uniform, got balanced.")
        batches = split.batches(
            batch_size,
            epoch=epoch,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            start_batch=start_batch,
            rows=rows,
        )
    else:
        order = epoch_order(len(split), epoch=epoch, seed=seed, shares=shares) if shuffle else torch.arange(len(split))
        keys = order if shares is None else order + len(split) * _earlier_draws(order)
        count = batch_count(len(split), batch_size, drop_last)
        batches = _cut(split, batch_size, order, keys, range(start_batch, count), rows)
    with contextlib.closing(batches):
        for images, labels, index in batches:
            yield Batch(images if resized is None else resize_to_uint8(images, resized), labels, index)


def _stored_shape(split: Split | Stream) -> tuple[int, ...]:
    """Return the (C, H, W) that the batches are cut at."""
    if isinstance(split, Stream):
        return (split.stored or split.spec.input).shape
    return tuple((split.images if split.stored is None else split.stored).shape[1:])


def _cut(
    split: Split, batch_size: int, order: Tensor, keys: Tensor, numbers: range, rows: slice
) -> Generator[tuple[Tensor, Tensor, Tensor], None, None]:
    """Yield the batches with these numbers, where the split is: pictures, labels and keys in this order."""
    pictures = split.images if split.stored is None else split.stored
    order, keys = order.to(pictures.device), keys.to(pictures.device)
    for number in numbers:
        here = slice(number * batch_size, (number + 1) * batch_size)
        index = order[here][rows]
        yield pictures.index_select(0, index), split.labels.index_select(0, index), keys[here][rows]


def epoch_order(pictures: int, *, epoch: int, seed: int, shares: Tensor | None = None) -> Tensor:
    """Return the pictures of an epoch, in order: (N,) int64.

    Args:
        pictures: N.
        shares: (N,) float64, how much more often than others each picture is drawn, with replacement. None for a
            permutation of 0 … N − 1.
    """
    generator = keyed_generator(seed, epoch)
    if shares is None:
        return torch.randperm(pictures, generator=generator)
    ends = shares.cumsum(0)  # torch.multinomial takes no more than 2²⁴ pictures
    draws = torch.rand(pictures, generator=generator, dtype=torch.float64) * ends[-1]
    return torch.searchsorted(ends, draws, right=True).clamp_(max=pictures - 1)


def _earlier_draws(order: Tensor) -> Tensor:
    """Return how many times each entry of an order (N,) has come before in it: (N,) int64.

    A picture that is drawn again in an epoch is then augmented in another way.
    """
    ranked, by_picture = order.sort(stable=True)
    place = torch.arange(len(order))
    first = torch.searchsorted(ranked, ranked)  # where the run of equal entries begins
    return torch.empty_like(order).scatter_(0, by_picture, place - first)
