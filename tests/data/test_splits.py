from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.splits import divide
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
