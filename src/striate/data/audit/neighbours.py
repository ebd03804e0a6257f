"""Which of many 64-bit codes differ in a few bits: multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012).

Two codes that differ in at most r bits have a quarter, number k of 0 to 3, in which they differ in at most
⌊(r − k) / 4⌋. Each quarter is looked up in a table of its own, with so many of its bits turned over, and what is found
there is compared in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import final

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint64]
Pairs = NDArray[np.int64]

_QUARTERS, _BITS = 4, 16
_AT_ONCE = 1 << 22  # candidates that are compared together: 100 MB


def neighbours(indexed: Codes, queries: Codes, radius: int) -> Iterator[Pairs]:
    """Yield blocks of (query, indexed) positions whose codes differ in at most ``radius`` bits, some of them twice.

    Args:
        indexed: (N,) codes.
        queries: (M,) codes.
        radius: in bits, 0 to 63.
    """
    for quarter in range(_QUARTERS):
        table, keys = _Table(_quarter(indexed, quarter)), _quarter(queries, quarter)
        for mask in _masks(quarter, radius):
            for pairs in table.find(keys ^ mask):
                distance = np.bitwise_count(queries[pairs[:, 0]] ^ indexed[pairs[:, 1]])
                yield pairs[distance <= radius]


def candidates(indexed: Codes, queries: Codes, radius: int) -> int:
    """Return how many pairs ``neighbours`` would compare in full, without comparing any."""
    total = 0
    for quarter in range(_QUARTERS):
        here, there = (np.bincount(_quarter(codes, quarter), minlength=1 << _BITS) for codes in (indexed, queries))
        values = np.flatnonzero(there)
        total += sum(int(there[values] @ here[values ^ mask]) for mask in _masks(quarter, radius))
    return total


@final
class _Table:
    """The positions of codes by the value of one quarter."""

    def __init__(self, keys: NDArray[np.int64]) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._starts = np.concatenate([[0], np.bincount(keys, minlength=1 << _BITS).cumsum()])

    def find(self, keys: NDArray[np.int64]) -> Iterator[Pairs]:
        """Yield blocks of (position in ``keys``, position in the table) of what is equal."""
        starts, counts = self._starts[keys], self._starts[keys + 1] - self._starts[keys]
        ends = counts.cumsum()
        first = 0
        while first < len(keys):
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
            repeats = counts[first:last]
            query = np.repeat(np.arange(first, last), repeats)
            within = np.arange(len(query)) - np.repeat(repeats.cumsum() - repeats, repeats)
            yield np.stack([query, self._order[starts[query] + within]], axis=1)
            first = last


def _quarter(codes: Codes, quarter: int) -> NDArray[np.int64]:
    return ((codes >> np.uint64(_BITS * quarter)) & np.uint64((1 << _BITS) - 1)).astype(np.int64)


def _masks(quarter: int, radius: int) -> NDArray[np.int64]:
    """Return the numbers of 16 bits of which at most ⌊(radius − quarter) / 4⌋ are 1."""
    most = min((radius - quarter) // _QUARTERS, _BITS)
    masks = [sum(1 << bit for bit in bits) for ones in range(most + 1) for bits in combinations(range(_BITS), ones)]
    return np.array(masks, dtype=np.int64)
