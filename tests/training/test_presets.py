from __future__ import annotations

import pytest

import striate as st
from striate.data.sources.builtin import BUILTIN
from striate.training.presets import recommended_model, recommended_recipe
from tests.networks.zoo.test_zoo import make_spec


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion_mnist", "cifar10", "my photos"])
def test_the_recommended_network_builds_for_the_pictures_of_its_set(name: str) -> None:
    shape = BUILTIN.get(name).shape if name in BUILTIN else (3, 96, 96)
    assert st.build(recommended_model(name), make_spec(shape, 10)) is not None


def test_another_network_gets_the_general_recipe() -> None:
    pictures = make_spec((1, 28, 28), 10).input
    assert recommended_recipe("mnist", recommended_model("mnist"), pictures) != st.Recipe()
    assert recommended_recipe("mnist", "lenet5", pictures) == st.Recipe()


@pytest.mark.parametrize(("side", "shift"), [(8, 0), (96, 8), (224, 18)])
def test_photographs_are_shifted_by_a_part_of_their_size(side: int, shift: int) -> None:
    model = recommended_model("my photos")
    assert recommended_recipe("my photos", model, make_spec((3, side, side), 2).input).shift == shift
