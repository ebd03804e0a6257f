from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.contract import Outputs
from striate.training.optim import decaying_parameters
from striate.training.optim.groups import groups_of
from tests.networks.zoo.test_zoo import make_spec


class Own(nn.Module):
    """A network that says how its parameters learn."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.free = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.body.weight.requires_grad_(False)

    def parameter_groups(self, recipe: st.Recipe) -> list[dict[str, object]]:
        biases = [p for p in self.parameters() if p.dim() == 1]
        return [
            {"params": biases, "learning_rate_factor": 64.0},
            {"params": [self.body.weight, self.free.weight], "weight_decay": 0.0},
            {"params": iter([self.head.weight]), "weight_decay": 2 * recipe.weight_decay},
        ]


def named(network: nn.Module, recipe: st.Recipe) -> dict[str, tuple[str, tuple[float, ...], float]]:
    """Return (rule, factors, decay) of each parameter that learns."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = groups_of(network, recipe)
    return {names[p]: (group.rule, group.factors, group.decay) for group in groups for p in group.parameters}


def penalised(network: nn.Module, recipe: st.Recipe) -> set[str]:
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {names[parameter] for parameter in decaying_parameters(network, recipe)}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "muon"])
def test_a_networks_own_groups_hold_with_every_optimiser(optimizer: str) -> None:
    network, recipe = Own(), st.Recipe(optimizer=optimizer, weight_decay=0.1)
    rest = "adamw" if optimizer == "muon" else optimizer
    assert named(network, recipe) == {
        "body.bias": (rest, (64.0,), 0.0),
        "free.bias": (rest, (64.0,), 0.0),
        "head.bias": (rest, (64.0,), 0.0),
        "free.weight": (optimizer, (1.0,), 0.0),
        "head.weight": (rest, (1.0,), 0.2),
    }
    assert penalised(network, recipe) == {"head.weight"}


@pytest.mark.parametrize("auxiliary", [{"side": 0.3}, True])
def test_auxiliary_outputs_need_not_be_named_after_modules(auxiliary: object) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    network.auxiliary = auxiliary  # type: ignore[assignment]
    assert named(network, st.Recipe(optimizer="muon"))["0.weight"][0] == "muon"
    assert named(network, st.Recipe(optimizer="muon"))["1.weight"][0] == "adamw"


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (lambda n: [{"params": n.free.parameters()}], "body.weight is in none: let it require no gradient"),
        (lambda n: [{"params": n.parameters()}, {"params": n.head.parameters()}], "each parameter into one group"),
        (
            lambda n: [{"params": n.parameters(), "lr": 0.1}],
            "no 'lr', but params, learning_rate_factor, weight_decay",
        ),
        (lambda n: [{"weight_decay": 0.1}], "which params are in it"),
        (lambda n: [{"params": n.parameters(), "learning_rate_factor": -1.0}], "learning_rate_factor of at least 0"),
    ],
)
def test_groups_that_forget_a_parameter_or_say_something_else_are_refused(groups: Any, words: str) -> None:
    network = Own()
    network.body.weight.requires_grad_(True)
    network.parameter_groups = lambda recipe: groups(network)  # type: ignore[method-assign]
    with pytest.raises(st.NetworkError) as refused:
        groups_of(network, st.Recipe())
    assert words in str(refused.value)


def test_norms_and_biases_have_a_rate_of_their_own_and_no_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.LayerNorm([2, 4, 4]), nn.PReLU(2), nn.Linear(4, 2))
    recipe = st.Recipe(optimizer="sgd", bias_rate_factor=64, weight_decay=0.1)
    slow, fast = ("sgd", (1.0,), 0.1), ("sgd", (64.0,), 0.0)
    weights = {"0.weight", "3.weight"}
    assert named(network, recipe) == {n: slow if n in weights else fast for n, _ in network.named_parameters()}
    assert penalised(network, recipe) == penalised(network, recipe.changed(weight_decay=0)) == weights


def test_factors_of_phases_groups_and_biases_multiply() -> None:
    phases = (st.Phase(epochs=1, learning_rates={"free": 0.5}), st.Phase(epochs=1))
    recipe = st.Recipe(epochs=2, phases=phases, bias_rate_factor=2, weight_decay=0)
    factors = {name: values[1] for name, values in named(Own(), recipe).items()}
    assert factors["free.bias"] == (64.0, 128.0)
    assert factors["free.weight"] == (0.5, 1.0)


@pytest.mark.parametrize(
    ("model", "head"),
    [
        ("speednet_small", "head.weight"),
        ("resnet20_cifar10", "fc.weight"),
        ("conv 4@3x3 relu | flatten | fc 8 relu | fc 10", "body.fc2.fc.weight"),
    ],
)
def test_muon_is_for_all_filters_and_matrices_but_the_head(model: str, head: str) -> None:
    network = build_on_meta(model, make_spec((1, 28, 28), 10))
    for name, (rule, _, _) in named(network, st.Recipe(optimizer="muon")).items():
        assert rule == ("muon" if network.get_parameter(name).dim() > 1 and name != head else "adamw"), name


def test_the_last_layer_with_weights_is_the_head_where_none_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2), nn.Softplus())
    rules = {name: values[0] for name, values in named(network, st.Recipe(optimizer="muon")).items()}
    assert rules == {"0.weight": "muon", "0.bias": "adamw", "2.weight": "adamw", "2.bias": "adamw"}


def test_auxiliary_heads_are_heads() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.side, self.fc = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)
            self.auxiliary = {"side": 0.3}

        def forward(self, x: Tensor) -> Outputs:
            x = torch.relu(self.body(x))
            return Outputs(self.fc(x), {"side": self.side(x)})

    rules = {name: values[0] for name, values in named(TwoHeads(), st.Recipe(optimizer="muon")).items()}
    assert [name for name, rule in rules.items() if rule == "muon"] == ["body.weight"]
