from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import nn

import striate as st
from striate.core.errors import NetworkError
from striate.networks.build import build_on_meta
from striate.networks.contract import stages_of
from striate.networks.zoo import ZOO
from striate.training.fine_tuning import fine_tuning_phases
from striate.training.recipe import Recipe
from tests.networks.zoo.test_zoo import make_spec


def test_the_rate_halves_from_stage_to_stage_of_a_resnet() -> None:
    network = build_on_meta("resnet18", make_spec((3, 64, 64), 2))
    head, whole = fine_tuning_phases(network, 12, head_epochs=2, least_factor=1 / 64)
    assert (head.epochs, whole.epochs) == (2, 10)
    assert head.frozen == ("conv1", "bn1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")
    assert head.learning_rates == {}
    assert whole.frozen == ()
    assert whole.learning_rates == {
        "conv1": 1 / 64,
        "bn1": 1 / 32,
        "layer1": 1 / 16,
        "layer2": 1 / 8,
        "layer3": 1 / 4,
        "layer4": 1 / 2,
    }


@pytest.mark.parametrize("name", [entry for entry in sorted(ZOO.names()) if entry != "feedforward0"])
def test_every_network_of_the_zoo_can_be_tuned(name: str) -> None:
    spec = make_spec(ZOO.get(name).shape, 3)
    network = build_on_meta(name, spec)
    head, whole = fine_tuning_phases(network, 3, head_epochs=1, least_factor=0.01)
    stages = stages_of(network)
    left = {name for name in stages if name not in head.frozen}
    assert len(left) == 1
    classifier = [module for module in stages[left.pop()].modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert classifier
    factors = list(whole.learning_rates.values())
    assert factors[0] == 0.01
    assert factors == sorted(factors)
    assert factors[-1] < 1


@given(some.floats(0.1, 40), some.integers(0, 50), some.floats(1e-4, 1))
def test_any_epochs_make_a_recipe(epochs: float, head_epochs: int, least_factor: float) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    phases = fine_tuning_phases(network, epochs, head_epochs=head_epochs, least_factor=least_factor)
    recipe = Recipe(epochs=sum(phase.epochs for phase in phases), phases=phases)
    assert recipe.epochs == pytest.approx(epochs)
    assert phases[-1].epochs > 0
    assert len(phases) == 1 or phases[0].epochs == min(head_epochs, -(-epochs // 1) - 1)


def test_a_network_of_one_stage_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"a body and a head, got 1\. Train it with phases of your own, or without"):
        fine_tuning_phases(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 3, head_epochs=1, least_factor=0.1)


class Watcher(st.Observer):
    """Keeps the network's tensors at the end of each epoch."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    def on_epoch_end(self, run: st.Run) -> None:
        self.states.append({name: tensor.clone() for name, tensor in run.network.state_dict().items()})


def test_the_body_keeps_weights_and_statistics_until_the_head_has_learned(tmp_path: Path) -> None:
    images = st.load_data("digits")
    network = st.build("conv 8 bn relu | conv 8 bn relu | gap | fc 10", images.spec)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    phases = fine_tuning_phases(network, 2, head_epochs=1, least_factor=0.25)
    watcher = Watcher()
    st.fit(network, images, epochs=2, phases=phases, folder=tmp_path / "run", observers=[watcher], progress=False)
    first, second = watcher.states
    head = list(before)[-2:]
    for name, tensor in before.items():
        assert torch.equal(first[name], tensor) == (name not in head), name
        assert not torch.equal(second[name], first[name]), name
