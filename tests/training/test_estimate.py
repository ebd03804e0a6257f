from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.core.machine import Execution
from striate.training.estimate import Estimate, estimate, steps_left
from striate.training.recipe import Phase, Recipe
from striate.training.run import Run
from tests.conftest import make_image_set

PASS_SECONDS = 0.05


class Slow(nn.Module):
    """A network whose forward pass takes a known time."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.norm, self.head = nn.Dropout(), nn.BatchNorm2d(1), nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(PASS_SECONDS)
        logits: Tensor = self.head(self.dropout(self.norm(images)).flatten(1))
        return logits


def slow_run(images: st.ImageSet, recipe: Recipe) -> Run:
    return Run(Slow(), images.spec, recipe, {}, len(images.train) // recipe.batch_size, images.train)


def test_steps_and_validation_take_what_their_passes_do(image_set: st.ImageSet) -> None:
    run = slow_run(image_set, Recipe(batch_size=len(image_set.val), average="ema"))
    found = estimate(run, image_set.val, Execution())
    assert len(found.step_seconds) == 1
    assert PASS_SECONDS <= found.step_seconds[0] <= 5 * PASS_SECONDS  # tests share their machine
    assert PASS_SECONDS <= found.epoch_end_seconds <= 5 * PASS_SECONDS
    assert estimate(run, None, Execution()).epoch_end_seconds == 0


@pytest.mark.parametrize("average", ["none", "ema"])
def test_nothing_random_is_consumed_and_the_network_is_left_alone(image_set: st.ImageSet, average: str) -> None:
    phases = (Phase(epochs=1, frozen=("norm",)), Phase(epochs=2))
    run = slow_run(image_set, Recipe(batch_size=16, epochs=3, phases=phases, average=average, flip="random"))  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
    drawn = torch.get_rng_state()
    found = estimate(run, image_set.val, Execution())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.network.state_dict().items())
    assert all(one.grad is None and one.requires_grad for one in run.network.parameters())
    assert (len(found.step_seconds), run.step, run.history, run.seen) == (2, 0, [], None)
    assert not any(Path().iterdir())


def test_smaller_pictures_take_less() -> None:
    images = make_image_set(size=48)
    network = st.build("conv 16@5x5 pad 2 relu | conv 16@5x5 pad 2 relu | gap | fc 3", images.spec)
    phases = (Phase(epochs=1, resolution=12), Phase(epochs=1))
    run = Run(network, images.spec, Recipe(batch_size=32, epochs=2, phases=phases), {}, 2, images.train)
    small, large = estimate(run, None, Execution()).step_seconds
    assert 0 < 2 * small < large  # 16 times the pixels


def test_what_is_left_is_added_up(image_set: st.ImageSet) -> None:
    phases = (Phase(epochs=1), Phase(epochs=2.5))
    run = Run(nn.Linear(1, 1), image_set.spec, Recipe(epochs=3.5, phases=phases), {}, 10, image_set.train)
    found = Estimate((0.5, 2.0), 1.0)
    assert steps_left(run) == [10, 25]
    assert found.seconds_left(run) == 10 * 0.5 + 25 * 2.0 + 4 * 1.0
    run.step = 12
    assert steps_left(run) == [0, 23]
    assert found.seconds_left(run) == 23 * 2.0 + 3 * 1.0
