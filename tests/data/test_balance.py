from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.balance import balancing_shares, class_counts
from striate.data.batches import epoch_order

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=60)
SEVERAL = st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), min_size=1, max_size=40)


@given(LABELS)
def test_every_class_that_comes_has_the_same_share(labels: list[int]) -> None:
    shares = balancing_shares(torch.tensor(labels), 4)
    assert class_counts(torch.tensor(labels), 4).tolist() == [labels.count(k) for k in range(4)]
    for k in set(labels):
        own = [share for share, label in zip(shares.tolist(), labels, strict=True) if label == k]
        assert sum(own) == pytest.approx(1)


@given(SEVERAL)
def test_a_picture_of_several_labels_counts_as_its_rarest(rows: list[list[int]]) -> None:
    labels = torch.tensor(rows, dtype=torch.uint8)
    counts = [sum(row[k] for row in rows) for k in range(3)]
    unlabelled = sum(not any(row) for row in rows)
    assert class_counts(labels, 3).tolist() == counts
    expected = [1 / min((counts[k] for k in range(3) if row[k]), default=unlabelled) for row in rows]
    assert balancing_shares(labels, 3).tolist() == pytest.approx(expected)


def test_draws_come_as_often_as_their_shares_say() -> None:
    labels = torch.tensor([0] * 9_000 + [1] * 900 + [2] * 100)
    order = epoch_order(len(labels), epoch=3, seed=1, shares=balancing_shares(labels, 3))
    drawn = class_counts(labels[order], 3)
    assert len(order) == len(labels)
    assert (drawn - 10_000 / 3).abs().max() < 5 * (10_000 * 2 / 9) ** 0.5  # five deviations of the binomial
    rare = torch.bincount(order, minlength=len(labels))[-100:].double()
    assert rare.mean().item() == pytest.approx(100 / 3, rel=0.1)
    assert 0.5 < (rare.var() / rare.mean()).item() < 1.5  # as Poisson's


def test_a_share_of_nothing_is_never_drawn() -> None:
    order = epoch_order(1_000, epoch=0, seed=0, shares=torch.cat([torch.zeros(500), torch.ones(1), torch.zeros(499)]))
    assert order.unique().tolist() == [500]
