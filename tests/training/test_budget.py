from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

import striate as st
from striate.core.errors import RecipeError
from striate.data.imageset import Split
from striate.training.budget import LEAST_STEPS, Budget, budget_seconds, time_in_words
from striate.training.estimate import Estimate, steps_left
from striate.training.recipe import MOST_EPOCHS, Phase, Recipe, read_recipe
from striate.training.run import RECIPE_FILE, Run
from striate.training.schedule import learning_rate_factor, paced

PHASES = (Phase(epochs=3, resolution=16), Phase(epochs=2, resolution=24), Phase(epochs=5))


def make_run(images: st.ImageSet, recipe: Recipe, steps_per_epoch: int, seconds: float) -> Run:
    run = Run(nn.Linear(1, 1), images.spec, recipe, {}, steps_per_epoch, images.train)
    run.budget_seconds = seconds
    return run


def drive(
    run: Run,
    budget: Budget,
    step_seconds: Callable[[float], float],
    end_seconds: float,
    stall: Callable[[float], float] = lambda now: 0.0,
) -> list[float]:
    """Walk a run as `fit` does, on a clock of its own, after it was planned; return the learning rate's factors."""
    factors, now = [], run.train_seconds
    while not run.finished:
        ends = itertools.accumulate(one.epochs for one in run.recipe.plan[:-1])
        phase = sum(run.epoch >= end for end in ends)
        factors.append(learning_rate_factor(run.recipe, run.step, run.total_steps))
        now += step_seconds(now) * (1.0 if phase == len(run.recipe.plan) - 1 else 0.5)
        run.step += 1
        run.train_seconds = now
        budget.correct(run, phase)
        if run.ends_epoch:
            now += end_seconds + stall(now)
    return factors


def planned(run: Run, step_seconds: float, end_seconds: float) -> Budget:
    seconds = tuple(
        step_seconds * (0.5 if number < len(run.recipe.plan) - 1 else 1) for number in range(len(run.recipe.plan))
    )
    assert run.budget_seconds is not None
    budget = Budget(run.budget_seconds, Estimate(seconds, end_seconds))
    run.train_seconds = 2.0
    budget.plan(run)
    return budget


@pytest.mark.parametrize(
    ("words", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1h30m5s", 5405), ("0.5h", 1800), (12, 12)]
)
def test_a_budget_is_seconds_or_words(words: str | float, seconds: float) -> None:
    assert budget_seconds(words) == seconds
    assert budget_seconds(None) is None


@pytest.mark.parametrize("words", ["", "20", "m", "20 minutes", "30m1h", "-5m", "5m5m", "1h 30m"])
def test_what_is_no_time_is_refused(words: str) -> None:
    with pytest.raises(RecipeError, match=r"budget must be a time such as 90s, 20m or 1h30m, got "):
        budget_seconds(words)


@pytest.mark.parametrize("words", ["0s", 0, -3.0, math.nan, math.inf])
def test_no_time_at_all_is_refused(words: str | float) -> None:
    with pytest.raises(RecipeError, match="budget must be more than 0 seconds, got"):
        budget_seconds(words)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.21, "3.2 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (5400, "1 h 30 min"), (45, "45 s")],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert time_in_words(seconds) == words


@settings(deadline=None, max_examples=60)
@given(
    steps_per_epoch=some.integers(1, 400),
    end_share=some.floats(0, 0.3),
    wrong=some.floats(0.6, 1.6),
    drift=some.floats(-0.3, 0.3),
    phases=some.sampled_from([(), PHASES]),
    seed=some.integers(0, 99),
)
def test_ends_on_time_with_a_finished_schedule_whatever_the_machine_does(
    image_set: st.ImageSet,
    steps_per_epoch: int,
    end_share: float,
    wrong: float,
    drift: float,
    phases: tuple[Phase, ...],
    seed: int,
) -> None:
    """The estimate is wrong by a factor, and the machine's speed then moves by up to 30 % back and forth."""
    step, seconds, noise = 0.02, 60.0, random.Random(seed)
    end = end_share * step * steps_per_epoch

    def takes(now: float) -> float:
        return step * wrong * (1 + drift * math.sin(now / 7 + seed)) * noise.uniform(0.9, 1.1)

    recipe = Recipe(epochs=10, phases=phases, schedule="one_cycle", warmup_fraction=0.2)
    run = make_run(image_set, recipe, steps_per_epoch, seconds)
    factors = drive(run, planned(run, step, end), takes, end * wrong)
    assert 0.9 * seconds <= run.train_seconds <= 1.05 * seconds
    assert factors[-1] < 0.05
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert len(run.recipe.pace) < 20


def test_a_machine_as_fast_as_measured_leaves_the_plan_as_it_is(image_set: st.ImageSet) -> None:
    run = make_run(image_set, Recipe(), 50, 40.0)
    budget = planned(run, 0.05, 0.3)
    steps = run.total_steps
    drive(run, budget, lambda now: 0.05, 0.3)
    assert (run.total_steps, run.recipe.pace) == (steps, ())
    assert run.train_seconds == pytest.approx(0.99 * 40 - 0.3, abs=0.36)  # an end of an epoch, and a step


def test_phases_keep_their_proportions_and_those_without_an_epoch_are_left_out(image_set: st.ImageSet) -> None:
    run = make_run(image_set, Recipe(epochs=10, phases=PHASES), 100, 200.0)
    planned(run, 0.05, 0.0)  # 7.5 epochs' worth of steps of 5 s in what the recipe says: 5.2 times as long
    assert [phase.resolution for phase in run.recipe.phases] == [16, 24, None]
    assert [phase.epochs for phase in run.recipe.phases[:2]] == [15, 10]
    assert sum(a * b for a, b in zip(steps_left(run), (0.025, 0.025, 0.05), strict=True)) == pytest.approx(196, abs=0.1)
    short = make_run(image_set, Recipe(epochs=10, phases=PHASES), 100, 20.0)
    planned(short, 0.05, 0.0)
    assert [phase.resolution for phase in short.recipe.phases] == [16, None]


def test_too_little_time_is_refused_with_what_is_needed(image_set: st.ImageSet) -> None:
    run = make_run(image_set, Recipe(), 100, 20.0)
    with pytest.raises(RecipeError, match=rf"must leave time for {LEAST_STEPS} steps, which take about 1 min 5 s here"):
        planned(run, 3.0, 0.0)
    spent = make_run(image_set, Recipe(epochs=10, phases=PHASES), 100, 1.0)  # less than was measured for
    with pytest.raises(RecipeError, match=rf"must leave time for {LEAST_STEPS} steps, which take about"):
        planned(spent, 3.0, 0.0)


def test_a_machine_that_is_much_faster_than_measured_is_noticed(image_set: st.ImageSet) -> None:
    seconds, step = 60.0, 2.0  # as measured while the machine did something else; the whole plan takes a second
    run = make_run(image_set, Recipe(schedule="one_cycle"), 30, seconds)
    drive(run, planned(run, step, 0.0), lambda now: step / 60, 0.0)
    assert 0.9 * seconds <= run.train_seconds <= 1.05 * seconds


@pytest.mark.parametrize("when", [0.2, 0.5, 0.7, 0.8, 0.85, 0.9])
def test_a_disk_that_keeps_one_epoch_waiting_does_not_end_the_training_early(
    image_set: st.ImageSet, when: float
) -> None:
    seconds, waits = 60.0, [4.0]
    run = make_run(image_set, Recipe(schedule="one_cycle"), 50, seconds)
    budget = planned(run, 0.02, 0.1)
    drive(run, budget, lambda now: 0.02, 0.1, lambda now: waits.pop() if waits and now > when * seconds else 0.0)
    assert not waits
    assert 0.97 * seconds <= run.train_seconds <= seconds


@pytest.mark.parametrize("phases", [(), PHASES])
def test_a_long_budget_for_few_pictures_stops_at_the_most_epochs(
    image_set: st.ImageSet, phases: tuple[Phase, ...]
) -> None:
    run = make_run(image_set, Recipe(phases=phases), 1, 36_000.0)
    planned(run, 0.001, 0.0)
    assert 0.99 * MOST_EPOCHS < run.recipe.epochs <= MOST_EPOCHS


@pytest.mark.parametrize("when", [0.5, 0.8, 0.9, 0.95])
def test_a_machine_that_comes_to_a_stand_does_not_cut_off_the_end_of_the_schedule(
    image_set: st.ImageSet, when: float
) -> None:
    """The budget is spent then, all at once; a last hundredth of the steps still lets the rate come down to 0."""
    seconds, waits = 60.0, [60.0]
    run = make_run(image_set, Recipe(schedule="one_cycle"), 50, seconds)
    budget = planned(run, 0.02, 0.1)
    factors = drive(run, budget, lambda now: waits.pop() if waits and now > when * seconds else 0.02, 0.1)
    assert not waits
    assert factors[-1] < 0.1 * (1 - when)
    assert run.train_seconds < (when + 1.03) * seconds


def test_what_is_left_of_the_schedule_is_spread_over_the_steps_that_are_left() -> None:
    recipe = Recipe(epochs=10, pace=((2.0, 4.0), (5.0, 6.0)), schedule="one_cycle", warmup_fraction=0)
    parts = [paced(recipe, step, 100) for step in range(100)]
    assert [planned for _, planned in parts] == 20 * [40] + 30 * [60] + 50 * [100]
    # Half of the first plan was done at step 20; of what was left then, three quarters at step 50.
    progress = [*np.linspace(0, 0.5, 21)[:20], *np.linspace(0.5, 0.875, 31)[:30], *np.linspace(0.875, 1, 51)[:50]]
    assert [at / planned for at, planned in parts] == pytest.approx(progress)
    factors = [learning_rate_factor(recipe, step, 100) for step in range(100)]
    assert factors == pytest.approx([1 - one for one in progress])


def test_giving_up_a_plan_does_not_change_what_was_before() -> None:
    """Which makes a recipe that a budget wrote give the same weights again, bit for bit."""
    for schedule in ("one_cycle", "cosine", "step", "exponential"):
        first = Recipe(epochs=37 / 7, schedule=schedule)
        second = first.changed(epochs=52 / 7, pace=((20 / 7, 37 / 7),))
        third = first.changed(epochs=41 / 7, pace=(*second.pace, (33 / 7, 52 / 7)))
        for step in range(33):
            before = learning_rate_factor(*((first, step, 37) if step < 20 else (second, step, 52)))
            assert learning_rate_factor(third, step, 41) == before


def test_a_pace_that_goes_back_or_beyond_the_end_is_refused() -> None:
    for pace in (((2.0, 5.0), (1.0, 6.0)), ((10.0, 12.0),), ((3.0, 2.0),)):
        with pytest.raises(RecipeError, match="pace must rise and end before epoch 10"):
            Recipe(epochs=10, pace=pace)
    assert Recipe(pace=((1.0, 20.0),)).changed(epochs=3).pace == ()


MODEL = "conv 8@3x3 pad 1 bn relu dropout 0.2 | maxpool 2 | fc 3"


@pytest.fixture
def uneven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first measuring be wrong, so that a run is corrected."""
    from striate.training import budget

    def too_slow(run: Run, val: Split | None, execution: object) -> Estimate:
        return Estimate((0.03,) * len(run.recipe.plan), 0.0)

    monkeypatch.setattr(budget, "estimate", too_slow)


@pytest.mark.usefixtures("uneven")
def test_a_run_ends_on_time_and_its_recipe_gives_the_same_weights_again(image_set: st.ImageSet, tmp_path: Path) -> None:
    network = st.build(MODEL, image_set.spec)
    recipe = Recipe(batch_size=8, flip="random", average="ema", threads=1)  # threads wait for others' tests
    run = st.fit(network, image_set, recipe, folder=tmp_path / "run", budget="3s", progress=False)
    assert run.finished
    assert run.recipe.pace
    assert 0.9 * 3 <= run.train_seconds <= 1.15 * 3  # tests share their machine
    resolved = read_recipe(run.folder / RECIPE_FILE)
    assert resolved == run.recipe
    again = st.fit(st.build(MODEL, image_set.spec), image_set, resolved, folder=tmp_path / "again", progress=False)
    assert again.step == run.step
    for one, other in zip(run.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert f"the budget allows {run.total_steps} steps" in (run.folder / "log.txt").read_text(encoding="utf-8")


class StopAfter(st.Observer):
    """Asks to stop, as Ctrl-C does, after some seconds of training."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_batch_end(self, run: st.Run) -> None:
        if run.train_seconds > self.seconds:
            run.stop("interrupted")


@pytest.mark.usefixtures("uneven")
def test_a_resumed_run_has_what_is_left_of_its_budget(image_set: st.ImageSet, tmp_path: Path) -> None:
    network, folder = st.build(MODEL, image_set.spec), tmp_path / "run"
    recipe = Recipe(batch_size=8, threads=1)
    stopped = st.fit(network, image_set, recipe, folder=folder, budget=4, observers=[StopAfter(2)], progress=False)
    assert not stopped.finished
    before = stopped.recipe.pace
    run = st.fit(st.build(MODEL, image_set.spec), image_set, resume=folder, progress=False)
    assert run.finished
    assert run.recipe.pace[: len(before)] == before
    assert 0.9 * 4 <= run.train_seconds <= 1.15 * 4


def test_a_budget_and_epochs_contradict_each_other(image_set: st.ImageSet) -> None:
    network = st.build(MODEL, image_set.spec)
    with pytest.raises(RecipeError, match="A budget chooses the epochs: leave out epochs, or the budget"):
        st.fit(network, image_set, epochs=3, budget="1m")
    with pytest.raises(RecipeError, match="A resumed run keeps its own recipe"):
        st.fit(network, image_set, resume="runs/x", budget="1m")


def test_a_budget_too_small_writes_nothing(image_set: st.ImageSet) -> None:
    with pytest.raises(RecipeError, match="A budget must leave time for 20 steps"):
        st.fit(st.build(MODEL, image_set.spec), image_set, budget=0.001, progress=False)
    assert not Path("runs").exists()
