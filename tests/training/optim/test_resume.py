"""A run that is stopped and resumed equals one that is not, with every optimiser and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

import striate as st
from striate.training.recipe import Optimizer, Schedule

MODEL = "conv 4@3x3 pad 1 bn relu dropout 0.1 | gap | fc 3"
RECIPE = st.Recipe(
    epochs=3, batch_size=20, step_epochs=1, step_factor=0.5, plateau_epochs=1, warmup_fraction=0.1,
    l2=1e-3, l1=1e-4, clip_gradient_norm=0.5, precision="fp32", memory_format="contiguous", threads=1,
)  # fmt: skip


class StopAt(st.Observer):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, run: st.Run) -> None:
        if run.step == self.step:
            run.stop("interrupted")


@pytest.mark.parametrize("optimizer", get_args(Optimizer))
@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_stopped_and_resumed_is_the_same(image_set: st.ImageSet, tmp_path: Path, optimizer: str, schedule: str) -> None:
    average = "ema" if schedule == "plateau" else "none"
    recipe = RECIPE.changed(optimizer=optimizer, schedule=schedule, average=average, learning_rate=0.1)

    def begin(folder: str, *observers: st.Observer) -> st.Run:
        network = st.build(MODEL, image_set.spec)
        return st.fit(network, image_set, recipe, folder=tmp_path / folder, observers=observers, progress=False)

    whole, stopped = begin("whole"), begin("stopped", StopAt(9))
    assert (stopped.step, whole.step) == (9, 12)  # in the middle of the third epoch
    network = st.build(MODEL, image_set.spec, seed=1)
    resumed = st.fit(network, image_set, resume=stopped.folder, progress=False)
    pairs = zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [e["learning_rate"] for e in whole.history] == [e["learning_rate"] for e in resumed.history]


def test_the_plateau_schedule_drops_within_a_run(image_set: st.ImageSet) -> None:
    network = st.build(MODEL, image_set.spec)
    recipe = RECIPE.changed(schedule="plateau", learning_rate=0.0, warmup_fraction=0.0)
    assert st.fit(network, image_set, recipe, progress=False).history[-1]["learning_rate"] == 0.0
    run = st.fit(network, image_set, recipe.changed(learning_rate=1e-12), progress=False)  # far too slow to improve
    losses, rates = ([entry[name] for entry in run.history] for name in ("val_loss", "learning_rate"))
    drops, least = 0, float("inf")
    for loss, rate in zip(losses, rates, strict=True):
        assert rate == pytest.approx(1e-12 * 0.5**drops)
        drops, least = drops + (loss >= least), min(least, loss)
    assert drops
