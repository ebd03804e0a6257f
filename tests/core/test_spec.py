from __future__ import annotations

import pytest
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
