"""What to train with when nobody says: a network and a recipe for each known set of pictures.

Every number was chosen on val, with train alone to learn from. Once chosen, MNIST's and Fashion-MNIST's recipes learn
from train+val. ``benchmarks/`` measures both, val and test.
"""

from __future__ import annotations

from typing import NamedTuple

from striate.core.spec import InputSpec
from striate.training.recipe import Recipe


class Preset(NamedTuple):
    """A network and the recipe that was chosen for it."""

    model: str
    recipe: Recipe


# Runs of a few hundred steps: a high rate, betas that forget soon, a straight line down.
_SHORT = Recipe(
    epochs=1,
    batch_size=256,
    optimizer="adamw",
    learning_rate=0.01,
    momentum=0.85,
    beta2=0.95,
    weight_decay=0.05,
    label_smoothing=0.1,
)

_PRESETS: dict[str, Preset] = {
    "digits": Preset("speednet_small", _SHORT.changed(epochs=20, batch_size=128, learning_rate=0.012, shift=1)),
    "mnist": Preset("speednet_small", _SHORT.changed(learn_from="train+val")),
    "fashion_mnist": Preset(
        "speednet_small(widths=(64,128,128))",
        _SHORT.changed(epochs=7.5, flip="alternating", shift=1, learn_from="train+val"),
    ),
}

_PHOTOGRAPHS = Preset(
    "speednet_small(widths=(32,64,128))",
    _SHORT.changed(epochs=20, batch_size=64, learning_rate=5e-3, flip="random"),
)
# Photographs are moved by up to a twelfth of their side: 8 pixels of 96. On clothing's val (341 pictures, 64×64,
# 12 epochs, seeds 0 and 1) this gave 75.4 and 72.4 %; crops from pictures stored 1.25 times as large, which show things
# larger than val does, 70.1 and 66.9 %; with seed 0, resized crops of at least half of these 69.8 %, TrivialAugment
# besides the shifts 70.4 %.
_SHIFTS = 12


def recommended_model(data_name: str) -> str:
    """Return the network that `striate train` takes for a data set."""
    return _PRESETS.get(data_name, _PHOTOGRAPHS).model


def recommended_recipe(data_name: str, model: str, pictures: InputSpec) -> Recipe:
    """Return the recipe for a network on a data set: the one it was chosen with, else the general one."""
    preset = _PRESETS.get(data_name, _PHOTOGRAPHS)
    if preset.model != model:
        return Recipe()
    if preset is _PHOTOGRAPHS:
        return preset.recipe.changed(shift=min(pictures.height, pictures.width) // _SHIFTS)
    return preset.recipe
