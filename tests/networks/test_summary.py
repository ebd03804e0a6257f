from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.networks.build import build_on_meta
from tests.networks.zoo.test_zoo import make_spec

SPEC = make_spec((1, 28, 28), 10)


def test_lenet_layer_by_layer() -> None:
    result = st.summary(build_on_meta("lenet5", SPEC), SPEC)
    assert [(row.name, row.output, row.parameters) for row in result.rows] == [
        ("c1", (6, 28, 28), 156),
        ("s2", (6, 14, 14), 0),
        ("c3", (16, 10, 10), 2_416),
        ("s4", (16, 5, 5), 0),
        ("c5", (120, 1, 1), 48_120),
        ("f6", (84,), 10_164),
        ("head", (10,), 850),
    ]
    assert result.parameters == result.trainable == 61_706
    assert result.activation_bytes == 4 * (4704 + 1176 + 1600 + 400 + 120 + 84 + 10)
    last = str(result).splitlines()[-1]
    assert last == "61,706 parameters, 61,706 of them trainable; 416,520 multiply-adds for one picture"


def test_a_module_is_left_as_it_was() -> None:
    shared = nn.Conv2d(1, 1, 3, padding=1)
    network = nn.Sequential(shared, nn.ReLU(), shared, nn.Dropout(), nn.Flatten(), nn.Linear(64, 2)).train()
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = st.summary(network, make_spec((1, 8, 8), 2))
    assert [row.parameters for row in result.rows] == [10, 0, 0, 0, 0, 130]
    assert result.parameters == 140
    assert not network[1].training
    assert network[3].training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_operations_between_layers_are_named_by_what_they_do() -> None:
    class Joins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            active = self.relu(x)
            return torch.cat([x + active, x * active], 1).mean((2, 3))

    rows = st.summary(Joins(), make_spec((1, 8, 8), 2)).rows
    kinds = ("add", "mul", "cat", "mean")
    assert [(row.name, row.kind) for row in rows] == [("relu", "ReLU"), *((kind, kind) for kind in kinds)]


def test_a_network_that_does_not_fit_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 10)).train()
    with pytest.raises(st.NetworkError, match="cannot take a picture of 1×28×28"):
        st.summary(network, SPEC)
    assert network.training
