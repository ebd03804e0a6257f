"""What to train with when nobody says: networks and recipes that can be read, a TOML file each.

A file holds the fields of a recipe and, where they belong together, the network that the recipe was chosen with. Its
first comment says what it reached, in what time, on which machine, how often. Numbers were chosen on val, with train
alone to learn from, unless it says otherwise; ``benchmarks/`` measures val and test.
"""

from __future__ import annotations

import functools
import itertools
import tomllib
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from striate.core.errors import RecipeError, suggest
from striate.core.spec import InputSpec
from striate.data.augment.policy import Augmentation
from striate.data.imageset import ImageSet
from striate.data.sources.builtin import builtin_of
from striate.networks.build import build_on_meta, read_model
from striate.training.fine_tuning import fine_tuning_phases
from striate.training.optim.groups import NORMS
from striate.training.recipe import Recipe, in_words, read_fields

MANY_PICTURES = 20_000  # from here on an epoch has so many steps that fewer epochs and a wider network pay
SMALL_NETWORK = 1_000_000  # parameters


class FineTuning(BaseModel):
    """How a preset begins from trained weights; see `fine_tuning_phases`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    head_epochs: Annotated[int, Field(ge=0)]
    least_factor: Annotated[float, Field(gt=0, le=1)]


class Preset(BaseModel):
    """A recipe, what of it depends on the network and the pictures, and the network it was chosen with.

    Args:
        recipe: all that does not depend on them.
        model: as `st.build` takes it; None where the recipe is for any network of a kind.
        shift_parts: pictures are moved by up to this part of their shorter side; None for ``recipe.shift``.
        fine_tuning: gives the recipe its phases; None for ``recipe.phases``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    model: str | None = None
    shift_parts: Annotated[int, Field(ge=2)] | None = None
    fine_tuning: FineTuning | None = None

    def recipe_for(self, network: nn.Module, pictures: InputSpec, **changes: Any) -> Recipe:
        """Return the recipe for a network, which may be on the meta device, with some fields changed."""
        if self.shift_parts is not None and "shift" not in changes:
            changes["shift"] = min(pictures.height, pictures.width) // self.shift_parts
        recipe = self.recipe.changed(**changes)
        if self.fine_tuning is None or "phases" in changes:
            return recipe
        return recipe.changed(phases=fine_tuning_phases(network, recipe.epochs, **self.fine_tuning.model_dump()))


@functools.cache
def preset_names() -> tuple[str, ...]:
    """Return the names of all presets, in the order of the alphabet."""
    names = (file.name for file in resources(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def preset_text(name: str) -> str:
    """Return the file of a preset.

    Raises:
        RecipeError: there is none of this name.
    """
    if name not in preset_names():
        raise RecipeError(
            f"There is no recipe file {name!r}, and no preset of this name.{suggest(name, preset_names())} "
            f"The presets are {', '.join(preset_names())}."
        )
    return resources(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def preset_words(name: str) -> str:
    """Return the first comment of a preset, without its number signs: what it is for and what it reached."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), preset_text(name).splitlines())
    return "\n".join(line.removeprefix("#").strip() for line in lines)


def read_preset(named: str | Path) -> Preset:
    """Read a preset by its name, or a TOML file with the fields of a recipe and, if it likes, those of a preset.

    A preset's name means the preset, ``./name`` a file of that name.

    Raises:
        FileError: it cannot be read or is not TOML.
        RecipeError: no such preset, an unknown field, or a value out of its range.
    """
    word = str(named)
    is_name = word in preset_names() or not (Path(word).suffix or Path(word).exists() or Path(word).name != word)
    fields = tomllib.loads(preset_text(word)) if is_name else read_fields(word)
    for field, instead in (("shift", "shift_parts"), ("phases", "fine_tuning")):
        if field in fields and instead in fields:
            raise RecipeError(f"The recipe {word} must have {field} or {instead}, which decides it: leave one out.")
    own = {name: fields.pop(name) for name in ("model", "shift_parts", "fine_tuning") if name in fields}
    try:
        return Preset(recipe=Recipe(**fields), **own)
    except ValidationError as error:
        raise RecipeError(in_words(error)) from error


def recommended_model(images: ImageSet) -> str:
    """Return the network that `striate train` takes for pictures."""
    model = _for_pictures(images).model
    assert model is not None
    return model


def recommended_preset(images: ImageSet, model: str, *, pretrained: bool = False) -> Preset:
    """Return the preset for a network on pictures.

    ==================================================  =======================
    what is trained                                     preset
    ==================================================  =======================
    published weights                                   ``pretrained``
    the network chosen for the pictures, in any size    that of the pictures
    a network without norms                             ``without_norms``
    one with norms, under a million parameters          ``small_network``
    one with norms, a million or more                   ``large_network``
    ==================================================  =======================

    That of the pictures is a built-in data set's own; for others, whatever their name, it is ``photographs`` or, from
    20,000 to learn from on, ``many_photographs``. How pictures are varied is always that one's: a digit must not be
    mirrored, whatever network reads it.
    """
    own = _for_pictures(images)
    assert own.model is not None
    if read_model(own.model).name == read_model(model).name and not pretrained:
        return own
    general = read_preset("pretrained" if pretrained else _for_network(build_on_meta(model, images.spec)))
    varied = {field: getattr(own.recipe, field) for field in Augmentation.model_fields}
    return general.model_copy(update={"recipe": general.recipe.changed(**varied), "shift_parts": own.shift_parts})


def _for_network(network: nn.Module) -> str:
    if not any(isinstance(module, NORMS) for module in network.modules()):
        return "without_norms"
    small = sum(parameter.numel() for parameter in network.parameters()) < SMALL_NETWORK
    return "small_network" if small else "large_network"


def recommended_recipe(images: ImageSet, model: str, *, pretrained: bool = False) -> Recipe:
    """Return the recipe for a network on pictures; see `recommended_preset`."""
    preset = recommended_preset(images, model, pretrained=pretrained)
    return preset.recipe_for(build_on_meta(model, images.spec), images.spec.input)


def _for_pictures(images: ImageSet) -> Preset:
    name = builtin_of(images.source)
    if name in preset_names():
        return read_preset(name)
    if name is not None and (name == "kmnist" or name.startswith("emnist_")):
        return read_preset("emnist")
    return read_preset("many_photographs" if len(images.learned) >= MANY_PICTURES else "photographs")
