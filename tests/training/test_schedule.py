from __future__ import annotations

import math
from typing import Literal

import pytest

import striate as st
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


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_every_step_of_the_shortest_run_learns(
    schedule: Literal["constant", "step", "cosine", "one_cycle"], steps: int
) -> None:
    assert all(0 < factor <= 1 for factor in factors(schedule, warmup=0.3, steps=steps))
