from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch

import striate as st
from striate.core.errors import FileError, RecipeError
from striate.data.imageset import Origins
from striate.data.sources.builtin import BUILTIN
from striate.networks.build import build_on_meta
from striate.training.presets import (
    MANY_PICTURES,
    preset_names,
    preset_text,
    preset_words,
    read_preset,
    recommended_model,
    recommended_preset,
    recommended_recipe,
)
from tests.networks.zoo.test_zoo import make_spec

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")


def pictures(name: str, shape: tuple[int, int, int], count: int = 20, classes: int = 10) -> st.ImageSet:
    """Return black pictures that take no memory, of a data set or of what else a user names."""
    images = torch.zeros(1, *shape, dtype=torch.uint8).expand(count, *shape)
    split = st.Split(images, torch.arange(count) % classes, make_spec(shape, classes), Origins.numbered(name, count))
    return st.ImageSet(name=Path(name).stem, train=split, val=split[:10], test=split[:10], source={"data": name})


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_what_it_reached_and_is_in_the_documents_word_for_word(name: str) -> None:
    words = preset_words(name)
    assert words.startswith("For ")
    assert any(said in words for said in ("Reached", "On val", "Not measured", "not measured"))
    assert f"## `{name}`\n\n{words}\n" in DOCUMENT
    fields = tomllib.loads(preset_text(name))
    assert {"epochs", "batch_size", "optimizer", "learning_rate"} <= fields.keys()


def test_the_documents_name_no_preset_that_is_not_there() -> None:
    headings = [line[4:-1] for line in DOCUMENT.splitlines() if line.startswith("## `")]
    assert headings == list(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_the_network_of_a_preset_builds_for_its_pictures(name: str) -> None:
    model = read_preset(name).model
    if model is not None:
        known = name.rpartition("_")[0] if name not in BUILTIN and name.rpartition("_")[0] in BUILTIN else name
        shape = BUILTIN.get(known).shape if known in BUILTIN else (3, 96, 96)
        assert build_on_meta(model, make_spec(shape, 10)) is not None


@pytest.mark.parametrize(
    ("name", "count", "preset"),
    [
        ("digits", 20, "digits"),
        ("mnist", 20, "mnist"),
        ("fashion_mnist", 20, "fashion_mnist"),
        ("cifar10", 20, "cifar10"),
        ("my photos", 20, "photographs"),
        ("my photos", MANY_PICTURES - 1, "photographs"),
        ("my photos", MANY_PICTURES, "many_photographs"),
        ("emnist_letters", MANY_PICTURES, "emnist"),
        ("kmnist", MANY_PICTURES, "emnist"),
        ("cifar100", MANY_PICTURES, "many_photographs"),
        ("pretrained", 20, "photographs"),
        ("/pictures/mnist", 20, "photographs"),  # a folder of a known set's name
    ],
)
def test_pictures_get_the_network_and_the_recipe_that_were_chosen_for_them(name: str, count: int, preset: str) -> None:
    images = pictures(name, (3, 16, 16), count)
    model = recommended_model(images)
    assert model == read_preset(preset).model
    assert recommended_preset(images, model) == read_preset(preset)


@pytest.mark.parametrize(
    ("model", "preset"),
    [
        ("conv 8 relu | gap | fc 10", "without_norms"),
        ("conv 8 bn relu | gap | fc 10", "small_network"),
        ("resnet20_cifar10", "small_network"),
        ("resnet18", "large_network"),
    ],
)
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "my photos"])
def test_another_network_gets_a_recipe_of_its_kind_and_the_pictures_keep_their_changes(
    name: str, model: str, preset: str
) -> None:
    images = pictures(name, (3, 48, 48))
    recipe = recommended_recipe(images, model)
    own = recommended_recipe(images, recommended_model(images))
    assert (recipe.flip, recipe.shift) == (own.flip, own.shift)
    assert recipe == read_preset(preset).recipe.changed(flip=own.flip, shift=own.shift)


@pytest.mark.parametrize(
    ("name", "model"),
    [("cifar10", "speednet"), ("mnist", "speednet_small(widths=(8,8,8))"), ("mnist", "speednet_small")],
)
def test_the_network_that_was_chosen_keeps_its_recipe_in_any_size(name: str, model: str) -> None:
    assert recommended_preset(pictures(name, (3, 48, 48)), model) == read_preset(name)


@pytest.mark.parametrize(("side", "shift"), [(8, 0), (64, 5), (96, 8), (224, 18)])
def test_photographs_are_shifted_by_a_part_of_their_size(side: int, shift: int) -> None:
    images = pictures("my photos", (3, side, side + 5))
    assert recommended_recipe(images, recommended_model(images)).shift == shift
    assert recommended_recipe(images, "conv 8 bn relu | gap | fc 10").shift == shift


def test_a_flag_is_stronger_than_what_depends_on_the_pictures() -> None:
    spec = make_spec((3, 96, 96), 10)
    network = build_on_meta("resnet18", spec)
    assert read_preset("photographs").recipe_for(network, spec.input, shift=1).shift == 1
    assert read_preset("pretrained").recipe_for(network, spec.input, epochs=5, phases=()).phases == ()


def test_published_weights_are_tuned_in_two_steps_whatever_the_epochs() -> None:
    images = pictures("my photos", (3, 64, 64))
    preset = recommended_preset(images, "resnet18", pretrained=True)
    network = build_on_meta("resnet18", images.spec)
    for epochs, first in ((12, 2), (2, 1), (1, None), (0.5, None), (2.5, 2)):
        recipe = preset.recipe_for(network, images.spec.input, epochs=epochs)
        assert recipe.epochs == epochs
        assert recipe.flip == "random"
        assert recipe.plan[-1].learning_rates["conv1"] == 1 / 64
        assert len(recipe.plan) == (1 if first is None else 2)
        assert first is None or recipe.plan[0].epochs == first


def test_a_file_may_hold_what_a_preset_holds_and_a_name_means_the_preset(tmp_path: Path) -> None:
    Path("mnist").write_text("epochs = 77")
    assert read_preset("mnist").recipe.epochs == 0.9
    assert read_preset("./mnist").recipe.epochs == 77
    (tmp_path / "own.toml").write_text(preset_text("photographs"))
    assert read_preset(tmp_path / "own.toml") == read_preset("photographs")
    recipe = st.Recipe(epochs=3)
    recipe.write(tmp_path / "recipe.toml")
    read = read_preset("recipe.toml")
    assert (read.recipe, read.model) == (recipe, None)


@pytest.mark.parametrize(
    ("word", "content", "error", "words"),
    [
        ("mnst", None, RecipeError, "no preset of this name. Did you mean 'mnist'? The presets are cifar10, digits, "),
        ("none.toml", None, FileError, "Cannot read the recipe none.toml: No such file or directory."),
        ("own.toml", "epochs = ", FileError, "The recipe own.toml must be TOML"),
        ("own.toml", "epoch = 3", RecipeError, "A recipe has no field 'epoch'. Did you mean 'epochs'?"),
        ("own.toml", "shift_parts = 1", RecipeError, "shift_parts must be greater than or equal to 2, got 1."),
        ("own.toml", "[fine_tuning]\nhead_epochs = 1", RecipeError, "fine_tuning.least_factor Field required"),
        ("own.toml", "shift = 2\nshift_parts = 9", RecipeError, "must have shift or shift_parts, which decides it"),
        (
            "own.toml",
            "[[phases]]\nepochs = 10\n[fine_tuning]\nhead_epochs = 1\nleast_factor = 0.1",
            RecipeError,
            "must have phases or fine_tuning, which decides it",
        ),
    ],
)
def test_what_is_no_recipe_is_refused_with_a_fix(
    word: str, content: str | None, error: type[Exception], words: str
) -> None:
    if content is not None:
        Path(word).write_text(content)
    with pytest.raises(error) as refused:
        read_preset(word)
    assert words in str(refused.value)
