"""Holding out: seeded, stratified splits, so that each class keeps its share in every split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

VAL_SHARE = 0.10
VAL_LIMIT = 5_000
TEST_SHARE = 0.15

# Each split is drawn from a stream of its own.
_TEST_STREAM, _VAL_STREAM = 0, 1


@final
@dataclass(frozen=True, eq=False)
class Part:
    """A split as a part of what a source offers: the pictures at ``index`` of its split ``source``."""

    source: str
    index: Tensor


def divide(labels: Mapping[str, Tensor], seed: int, test_share: float = TEST_SHARE) -> dict[str, Part]:
    """Return where the pictures of ``train``, ``val`` and ``test`` come from.

    A split that the source has is taken whole. A missing ``test`` (``test_share``) and then a missing ``val``
    (10 %, at most 5,000) are held out of ``train``, seeded and stratified by class.

    Args:
        labels: (N,) int64 of each split that the source has; ``train`` must be among them.
        seed: the same seed holds out the same pictures.
    """
    parts = {name: Part(name, torch.arange(len(own))) for name, own in labels.items()}
    train = torch.arange(len(labels["train"]))
    held_out = (("test", test_share, None, _TEST_STREAM), ("val", VAL_SHARE, VAL_LIMIT, _VAL_STREAM))
    for name, share, limit, stream in held_out:
        if name not in labels:
            held, rest = stratified(labels["train"][train], share, seed=seed, stream=stream, limit=limit)
            parts[name] = Part("train", train[held])
            train = train[rest]
    parts["train"] = Part("train", train)
    return parts


def stratified(
    labels: Tensor, share: float, *, seed: int, stream: int = 0, limit: int | None = None
) -> tuple[Tensor, Tensor]:
    """Divide the positions 0 … N − 1 in two, each class in the same proportion.

    Every class of two or more gives at least one and keeps at least one.

    Args:
        labels: (N,) int64.
        share: of N to hold out, 0–1.
        seed, stream: the same pair draws the same positions.
        limit: the most to hold out.

    Returns:
        The positions held out and the positions left, both int64 and ascending.
    """
    labels_array = labels.numpy()
    counts = np.bincount(labels_array)
    take = _take_per_class(counts, share, limit)
    # Sorted by class and then by a random key, a picture's rank in its class says whether it is held out.
    order = np.lexsort((np.random.default_rng([seed, stream]).random(len(labels_array)), labels_array))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = rank < take[labels_array[order]]
    return torch.from_numpy(np.sort(order[held])), torch.from_numpy(np.sort(order[~held]))


def _take_per_class(counts: NDArray[np.int64], share: float, limit: int | None) -> NDArray[np.int64]:
    """Return how many of each class to hold out: the largest remainders make the total right."""
    total = int(counts.sum())
    wanted = round(total * share)
    if limit is not None:
        wanted = min(wanted, limit)
    ideal = counts * (wanted / total)
    take = np.floor(ideal).astype(np.int64)
    largest = np.argsort(take - ideal, kind="stable")
    take[largest[: wanted - int(take.sum())]] += 1
    at_most = np.maximum(counts - 1, 0)
    bounded: NDArray[np.int64] = np.minimum(np.maximum(take, 1), at_most)
    return bounded
