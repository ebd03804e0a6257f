from __future__ import annotations

import pytest

from striate.core.errors import RecipeError
from striate.core.spec import InputSpec, Spec
from striate.data.augment.policy import Augmentation, check_policy


def pictures(channels: int) -> InputSpec:
    return Spec.of((channels, 20, 20), 2).input


def test_the_default_changes_nothing_and_fits_any_pictures() -> None:
    for channels in (1, 3, 7):
        check_policy(Augmentation(), pictures(channels), (1, 1))


@pytest.mark.parametrize("field", ["saturation", "hue", "grey"])
def test_colours_are_changed_in_rgb_alone(field: str) -> None:
    policy = Augmentation(**{field: 0.3})
    check_policy(policy, pictures(3), (20, 20))
    with pytest.raises(
        RecipeError, match=rf"{field} must be 0 for pictures that are not RGB, got 0\.3 with 1 channel\."
    ):
        check_policy(policy, pictures(1), (20, 20))
    with pytest.raises(RecipeError, match=r"with 4 channels\. Leave it out, or read the pictures with 3 channels\."):
        check_policy(policy, pictures(4), (20, 20))


def test_a_shift_is_less_than_the_shorter_side() -> None:
    check_policy(Augmentation(shift=11), pictures(3), (20, 12))
    with pytest.raises(RecipeError, match=r"shift must be less than the 12 pixels of the pictures, got 12\."):
        check_policy(Augmentation(shift=12), pictures(3), (20, 12))
