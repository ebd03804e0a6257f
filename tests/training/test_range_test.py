from __future__ import annotations

import pytest
import torch

import striate as st
from striate.core.errors import TrainingError
from striate.training.range_test import _found, learning_rate_range
from striate.training.trial import trial_run
from tests.conftest import make_image_set


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "muon"])
def test_the_suggested_rates_train_and_the_network_is_left_alone(image_set: st.ImageSet, optimizer: str) -> None:
    network = st.build("conv 8@3x3 pad 1 relu | maxpool 2 | fc 3", image_set.spec)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    recipe = st.Recipe(batch_size=16, optimizer=optimizer, schedule="constant", warmup_fraction=0)  # type: ignore[arg-type]
    drawn = torch.get_rng_state()
    found = learning_rate_range(network, image_set, recipe)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert found.steepest < found.least
    assert found.tenth < found.least
    assert "steepest" in found.draw()
    run = st.fit(network, image_set, recipe, epochs=4, learning_rate=found.steepest, progress=False)
    assert run.history[-1]["loss"] < 0.8 * found.losses[0]


def test_the_marks_are_where_a_known_curve_is_steepest_and_least() -> None:
    rates = [10 ** (-4 + step / 20) for step in range(81)]
    losses = [2 - 1.8 / (1 + 10 ** (2 - step / 20)) if step < 65 else 0.2 * (step - 55) for step in range(81)]
    found = _found(rates, losses)
    assert found.steepest == pytest.approx(1e-2, rel=0.3)  # a logistic curve falls fastest in its middle
    assert 0.04 <= found.least <= 0.18  # where it begins to rise, and up to three steps of smoothing before
    assert found.tenth == found.least / 10


def test_a_loss_that_never_falls_is_said() -> None:
    with pytest.raises(TrainingError, match="The loss must fall somewhere"):
        _found([1e-6, 1e-5, 1e-4], [1.0, 2.0, 3.0])


def test_it_is_the_loss_of_the_recipe_whose_range_is_found() -> None:
    images = make_image_set(pictures=110)  # of which the classes have not as many each
    recipe = st.Recipe(batch_size=16, class_weights="balanced")
    run, _ = trial_run(st.build("fc 3", images.spec), images, recipe, 2)
    assert run.class_weights is not None
    assert run.class_weights.tolist() == (run.class_shares.reciprocal() / 3).float().tolist()


def test_a_penalty_holds_the_weights_while_the_rate_rises(image_set: st.ImageSet) -> None:
    network = st.build("fc 3", image_set.spec)
    found = [
        learning_rate_range(network, image_set, st.Recipe(batch_size=16, optimizer="sgd", l2=l2)) for l2 in (0.0, 0.5)
    ]
    assert found[0].losses[0] == found[1].losses[0]
    assert found[0].losses != found[1].losses


def test_what_fit_refuses_is_refused(image_set: st.ImageSet) -> None:
    with pytest.raises(st.RecipeError, match="shift must be less than the 8 pixels"):
        learning_rate_range(st.build("fc 3", image_set.spec), image_set, st.Recipe(shift=8))
