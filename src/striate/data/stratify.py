"""Holding out: seeded divisions in two in which each class keeps its share, and no group is on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

_PASSES = 3


def hold_out(
    labels: Tensor, share: float, *, seed: int, stream: int = 0, limit: int | None = None, groups: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Divide the positions 0 … N − 1 in two: by ``grouped`` where there are groups, by ``iteratively_stratified`` where
    a picture may have several classes, else by ``stratified``.

    Args:
        labels: (N,) int64, or (N, K) uint8.
        share: of N to hold out, 0–1.
        seed, stream: the same pair draws the same positions.
        limit: the most to hold out.
        groups: (N,) int64, or None.

    Returns:
        The positions held out and the positions left, both int64 and ascending.
    """
    if groups is not None:
        return grouped(labels, groups, share, seed=seed, stream=stream, limit=limit)
    if labels.ndim == 2:
        return iteratively_stratified(labels, share, seed=seed, stream=stream, limit=limit)
    return stratified(labels, share, seed=seed, stream=stream, limit=limit)


def stratified(
    labels: Tensor, share: float, *, seed: int, stream: int = 0, limit: int | None = None
) -> tuple[Tensor, Tensor]:
    """Divide the positions 0 … N − 1 in two, each class in the same proportion.

    Every class of two or more gives at least one and keeps at least one.

    Args:
        labels: (N,) int64.
        share, seed, stream, limit: see ``hold_out``.

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


def grouped(
    labels: Tensor, groups: Tensor, share: float, *, seed: int, stream: int = 0, limit: int | None = None
) -> tuple[Tensor, Tensor]:
    """Divide the positions 0 … N − 1 in two, no group on both sides, each class as nearly in proportion as that allows.

    From the largest group to the smallest, one changes sides where that brings the held-out counts of its classes
    nearer to their share (squared distance, relative to the size of the class) and leaves some of each class behind;
    three times at most. A class that is in two groups or more is on both sides, unless that would take another class
    from one.

    Args:
        labels: (N,) int64, or (N, K) uint8.
        groups: (N,) int64.
        share, seed, stream, limit: see ``hold_out``.

    Returns:
        The positions held out and the positions left, both int64 and ascending.
    """
    _, group_of = np.unique(groups.numpy(), return_inverse=True)
    counts = _counted(labels, group_of)
    totals = np.asarray(counts.sum(axis=0), dtype=np.float64)
    wanted = totals * (_wanted(len(labels), share, limit) / max(len(labels), 1))
    size = np.bincount(group_of, minlength=counts.shape[0])
    held = np.zeros(counts.shape[0], dtype=bool)
    taken = np.zeros_like(totals)
    order = np.lexsort((np.random.default_rng([seed, stream]).random(len(size)), -size))
    for group in np.tile(order, _PASSES):
        classes, own = _row(counts, group)
        change = -own if held[group] else own
        after, total = taken[classes] + change, totals[classes]
        nearer = (change * (2 * wanted[classes] - taken[classes] - after) / total).sum() > 0
        if nearer and (after < total).all():
            held[group] = ~held[group]
            taken[classes] = after
    _put_on_both_sides(counts, held, size)
    return _sides(held[group_of])


def iteratively_stratified(
    labels: Tensor, share: float, *, seed: int, stream: int = 0, limit: int | None = None
) -> tuple[Tensor, Tensor]:
    """Divide the positions 0 … N − 1 in two, each of several labels in the same proportion.

    The rarest label comes first: each of its pictures goes to the side that still wants more of that label (Sechidis,
    Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML 2011). A label with two pictures or more
    is on both sides, unless that would take another label from one.

    Args:
        labels: (N, K) uint8.
        share, seed, stream, limit: see ``hold_out``.

    Returns:
        The positions held out and the positions left, both int64 and ascending.
    """
    count = len(labels)
    present = _counted(labels, np.arange(count))
    pictures_of = present.tocsc()
    order = np.random.default_rng([seed, stream]).permutation(count)
    rank = np.argsort(order)
    totals = np.asarray(present.sum(axis=0), dtype=np.float64)
    ratio = _wanted(count, share, limit) / max(count, 1)
    # Of each label the two sides still want so many: row 0 what is left in train, row 1 what is held out.
    wants = np.stack([totals * (1 - ratio), totals * ratio])
    room = np.array([count * (1 - ratio), count * ratio])
    left, undecided, held = totals.copy(), np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
    left[-1] = 0  # the pictures without a label come last, and fill what room there is
    while (left > 0).any():
        label = int(np.argmin(np.where(left > 0, left, np.inf)))
        pictures, _ = _row(pictures_of, label)
        for picture in sorted(pictures[undecided[pictures]], key=rank.__getitem__):
            classes, _ = _row(present, picture)
            side = int((wants[1, label], room[1]) > (wants[0, label], room[0]))
            wants[side, classes] -= 1
            room[side] -= 1
            left[classes] -= 1
            undecided[picture] = False
            held[picture] = bool(side)
    unlabelled = order[undecided[order]]
    held[unlabelled[: max(0, round(room[1]))]] = True
    _put_on_both_sides(present, held, np.ones(count))
    return _sides(held)


def _wanted(count: int, share: float, limit: int | None) -> int:
    """Return how many of all to hold out."""
    wanted = round(count * share)
    return wanted if limit is None else min(wanted, limit)


def _counted(labels: Tensor, unit_of: NDArray[np.int64]) -> Any:
    """Return how many pictures of each class each unit has, in compressed rows: (U, K).

    Where a picture may have several classes, one column more counts the pictures without any: they are shared out like
    those of a class.

    Args:
        unit_of: (N,) from 0 to U − 1, the unit (a group, or the picture itself) of each picture.
    """
    if labels.ndim == 1:
        classes, pictures = labels.numpy(), np.arange(len(labels))
        columns = int(classes.max(initial=0)) + 1
    else:
        several = labels.numpy()
        several = np.concatenate([several, ~several.any(axis=1, keepdims=True)], axis=1)
        pictures, classes = several.nonzero()
        columns = several.shape[1]
    shape = (int(unit_of.max(initial=-1)) + 1, columns)
    counts = sparse.csr_array((np.ones(len(classes), dtype=np.int64), (unit_of[pictures], classes)), shape=shape)
    counts.sum_duplicates()
    return counts


def _row(matrix: Any, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where a compressed row (of a csc matrix: a column) is not zero, and its values there."""
    part = slice(matrix.indptr[number], matrix.indptr[number + 1])
    return matrix.indices[part], matrix.data[part]


def _put_on_both_sides(counts: Any, held: NDArray[np.bool_], size: NDArray[Any]) -> None:
    """Move the smallest unit that has a class which one side lacks, where that takes no class from the other side.

    ``held`` is changed in place.
    """
    has = counts.astype(bool).astype(np.int64)
    on = np.stack([np.asarray(has[~held].sum(axis=0)), np.asarray(has[held].sum(axis=0))])
    units_of = has.tocsc()
    for label in np.argsort(on.sum(axis=0), kind="stable"):
        lacking = int(on[1, label] == 0)  # the side without this class, where there is one
        if on[lacking, label] > 0 or on[:, label].sum() < 2:
            continue
        units, _ = _row(units_of, label)
        for unit in units[np.argsort(size[units], kind="stable")]:
            classes, _ = _row(has, unit)
            if (on[1 - lacking, classes] >= 2).all():
                held[unit] = bool(lacking)
                on[lacking, classes] += 1
                on[1 - lacking, classes] -= 1
                break


def _sides(held: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(held.nonzero()[0]), torch.from_numpy((~held).nonzero()[0])


def _take_per_class(counts: NDArray[np.int64], share: float, limit: int | None) -> NDArray[np.int64]:
    """Return how many of each class to hold out: the largest remainders make the total right."""
    total = int(counts.sum())
    wanted = _wanted(total, share, limit)
    ideal = counts * (wanted / total)
    take = np.floor(ideal).astype(np.int64)
    largest = np.argsort(take - ideal, kind="stable")
    take[largest[: wanted - int(take.sum())]] += 1
    at_most = np.maximum(counts - 1, 0)
    bounded: NDArray[np.int64] = np.minimum(np.maximum(take, 1), at_most)
    return bounded
