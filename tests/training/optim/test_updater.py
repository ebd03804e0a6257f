from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.training.optim import Updater


class Small(nn.Module):
    """A stage with a norm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.body(x))
        return result


def gradients(network: nn.Module, seed: int) -> dict[str, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return {name: p.grad.numpy().astype(np.float64) for name, p in network.named_parameters()}  # type: ignore[union-attr]


def weights(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().astype(np.float64) for name, p in network.named_parameters()}


def test_phases_freeze_stages_and_scale_their_learning_rates() -> None:
    network = Small()
    phases = (st.Phase(epochs=1, frozen=("body",)), st.Phase(epochs=1, learning_rates={"body": 0.0}))
    updater = Updater(network, st.Recipe(optimizer="sgd", epochs=2, phases=phases))
    before = weights(network)

    updater.begin(phases[0])
    assert not network.body.training
    assert network.head.training
    network(torch.randn(8, 3)).sum().backward()
    assert network.body[0].weight.grad is None
    updater.step(0, 0.1)
    assert np.array_equal(weights(network)["body.0.weight"], before["body.0.weight"])
    assert not np.array_equal(weights(network)["head.weight"], before["head.weight"])

    updater.begin(phases[1])
    assert network.body.training
    network(torch.randn(8, 3)).sum().backward()
    updater.step(1, 0.1)
    assert np.array_equal(weights(network)["body.0.weight"], before["body.0.weight"])


def test_what_was_frozen_before_stays_frozen() -> None:
    network = Small()
    network.body[0].weight.requires_grad_(False)
    updater = Updater(network, st.Recipe())
    updater.begin(st.Phase(epochs=1))
    updater.end()
    assert not network.body[0].weight.requires_grad
    assert network.head.weight.requires_grad


def test_a_networks_own_groups_are_taken() -> None:
    class Own(Small):
        def parameter_groups(self, recipe: st.Recipe) -> list[dict[str, object]]:
            biases = [p for p in self.parameters() if p.dim() == 1]
            others = [p for p in self.parameters() if p.dim() > 1]
            return [{"params": biases, "learning_rate_factor": 64.0}, {"params": others, "weight_decay": 0.0}]

    network = Own()
    updater = Updater(network, st.Recipe(optimizer="sgd", momentum=0.0, weight_decay=0.9))
    before = weights(network)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    updater.step(0, 0.01)
    after = weights(network)
    np.testing.assert_allclose(before["head.bias"] - after["head.bias"], 0.64, rtol=1e-5)
    np.testing.assert_allclose(before["head.weight"] - after["head.weight"], 0.01, rtol=1e-4)


def test_norms_and_biases_of_any_shape_do_not_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.LayerNorm([2, 4, 4]), nn.Flatten(), nn.Linear(32, 2))
    updater = Updater(network, st.Recipe(optimizer="sgd", weight_decay=0.5))
    before = weights(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    updater.step(0, 0.1)
    shrunk = {name for name, value in weights(network).items() if not np.array_equal(value, before[name])}
    assert shrunk == {"0.weight", "3.weight"}


def test_an_unknown_stage_is_named() -> None:
    recipe = st.Recipe(epochs=1, phases=(st.Phase(epochs=1, frozen=("boddy",)),))
    with pytest.raises(st.RecipeError, match=r"no stage 'boddy'\. Did you mean 'body'\? Its stages are body, head\."):
        Updater(Small(), recipe)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "muon"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_state_goes_on_where_it_was(optimizer: str, momentum: float) -> None:
    recipe = st.Recipe(optimizer=optimizer, momentum=momentum)
    network = Small()
    updater = Updater(network, recipe)
    gradients(network, 1)
    updater.step(0, 0.1)

    copy = Small()
    copy.load_state_dict(network.state_dict())
    resumed = Updater(copy, recipe)
    resumed.load_state({name: tensor.clone() for name, tensor in updater.state().items()})
    for one, its_updater in ((network, updater), (copy, resumed)):
        gradients(one, 2)
        its_updater.step(0, 0.1)
    pairs = zip(network.state_dict().values(), copy.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_a_gradient_that_is_too_long_is_scaled_down_as_a_whole(scale: float) -> None:
    network = Small()
    recipe = st.Recipe(optimizer="sgd", momentum=0, weight_decay=0, clip_gradient_norm=1.5)
    updater, before = Updater(network, recipe), weights(network)
    given = {name: scale * gradient for name, gradient in gradients(network, 0).items()}
    for parameter in network.parameters():
        parameter.grad = scale * parameter.grad  # type: ignore[operator]
    updater.step(0, 0.1)
    norm = np.sqrt(sum((gradient**2).sum() for gradient in given.values()))
    for name, value in weights(network).items():
        moved = 0.1 * given[name] * min(1, 1.5 / norm)
        np.testing.assert_allclose(before[name] - value, moved, rtol=1e-3, atol=1e-6, err_msg=name)


def test_no_optimiser_imports_pytorchs_compiler() -> None:
    code = """
import sys
import torch
import striate as st
from striate.training.optim import Updater
for optimizer in ("sgd", "adamw", "rmsprop", "muon"):
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    updater = Updater(network, st.Recipe(optimizer=optimizer, clip_gradient_norm=1.0))
    network(torch.rand(2, 3)).sum().backward()
    updater.step(0, 0.1)
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
