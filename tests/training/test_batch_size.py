from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import striate as st
from striate.core import machine, processes
from striate.core.errors import RecipeError, TrainingError
from striate.core.machine import Execution
from striate.data.imageset import Split
from striate.training import batch_size
from striate.training.batch_size import BatchChoice, choose_batch_size
from striate.training.estimate import Estimate
from striate.training.memory import KERNELS
from striate.training.recipe import Recipe
from striate.training.rehearsal import rehearse
from striate.training.run import Run
from tests.conftest import make_image_set

MODEL = "conv 4@3x3 relu | gap | fc 3"
Clock = Callable[[Callable[[int], float]], None]


@pytest.fixture(scope="module")
def images() -> st.ImageSet:
    """Enough pictures for eight steps with 256 of them."""
    return make_image_set(pictures=3_600)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let a step take what a function of its batch says."""

    def use(seconds: Callable[[int], float]) -> None:
        def measured(run: Run, val: Split | None, execution: Execution) -> Estimate:
            return Estimate((seconds(run.batch_size),), 0.0)

        monkeypatch.setattr(batch_size, "estimate", measured)

    return use


def chosen(images: st.ImageSet, **fields: object) -> BatchChoice:
    return choose_batch_size(st.build(MODEL, images.spec), images, Recipe().changed(**fields))


@pytest.mark.parametrize(
    ("seconds", "best", "tried"),
    [
        (lambda pictures: 0.01 * pictures, 16, [16, 32]),  # twice the batch takes twice as long
        (lambda pictures: 1.0, 256, [16, 32, 64, 128, 256]),  # it takes no longer: as large as eight steps allow
        (lambda pictures: 1.0 + max(0, pictures - 64), 64, [16, 32, 64, 128]),
        (lambda pictures: pictures / 1.04, 16, [16, 32]),
    ],
)
def test_the_batch_is_doubled_as_long_as_it_pays(
    images: st.ImageSet, clock: Clock, seconds: Callable[[int], float], best: int, tried: list[int]
) -> None:
    clock(seconds)
    choice = chosen(images)
    assert choice.recipe.batch_size == best
    assert list(choice.rates) == tried
    assert choice.rates[best] == pytest.approx(best / seconds(best))


@pytest.mark.parametrize(
    ("optimizer", "factor"), [("sgd", 0.5), ("adamw", 0.5**0.5), ("rmsprop", 0.5**0.5), ("muon", 0.5**0.5)]
)
def test_the_learning_rate_goes_with_the_batch(
    images: st.ImageSet, clock: Clock, optimizer: str, factor: float
) -> None:
    clock(lambda pictures: 1.0 + max(0, pictures - 64))
    choice = chosen(images, optimizer=optimizer, learning_rate=0.2, batch_size=128)
    assert choice.recipe.learning_rate == pytest.approx(0.2 * factor)
    assert "learning rate 0.2 → " in str(choice)
    assert choice.recipe == choice.given.changed(batch_size=64, learning_rate=choice.recipe.learning_rate)


def test_it_takes_no_more_than_its_share_of_memory(
    images: st.ImageSet, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(lambda pictures: 1.0)
    need = rehearse(st.build(MODEL, images.spec), images, Recipe(batch_size=1, learn_from="train+val"))
    room = KERNELS + max(one.bytes(100) for one in need.moments)
    monkeypatch.setattr(machine, "available_memory", lambda: int(room / 0.8) + 1)
    assert chosen(images, learn_from="train+val").recipe.batch_size == 64
    monkeypatch.setattr(machine, "available_memory", lambda: int(KERNELS))
    with pytest.raises(RecipeError, match="batch_size must be one that fits in memory, at most about 0, got 2"):
        chosen(images)


def test_where_memory_runs_out_it_is_doubled_no_more(images: st.ImageSet, clock: Clock) -> None:
    def seconds(pictures: int) -> float:
        if pictures > most:
            raise RuntimeError("CUDA out of memory.")
        return 1.0

    clock(seconds)
    most = 64
    assert chosen(images).recipe.batch_size == 64
    most = 0
    with pytest.raises(TrainingError, match=r"Memory ran out\. .*try"):
        chosen(images)


def test_several_processes_each_get_what_is_good_for_one(
    images: st.ImageSet, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(lambda pictures: 1.0 + max(0, pictures - 32))
    one = chosen(images, optimizer="sgd")
    assert one.recipe.batch_size == 32

    def alone(make: Callable[[], object]) -> object:
        with pytest.MonkeyPatch.context() as meanwhile:
            meanwhile.setattr(processes, "world", lambda: 1)
            return make()

    monkeypatch.setattr(processes, "world", lambda: 4)
    monkeypatch.setattr(processes, "from_first", alone)
    four = chosen(images, optimizer="sgd")
    assert four.recipe.batch_size == 4 * 32
    assert four.recipe.learning_rate == 4 * one.recipe.learning_rate
    assert max(four.rates) <= max(one.rates)


def test_few_pictures_make_small_batches(image_set: st.ImageSet, clock: Clock) -> None:
    clock(lambda pictures: 1.0)
    assert chosen(image_set).recipe.batch_size == len(image_set.train) // 8


def test_measuring_leaves_the_network_and_the_generators_alone(image_set: st.ImageSet) -> None:
    network = st.build("conv 4@3x3 bn relu dropout 0.5 | gap | fc 3", image_set.spec)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    drawn = torch.get_rng_state()
    choice = choose_batch_size(network, image_set, Recipe(flip="random"))
    assert all(rate > 0 for rate in choice.rates.values())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_handful_of_pictures_is_measured_two_at_a_time(clock: Clock) -> None:
    clock(lambda pictures: 1.0)
    images = make_image_set(pictures=15)
    network = st.build("conv 4@3x3 relu | gap | fc 8 | bn | fc 3", images.spec)
    assert choose_batch_size(network, images, Recipe()).recipe.batch_size == 2
