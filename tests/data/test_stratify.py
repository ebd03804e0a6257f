from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from striate.data.stratify import grouped, hold_out, iteratively_stratified, stratified

SEVERAL = st.integers(1, 5).flatmap(
    lambda classes: st.lists(st.lists(st.integers(0, 1), min_size=classes, max_size=classes), min_size=1, max_size=40)
)


def rows_of(labels: Tensor) -> Tensor:
    """Return labels as one column per class and one more for pictures without any: (N, K + 1) bool."""
    if labels.ndim == 1:
        return torch.nn.functional.one_hot(labels).bool()
    return torch.cat([labels.bool(), ~labels.bool().any(dim=1, keepdim=True)], dim=1)


def assert_no_move_mends(labels: Tensor, units: Tensor, held: Tensor) -> None:
    """A class that could be on both sides by moving one unit, without any class leaving one, is on both."""
    rows, is_held = rows_of(labels), torch.zeros(len(labels), dtype=torch.bool)
    is_held[held] = True
    sides = [set(rows[side].any(dim=0).nonzero().flatten().tolist()) for side in (is_held, ~is_held)]
    for unit in units.unique().tolist():
        moved = is_held ^ (units == unit)
        after = [set(rows[side].any(dim=0).nonzero().flatten().tolist()) for side in (moved, ~moved)]
        assert not (sides[0] <= after[0] and sides[1] <= after[1] and sides != after), (unit, sides, after)


@given(
    members=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), min_size=1, max_size=60),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**32),
)
def test_no_group_is_on_both_sides(members, share, seed):
    groups, labels = torch.tensor(members).T
    held, rest = grouped(labels, groups, share, seed=seed)
    assert sorted(held.tolist() + rest.tolist()) == list(range(len(members)))
    assert not set(groups[held].tolist()) & set(groups[rest].tolist())
    assert set(labels[rest].tolist()) == set(labels.tolist())  # there is something of each class to train on
    assert_no_move_mends(labels, groups, held)


@given(labels=SEVERAL, data=st.data(), share=st.floats(0.01, 0.5))
def test_no_group_of_several_labels_is_on_both_sides(labels, data, share):
    groups = torch.tensor(data.draw(st.lists(st.integers(0, 6), min_size=len(labels), max_size=len(labels))))
    held, rest = hold_out(torch.tensor(labels, dtype=torch.uint8), share, seed=0, groups=groups)
    assert sorted(held.tolist() + rest.tolist()) == list(range(len(labels)))
    assert not set(groups[held].tolist()) & set(groups[rest].tolist())


def test_classes_keep_their_share_as_well_as_groups_allow():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 12, 300)
    groups = torch.from_numpy(np.repeat(np.arange(300), sizes))
    # Each group is mostly of one class, and classes differ in size.
    main = rng.choice(4, 300, p=[0.5, 0.3, 0.15, 0.05])
    labels = np.where(rng.random(len(groups)) < 0.8, main[groups.numpy()], rng.integers(0, 4, len(groups)))
    labels = torch.from_numpy(labels)
    held, _ = grouped(labels, groups, 0.15, seed=1)
    shares = torch.bincount(labels[held]) / torch.bincount(labels)
    assert shares.numpy() == pytest.approx(np.full(4, 0.15), abs=0.01)


def test_groups_of_one_picture_are_stratified_as_pictures_are():
    labels = torch.arange(1000) % 7
    held, _ = grouped(labels, torch.arange(1000), 0.15, seed=0)
    alone, _ = stratified(labels, 0.15, seed=0)
    assert (torch.bincount(labels[held]) - torch.bincount(labels[alone])).abs().max() <= 1


def test_three_groups_that_hold_all_classes_give_one():
    held, _ = grouped(torch.arange(12) % 2, torch.arange(12) // 4, 0.1, seed=0)
    assert len(held) == 4
    held, _ = grouped(torch.arange(12) % 2, torch.zeros(12, dtype=torch.int64), 0.1, seed=0)
    assert len(held) == 0


@given(labels=SEVERAL, share=st.floats(0.01, 0.5), seed=st.integers(0, 2**32))
def test_every_label_is_on_both_sides_where_one_more_move_would_do_it(labels, share, seed):
    several = torch.tensor(labels, dtype=torch.uint8)
    held, rest = iteratively_stratified(several, share, seed=seed)
    assert sorted(held.tolist() + rest.tolist()) == list(range(len(labels)))
    assert_no_move_mends(several, torch.arange(len(labels)), held)


@pytest.mark.parametrize("last", [0.004, 1.0])  # of 1, no picture is without a label
def test_each_of_several_labels_keeps_its_share(last):
    rng = np.random.default_rng(0)
    often = np.array([0.5, 0.3, 0.1, 0.03, 0.01, last])
    labels = torch.from_numpy((rng.random((3000, 6)) < often).astype(np.uint8))
    held, _ = iteratively_stratified(labels, 0.1, seed=0)
    assert len(held) == 300
    wanted = labels.sum(dim=0) * 0.1
    assert ((labels[held].sum(dim=0) - wanted).abs() <= 1).all()
    assert (labels[held].sum(dim=1) == 0).sum() == pytest.approx(float((labels.sum(dim=1) == 0).sum()) * 0.1, abs=2)


@pytest.mark.parametrize("labels", [torch.arange(600) % 5, (torch.arange(1800).reshape(600, 3) % 7 < 2).byte()])
@pytest.mark.parametrize("groups", [None, torch.arange(600) // 4])
def test_the_seed_decides_and_the_limit_holds(labels, groups):
    first, again, other = (hold_out(labels, 0.1, seed=seed, groups=groups)[0] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, hold_out(labels, 0.1, seed=3, stream=1, groups=groups)[0])
    assert len(hold_out(labels, 0.1, seed=3, limit=20, groups=groups)[0]) == pytest.approx(20, abs=4)
