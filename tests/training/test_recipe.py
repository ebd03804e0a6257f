from __future__ import annotations

from pathlib import Path

import pytest

import striate as st
from striate.training.recipe import read_recipe


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epoch": 3}, "A recipe has no field 'epoch'. Did you mean 'epochs'?"),
        ({"epochs": 0}, "epochs must be greater than 0, got 0."),
        ({"optimizer": "adam"}, "optimizer must be 'sgd', 'adamw', 'rmsprop' or 'muon', got 'adam'."),
        ({"label_smoothing": 1.0}, "label_smoothing must be less than 1, got 1.0."),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number, got nan."),
        (
            {"epochs": 3, "phases": (st.Phase(epochs=1), st.Phase(epochs=1))},
            "epochs must be the sum of the phases' epochs (2), got 3.",
        ),
        (
            {"epochs": 2, "phases": (st.Phase(epochs=0.5), st.Phase(epochs=1.5))},
            "epochs of all phases but the last must be whole numbers.",
        ),
        ({"phases": ({"epochs": 10, "size": 3},)}, "phases.0.size is not a field."),
        ({"loss": "mse"}, "loss must be 'cross_entropy', 'hinge', 'focal' or 'bce', got 'mse'."),
        (
            {"class_weights": "balanced", "sampling": "balanced"},
            "class_weights and sampling must not both be balanced, each does it alone: leave one out.",
        ),
        ({"mixup": 0.2, "batch_size": 1}, "mixup needs a batch_size of at least 2: a picture is mixed with others."),
        (
            {"phases": ({"epochs": 10, "frozen": ["c1"], "learning_rates": {"c1": 0.1}},)},
            "phases.0 c1 must not be frozen and have a learning rate: leave one of them out.",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, object], message: str) -> None:
    with pytest.raises(st.RecipeError) as error:
        st.Recipe(**fields)
    assert str(error.value) == message


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    recipe = st.Recipe(
        epochs=5,
        flip="alternating",
        target_error=0.01,
        phases=(
            st.Phase(epochs=2, resolution=14, frozen=("c1",)),
            st.Phase(epochs=3, learning_rates={"c1": 0.1}),
        ),
    )
    recipe.write(tmp_path / "recipe.toml")
    assert read_recipe(tmp_path / "recipe.toml") == recipe


def test_new_epochs_are_shared_out_among_the_phases() -> None:
    recipe = st.Recipe(epochs=3, phases=(st.Phase(epochs=1, resolution=14), st.Phase(epochs=2, resolution=28)))
    assert recipe.changed(epochs=3) == recipe.changed(seed=0) == recipe
    assert recipe.changed(epochs=5).plan == (st.Phase(epochs=1, resolution=14), st.Phase(epochs=4, resolution=28))
    assert recipe.changed(epochs=6.5).plan == (st.Phase(epochs=2, resolution=14), st.Phase(epochs=4.5, resolution=28))
    assert recipe.changed(epochs=2).plan == (st.Phase(epochs=2, resolution=28),)  # a phase ends with an epoch
    assert recipe.changed(epochs=5, phases=()).plan == st.Recipe(epochs=5).plan == (st.Phase(epochs=5),)
    with pytest.raises(st.RecipeError, match="epochs must be greater than 0"):
        recipe.changed(epochs=-1)


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("alpha", 0.9, {"optimizer": "rmsprop"}),
        ("average_decay", 0.999, {"average": "ema"}),
        ("beta2", 0.9, {"optimizer": "muon"}),
        ("focal_gamma", 1.0, {"loss": "focal"}),
        ("plateau_epochs", 2, {"schedule": "plateau"}),
        ("step_epochs", 2, {"schedule": "exponential"}),
        ("step_factor", 0.5, {"schedule": "step"}),
    ],
)
def test_a_change_that_counts_for_nothing_is_refused(field: str, value: float, where: dict[str, str]) -> None:
    (other,) = where
    plain = st.Recipe(optimizer="sgd")
    with pytest.raises(st.RecipeError, match=rf"{field} counts only where {other} is .*{where[other]}.*, got {other} "):
        plain.changed(**{field: value})
    assert getattr(plain.changed(**{field: value}, **where), field) == value
    assert plain.changed(**{field: getattr(plain, field)}) == plain


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(st.FileError, match=r"Cannot read the recipe .*none\.toml: No such file"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("epochs = = 3")
    with pytest.raises(st.FileError, match=r"The recipe .*bad\.toml must be TOML"):
        read_recipe(tmp_path / "bad.toml")
    (tmp_path / "typo.toml").write_text("epoch = 3")
    with pytest.raises(st.RecipeError, match="no field 'epoch'"):
        read_recipe(tmp_path / "typo.toml")


@pytest.mark.parametrize("field", ["early_stopping_epochs", "target_error"])
def test_what_stops_by_val_cannot_learn_from_it(field: str) -> None:
    with pytest.raises(st.RecipeError, match=f"{field} needs val to stop by: leave it out where learn_from"):
        st.Recipe(learn_from="train+val", **{field: 1})


def test_it_cannot_be_changed_in_place() -> None:
    with pytest.raises(Exception, match="frozen"):
        st.Recipe().epochs = 3  # type: ignore[misc]
