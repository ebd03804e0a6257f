from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as hy
from pydantic import ValidationError

from striate.core.spec import InputSpec, Spec, TaskSpec


def grey(**changes: object) -> InputSpec:
    fields: dict[str, object] = {"channels": 1, "height": 28, "width": 30, "mean": (0.5,), "std": (0.25,)}
    return InputSpec(**(fields | changes))  # type: ignore[arg-type]


def test_shape_and_classes_are_read_off() -> None:
    assert grey().shape == (1, 28, 30)
    assert TaskSpec(class_names=("cat", "dog")).classes == 2


def test_json_holds_all_of_it() -> None:
    spec = Spec(input=grey(), task=TaskSpec(class_names=("a", "b / ü")))
    assert Spec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    "changes",
    [{"mean": (0.5, 0.5)}, {"std": (0.0,)}, {"height": 0}, {"resize": "squeeze"}, {"colour": True}],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        grey(**changes)


def test_thresholds_are_one_probability_per_class_of_several_labels() -> None:
    several = {"class_names": ("a", "b"), "labels": "multi"}
    assert TaskSpec(**several, thresholds=(0.0, 1.0)).thresholds == (0.0, 1.0)  # type: ignore[arg-type]
    for thresholds in ((0.5,), (0.5, 1.1), (0.5, -0.1), (0.5, math.nan)):
        with pytest.raises(ValidationError):
            TaskSpec(**several, thresholds=thresholds)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="thresholds go with labels = 'multi'"):
        TaskSpec(class_names=("a", "b"), thresholds=(0.5, 0.5))


@given(
    thresholds=hy.lists(hy.floats(0, 1), min_size=2, max_size=2),
    temperature=hy.floats(0.2, 5),
    logit=hy.floats(-8, 8),
)
def test_another_temperature_says_the_same_labels(thresholds: list[float], temperature: float, logit: float) -> None:
    task = TaskSpec(class_names=("a", "b"), labels="multi", thresholds=tuple(thresholds), temperature=1.5)
    moved = task.at(temperature)
    assert moved.temperature == temperature
    for before, after in zip(task.thresholds or (), moved.thresholds or (), strict=True):
        probability, then = (1 / (1 + math.exp(-logit / one)) for one in (1.5, temperature))
        if not math.isclose(probability, before, rel_tol=1e-9):
            assert (probability >= before) == (then >= after)
    assert TaskSpec(class_names=("a", "b"), labels="multi").at(3.0).thresholds is None
