from __future__ import annotations

import pytest
import torch

from striate.core.errors import DataError
from striate.core.spec import InputSpec, Spec, TaskSpec
from striate.data.batches import batch_count, epoch_batches, epoch_order
from striate.data.imageset import Origins, Split


@pytest.fixture
def split() -> Split:
    spec = Spec(
        input=InputSpec(channels=1, height=4, width=4, mean=(0.0,), std=(1.0,)),
        task=TaskSpec(class_names=tuple("abcdefghij")),
    )
    images = torch.arange(10, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return Split(images, torch.arange(10), spec, Origins.numbered("train", 10))


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_an_epoch_shows_every_picture_once(split, drop_last, sizes):
    batches = list(epoch_batches(split, 4, epoch=1, seed=2, drop_last=drop_last))
    assert [len(batch.labels) for batch in batches] == sizes
    assert batch_count(10, 4, drop_last) == len(sizes)
    seen = torch.cat([batch.index for batch in batches])
    assert len(set(seen.tolist())) == sum(sizes)
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.index)
        assert torch.equal(batch.labels, batch.index)


def test_the_order_is_keyed_by_seed_and_epoch_and_leaves_the_global_generator_alone(split):
    before = torch.get_rng_state()
    orders = {tuple(epoch_order(10, epoch=epoch, seed=seed).tolist()) for epoch in range(3) for seed in range(3)}
    assert len(orders) == 9
    assert torch.equal(epoch_order(10, epoch=2, seed=1), epoch_order(10, epoch=2, seed=1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_starting_in_the_middle_gives_the_same_rest(split, start):
    whole = list(epoch_batches(split, 4, epoch=5, seed=9))
    rest = list(epoch_batches(split, 4, epoch=5, seed=9, start_batch=start))
    assert [batch.index.tolist() for batch in rest] == [batch.index.tolist() for batch in whole[start:]]


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_drawn_pictures_start_in_the_middle_too_and_each_draw_has_a_key_of_its_own(split, start):
    shares = torch.tensor([1.0] * 9 + [30.0], dtype=torch.float64)
    whole = list(epoch_batches(split, 4, epoch=5, seed=9, shares=shares))
    rest = list(epoch_batches(split, 4, epoch=5, seed=9, shares=shares, start_batch=start))
    assert [batch.index.tolist() for batch in rest] == [batch.index.tolist() for batch in whole[start:]]
    keys = torch.cat([batch.index for batch in whole])
    pictures = torch.cat([batch.labels for batch in whole])  # a picture's label is its position
    assert torch.equal(pictures, epoch_order(10, epoch=5, seed=9, shares=shares))
    for picture in range(10):
        times = int((pictures == picture).sum())
        assert keys[pictures == picture].tolist() == [picture + 10 * time for time in range(times)]
    assert int((pictures == 9).sum()) > 3


@pytest.mark.parametrize("shares", [None, torch.arange(10, dtype=torch.float64)])
def test_processes_divide_every_batch(split, shares):
    whole = list(epoch_batches(split, 4, epoch=5, seed=9, shares=shares))
    for rank in range(3):
        rows = slice(rank, None, 3)
        for own, batch in zip(epoch_batches(split, 4, epoch=5, seed=9, shares=shares, rows=rows), whole, strict=True):
            assert torch.equal(own.images, batch.images[rows])
            assert torch.equal(own.labels, batch.labels[rows])
            assert torch.equal(own.index, batch.index[rows])


def test_without_shuffling_the_order_is_that_of_the_split(split):
    assert torch.cat([b.index for b in epoch_batches(split, 3, shuffle=False)]).tolist() == list(range(10))


def test_a_phase_may_be_smaller(split):
    batch = next(epoch_batches(split, 5, size=(2, 2)))
    assert batch.images.shape == (5, 1, 2, 2)
    assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.index)


def test_a_batch_must_have_a_picture(split):
    with pytest.raises(DataError, match="batch_size must be at least 1, got 0"):
        next(epoch_batches(split, 0))
