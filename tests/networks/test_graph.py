from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

import striate as st
from striate.networks.graph import PICTURE, observe, trace
from tests.networks.zoo.test_zoo import make_spec

SPEC = make_spec((3, 12, 12), 5)


class Network(nn.Module):
    def __init__(self, function: Callable[[nn.Module, Tensor], object]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.loose = torch.ones(4, 1, 1)  # neither parameter nor buffer
        self.function = function

    def forward(self, images: Tensor) -> object:
        return self.function(self, images)


def operations(network: nn.Module) -> list[str]:
    return [node.operation for node in trace(network, SPEC).nodes]


def test_the_operations_in_order_with_their_modules_constants_and_options() -> None:
    graph = trace(Network(lambda own, x: torch.relu_(own.norm(own.conv(x))).flatten(1)), SPEC)
    assert [node.operation for node in graph.nodes] == [PICTURE, "conv2d", "batch_norm", "relu", "flatten"]
    picture, conv, norm, relu, flat = graph.nodes
    assert (conv.inputs, conv.module, conv.kind) == ((PICTURE,), "conv", "Conv2d")
    assert conv.constants == {"weight": "conv.weight", "bias": "conv.bias"}
    assert (conv.options["stride"], conv.options["groups"]) == ([1, 1], 1)
    assert norm.constants["running_mean"] == "norm.running_mean"
    assert (relu.module, relu.kind) == ("", "Network")
    assert [node.shape[1:] for node in (picture, conv, flat)] == [(3, 12, 12), (4, 10, 10), (400,)]
    assert graph.outputs == (flat.name,)
    assert graph.traced
    assert graph.notes == ()
    assert graph.users[conv.name] == (norm,)
    assert graph.last_of("conv") is conv


def test_what_the_output_does_not_depend_on_is_left_out() -> None:
    def forward(own: nn.Module, x: Tensor) -> Tensor:
        own.norm(own.conv(x)).sum()
        return own.conv(x).mean((2, 3))

    assert operations(Network(forward)) == [PICTURE, "conv2d", "mean"]


def test_parts_of_a_split_are_slices() -> None:
    def forward(own: nn.Module, x: Tensor) -> Tensor:
        first, second = own.conv(x).chunk(2, 1)
        return torch.cat([second, first], 1)

    graph = trace(Network(forward), SPEC)
    parts = [node for node in graph.nodes if node.operation == "slice"]
    assert [(part.options["start"], part.options["end"]) for part in parts] == [(0, 2), (2, 4)]
    assert graph.nodes[-1].inputs == (parts[1].name, parts[0].name)


@pytest.mark.parametrize("wrap", [lambda y: {"logits": y}, lambda y: (y, 3), lambda y: st.Outputs(y)])
def test_outputs_may_be_wrapped(wrap: Callable[[Tensor], object]) -> None:
    graph = trace(Network(lambda own, x: wrap(own.conv(x))), SPEC)
    assert graph.outputs == ("conv2d",)


def test_a_tensor_that_is_no_parameter_is_a_constant_found_by_a_real_pass() -> None:
    graph = trace(Network(lambda own, x: own.conv(x) * own.loose), SPEC)
    assert graph.traced
    assert graph.nodes[-1].operation == "mul"
    assert graph.constants[graph.nodes[-1].constants["other"]] == (4, 1, 1)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda own, x: own.conv(x) * (2 if own.conv(x).sum() > 0 else 3), "it looks at the values of its tensors"),
        (lambda own, x: change_a_row(own.conv(x)), "it changes part of a tensor in place"),
    ],
)
def test_what_cannot_be_traced_is_observed_and_says_so(function: Callable[..., Tensor], reason: str) -> None:
    network = Network(function)
    graph = trace(network, SPEC)
    assert not graph.traced
    assert reason in graph.notes[0]
    assert {node.module for node in graph.nodes[1:]} == {"conv"}
    assert reason in st.summary(network, SPEC).notes[0]
    assert st.summary(network, SPEC).rows[0].field is None


def change_a_row(maps: Tensor) -> Tensor:
    maps[:, :, 0].zero_()
    return maps


def test_the_network_is_left_as_it_was() -> None:
    network = Network(lambda own, x: own.norm(own.conv(x))).train()
    network.conv.eval()
    weight, running = network.conv.weight, network.norm.running_mean.clone()
    state = torch.get_rng_state()
    trace(network, SPEC)
    assert network.conv.weight is weight
    assert torch.equal(network.norm.running_mean, running)
    assert (network.training, network.conv.training, network.norm.training) == (True, False, True)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch_module._global_forward_hooks
    assert not torch_module._global_forward_pre_hooks
    assert network(torch.zeros(2, 3, 12, 12)).requires_grad  # no inference tensors are left in it


def test_hooks_are_gone_after_an_error_too() -> None:
    network = Network(lambda own, x: own.conv(x[:, :2]))
    with pytest.raises(st.NetworkError, match="The network cannot take a picture of 3×12×12"):
        trace(network, SPEC)
    assert not torch_module._global_forward_hooks
    assert not any(module._forward_hooks for module in network.modules())


def test_a_module_that_runs_twice_is_there_twice() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    graph = trace(nn.Sequential(shared, nn.ReLU(), shared), SPEC)
    assert [node.module for node in graph.nodes[1:]] == ["0", "1", "0"]
    assert len({node.name for node in graph.nodes}) == 4
    assert [node.constants.get("weight") for node in graph.nodes[1:]] == ["0.weight", None, "0.weight"]


def test_observing_knows_layers_and_shapes_alone() -> None:
    graph = observe(Network(lambda own, x: torch.relu(own.norm(own.conv(x)))), SPEC)
    assert [(node.kind, node.shape[1:]) for node in graph.nodes[1:]] == [
        ("Conv2d", (4, 10, 10)),
        ("BatchNorm2d", (4, 10, 10)),
    ]
    assert not graph.traced
    assert all(node.inputs == () for node in graph.nodes)
