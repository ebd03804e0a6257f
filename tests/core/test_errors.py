from __future__ import annotations

import pytest

from striate.core.errors import StriateError, TrainingError, listed, suggest


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("resnet_18", " Did you mean 'resnet18'?"),
        ("LeNet-5", " Did you mean 'lenet5'?"),
        ("xyzzy", ""),
    ],
)
def test_suggest_names_the_nearest_choice_or_none(word: str, expected: str) -> None:
    assert suggest(word, ["resnet18", "resnet50", "lenet5"]) == expected


def test_wrong_usage_ends_with_2_and_a_failed_run_with_1() -> None:
    assert StriateError.exit_status == 2
    assert TrainingError.exit_status == 1


def test_five_names_are_listed():
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"
