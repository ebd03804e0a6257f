from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from striate.core import machine
from striate.core.machine import Execution
from striate.data.batches import Batch, epoch_batches
from striate.data.imageset import ImageSet
from striate.data.preprocess import normalise
from striate.training import feed
from striate.training.feed import BATCHES_AHEAD, batches_left, fetched_ahead, resident
from striate.training.fit import fit
from striate.training.recipe import Recipe
from striate.training.run import Run
from tests.conftest import make_image_set


def numbered(count: int, taken: list[int]) -> Iterator[Batch]:
    """Yield batches of one picture each, and note which were taken."""
    for number in range(count):
        taken.append(number)
        one = torch.full((1,), number)
        yield Batch(torch.full((1, 1, 2, 2), number, dtype=torch.uint8), one, one)


def feeding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("striate-feed")]


@pytest.mark.parametrize("count", [0, 1, BATCHES_AHEAD, 7])
def test_batches_fetched_ahead_come_whole_and_in_order(count: int) -> None:
    sent = [int(batch.labels) for batch in fetched_ahead(numbered(count, []), lambda batch: batch)]
    assert sent == list(range(count))
    assert feeding_threads() == []


def test_another_thread_takes_and_sends_no_more_than_a_few_batches_ahead() -> None:
    taken: list[int] = []
    senders: list[threading.Thread] = []

    def send(batch: Batch) -> Batch:
        senders.append(threading.current_thread())
        return Batch(batch.images + 1, batch.labels, batch.index)

    batches = fetched_ahead(numbered(50, taken), send)
    for number in range(3):
        assert int(next(batches).images.max()) == number + 1
    batches.close()
    assert 3 <= len(taken) <= 3 + BATCHES_AHEAD
    assert threading.main_thread() not in senders
    assert feeding_threads() == []


def test_what_goes_wrong_in_the_thread_is_raised_where_its_batch_would_come() -> None:
    def send(batch: Batch) -> Batch:
        if int(batch.labels) == 2:
            raise RuntimeError("no room on the device")
        return batch

    batches = fetched_ahead(numbered(9, []), send)
    assert [int(next(batches).labels) for _ in range(2)] == [0, 1]
    with pytest.raises(RuntimeError, match="no room on the device"):
        next(batches)
    assert feeding_threads() == []


def test_a_run_fed_ahead_has_the_same_weights(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(folder: str) -> Tensor:
        torch.manual_seed(1)
        head = nn.Linear(math.prod(image_set.spec.input.shape), image_set.spec.task.classes)
        network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), head)
        fit(network, image_set, folder=tmp_path / folder, epochs=2, batch_size=8, progress=False, doctor=False)
        return head.weight.detach()

    usual = weights("usual")
    monkeypatch.setattr(
        feed, "epoch_batches", lambda *words, **more: fetched_ahead(epoch_batches(*words, **more), same)
    )
    assert torch.equal(weights("ahead"), usual)
    assert feeding_threads() == []


def same(batch: Batch) -> Batch:
    return batch


class Other(str):
    """A device that says it is a GPU."""

    __slots__ = ()
    type = "cuda"


@pytest.mark.parametrize("larger", [False, True])
def test_pictures_that_fit_stay_on_the_gpu(larger: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    images = make_image_set(pictures=60)
    split = replace(images.train, stored=images.train.images.repeat(1, 1, 2, 2)) if larger else images.train
    bytes_ = split.images.nbytes * (4 if larger else 1)
    monkeypatch.setattr(machine, "device", lambda: Other("cpu"))
    for free, fits in ((2 * bytes_ + 1_000, True), (2 * bytes_ + 998, False)):
        monkeypatch.setattr(machine, "available_memory", lambda free=free: free)
        run = Run(nn.Identity(), images.spec, Recipe(), {}, 1, split, expected_bytes=1_000.0)
        assert (resident(run) is not None) == fits
    monkeypatch.setattr(machine, "device", lambda: torch.device("cpu"))
    assert resident(run) is None


def test_batches_are_cut_from_what_is_on_the_gpu() -> None:
    images = make_image_set(pictures=60)
    run = Run(nn.Identity(), images.spec, Recipe(batch_size=7), {}, 5, images.train)
    inverted = replace(images.train, images=255 - images.train.images)
    ones, others = (next(iter(batches_left(run, 0, 0, Execution(), here))) for here in (None, inverted))
    assert torch.equal(ones.index, others.index)
    assert torch.equal(others.pictures, normalise(255 - images.train.images[ones.index], images.spec.input))
