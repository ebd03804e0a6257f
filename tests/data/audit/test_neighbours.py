from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.audit.neighbours import candidates, neighbours


def all_pairs(indexed: np.ndarray, queries: np.ndarray, radius: int) -> set[tuple[int, int]]:
    """Compare each with each."""
    return {
        (i, j)
        for i, query in enumerate(queries.tolist())
        for j, code in enumerate(indexed.tolist())
        if (query ^ code).bit_count() <= radius
    }


def found(indexed: np.ndarray, queries: np.ndarray, radius: int) -> set[tuple[int, int]]:
    return {(i, j) for pairs in neighbours(indexed, queries, radius) for i, j in pairs.tolist()}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), radius=st.integers(0, 9), flips=st.integers(0, 12))
def test_it_finds_what_comparing_each_with_each_finds(seed, radius, flips):
    draws = np.random.default_rng(seed)
    indexed = draws.integers(0, 2**64, 40, dtype=np.uint64)
    queries = indexed[draws.integers(0, 40, 60)].copy()
    for _ in range(flips):
        queries ^= np.uint64(1) << draws.integers(0, 64, 60, dtype=np.uint64)
    assert found(indexed, queries, radius) == all_pairs(indexed, queries, radius)


@pytest.mark.parametrize("radius", [0, 3, 8])
def test_candidates_counts_what_is_compared(radius, monkeypatch):
    draws = np.random.default_rng(0)
    indexed, queries = (
        draws.integers(0, 2**64, count, dtype=np.uint64) & np.uint64(0x000F000F000F000F) for count in (50, 70)
    )
    compared = 0
    true = np.bitwise_count

    def counting(codes: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += len(codes)
        return true(codes)

    monkeypatch.setattr(np, "bitwise_count", counting)
    list(neighbours(indexed, queries, radius))
    assert compared == candidates(indexed, queries, radius) > 0


def test_nothing_is_near_nothing():
    nothing = np.zeros(0, np.uint64)
    assert found(nothing, nothing, 8) == set()
    assert candidates(nothing, nothing, 8) == 0


def test_many_equal_codes_are_compared_in_blocks(monkeypatch):
    monkeypatch.setattr("striate.data.audit.neighbours._AT_ONCE", 1000)
    codes = np.zeros(100, np.uint64)
    blocks = [len(pairs) for pairs in neighbours(codes, codes, 0)]
    assert max(blocks) <= 1000
    assert sum(blocks) == 100 * 100
