from __future__ import annotations

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.core.errors import DataError
from striate.data.splits import check_held_out, divide
from striate.data.stratify import stratified


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=8).filter(any),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**32),
)
def test_every_picture_is_on_one_side_and_every_class_on_both(counts, share, seed):
    labels = torch.repeat_interleave(torch.tensor(counts))
    held, rest = stratified(labels, share, seed=seed)
    assert sorted(held.tolist() + rest.tolist()) == list(range(len(labels)))
    for label, count in enumerate(counts):
        taken = int((labels[held] == label).sum())
        assert abs(taken - count * share) <= 1 or taken in (1, count - 1)
        if count >= 2:
            assert 1 <= taken < count


def test_the_largest_remainders_make_the_total_right():
    labels = torch.arange(60_000) * 7 % 60_000 % 7
    held, _ = stratified(labels, 0.1, seed=0, limit=5_000)
    assert len(held) == 5_000
    assert torch.bincount(labels[held]).tolist() == [715, 715, 714, 714, 714, 714, 714]


def test_the_seed_decides():
    labels = torch.arange(1000) % 10
    assert torch.equal(stratified(labels, 0.1, seed=3)[0], stratified(labels, 0.1, seed=3)[0])
    assert not torch.equal(stratified(labels, 0.1, seed=3)[0], stratified(labels, 0.1, seed=4)[0])
    assert not torch.equal(stratified(labels, 0.1, seed=3)[0], stratified(labels, 0.1, seed=3, stream=1)[0])


def test_what_the_source_lacks_is_held_out_of_train():
    labels = torch.arange(1000) % 10
    parts = divide({"train": labels}, seed=0)
    assert {name: part.source for name, part in parts.items()} == dict.fromkeys(("train", "val", "test"), "train")
    assert [len(parts[name].index) for name in ("train", "val", "test")] == [765, 85, 150]
    everything = torch.cat([part.index for part in parts.values()])
    assert everything.sort().values.tolist() == list(range(1000))


def test_what_the_source_has_is_taken_whole():
    parts = divide({"train": torch.arange(20) % 2, "val": torch.arange(4) % 2, "test": torch.arange(6) % 2}, seed=0)
    assert {name: (part.source, len(part.index)) for name, part in parts.items()} == {
        "train": ("train", 20),
        "val": ("val", 4),
        "test": ("test", 6),
    }


@given(
    members=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=80), seed=st.integers(0, 99)
)
def test_no_group_is_in_two_splits(members, seed):
    groups, labels = torch.tensor(members).T
    parts = divide({"train": labels}, seed, groups={"train": groups})
    assert sorted(torch.cat([part.index for part in parts.values()]).tolist()) == list(range(len(members)))
    own = [set(groups[part.index].tolist()) for part in parts.values()]
    assert sum(map(len, own)) == len(set(groups.tolist()))


def test_what_stays_is_never_held_out():
    labels, stays = torch.arange(200) % 2, torch.arange(200) < 150
    for seed in range(5):
        parts = divide({"train": labels}, seed, stays=stays)
        assert not stays[parts["val"].index].any()
        assert not stays[parts["test"].index].any()
        assert [len(parts[name].index) for name in ("train", "val", "test")] == [150 + 38, 4, 8]
        assert torch.equal(parts["train"].index, parts["train"].index.sort().values)


def test_several_labels_are_divided_too():
    labels = (torch.rand(400, 5, generator=torch.Generator().manual_seed(0)) < 0.1).byte()
    parts = divide({"train": labels}, 0)
    assert [len(parts[name].index) for name in ("train", "val", "test")] == [306, 34, 60]
    assert all((labels[part.index].sum(dim=0) > 0).all() for part in parts.values())


def test_groups_too_few_are_refused_and_a_class_that_they_leave_out_is_named(caplog):
    labels, names = {"train": torch.arange(12) % 2}, ("cat", "dog")
    for count, got in ((2, "2 in all"), (1, "1 in all")):
        groups = {"train": torch.arange(12) // (12 // count)}
        with pytest.raises(
            DataError, match=f"pets must have at least three groups of a class, .* got {got}. Add groups"
        ):
            check_held_out(divide(labels, 0, groups=groups), labels, names, groups, "pets")
    labels = {"train": torch.tensor([0] * 9 + [1] * 3)}
    groups = {"train": torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])}  # all dogs are of one group
    with caplog.at_level(logging.WARNING):
        check_held_out(divide(labels, 0, groups=groups), labels, names, groups, "pets")
    assert "test of pets has no picture of 'dog': too few groups have any. Add groups" in caplog.text
    assert "val of pets has no picture of 'dog'" in caplog.text
