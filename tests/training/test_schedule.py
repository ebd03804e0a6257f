from __future__ import annotations

import math
from typing import get_args

import pytest

import striate as st
from striate.training.recipe import Schedule
from striate.training.schedule import learning_rate_factor


def factors(schedule: str, warmup: float = 0.0, steps: int = 100, **fields: object) -> list[float]:
    recipe = st.Recipe(schedule=schedule, warmup_fraction=warmup, **fields)
    return [learning_rate_factor(recipe, step, steps) for step in range(steps)]


def test_constant() -> None:
    assert factors("constant") == [1.0] * 100


def test_one_cycle_goes_straight_up_and_straight_down() -> None:
    values = factors("one_cycle", warmup=0.25)
    assert values[:25] == pytest.approx([(step + 1) / 26 for step in range(25)])
    assert values[25:] == pytest.approx([1 - step / 75 for step in range(75)])


def test_cosine_is_half_a_cosine() -> None:
    assert factors("cosine") == pytest.approx([(1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)])


def test_steps_drop_by_the_factor_after_so_many_epochs() -> None:
    values = factors("step", epochs=10, step_epochs=4, step_factor=0.5)  # 10 steps an epoch
    assert values == [1.0] * 40 + [0.5] * 40 + [0.25] * 20


def test_the_step_schedule_drops_twice_when_nothing_is_said() -> None:
    for epochs in (3, 10):
        assert sorted(set(factors("step", epochs=epochs))) == pytest.approx([0.01, 0.1, 1.0])


def test_exponential_goes_through_the_steps_corners_without_stairs() -> None:
    values = factors("exponential", epochs=10, step_epochs=4, step_factor=0.5)
    assert values == pytest.approx([0.5 ** (step / 40) for step in range(100)])
    stairs = factors("step", epochs=10, step_epochs=4, step_factor=0.5)
    assert values[::40] == pytest.approx(stairs[::40])


def after(losses: list[float], patience: int = 2, **fields: object) -> float:
    """Return the factor of the plateau schedule in the epoch after these."""
    recipe = st.Recipe(
        schedule="plateau", plateau_epochs=patience, step_factor=0.5, epochs=20, **({"warmup_fraction": 0} | fields)
    )
    return learning_rate_factor(recipe, 10 * len(losses), 200, [{"val_loss": loss} for loss in losses])


@pytest.mark.parametrize(
    ("losses", "drops"),
    [
        ([], 0),
        ([1.0, 0.9, 0.8, 0.7], 0),
        ([1.0, 1.1], 0),
        ([1.0, 1.0, 1.0], 1),  # as good is not better
        ([1.0, 1.1, 1.1, 1.1], 1),  # counted anew after the drop
        ([1.0, 1.1, 1.1, 1.1, 1.1], 2),
        ([1.0, 1.1, 0.9, 1.1, 0.8, 1.1], 0),
        ([1.0, 1.1, 1.2, 1.05, 0.99, 1.1, 1.1], 2),  # 1.05 is no new minimum
    ],
)
def test_plateau_drops_when_val_has_had_no_new_minimum(losses: list[float], drops: int) -> None:
    assert after(losses) == 0.5**drops


def test_no_plateau_is_looked_for_while_something_is_frozen() -> None:
    phases = (st.Phase(epochs=3, frozen=("body",)), st.Phase(epochs=17))
    assert after([0.5, 0.6, 0.7, 1.0, 0.9, 0.8], phases=phases) == 1
    assert after([0.5, 0.6, 0.7, 1.0, 1.1, 1.1], phases=phases) == 0.5


def test_plateau_warms_up_too() -> None:
    assert after([1.0, 1.1, 1.2], warmup_fraction=0.2) == pytest.approx(31 / 41)


def test_plateau_needs_val() -> None:
    message = r"schedule must not be plateau where learn_from is train\+val"
    with pytest.raises(st.RecipeError, match=message):
        st.Recipe(schedule="plateau", learn_from="train+val")


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_all_warm_up_on_a_straight_line(schedule: str) -> None:
    assert factors(schedule, warmup=0.25)[:25] == pytest.approx([(step + 1) / 26 for step in range(25)])


@pytest.mark.parametrize("schedule", get_args(Schedule))
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_every_step_of_the_shortest_run_learns(schedule: str, steps: int) -> None:
    assert all(0 < factor <= 1 for factor in factors(schedule, warmup=0.3, steps=steps))
