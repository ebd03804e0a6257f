from __future__ import annotations

import numpy as np
import pytest
import torch

import striate as st
from striate.networks.zoo.feedforward import FeedForward


@pytest.mark.parametrize(("hidden", "parameters"), [((), 7_850), ((300,), 238_510), ((300, 100), 266_610)])
def test_parameters(hidden: tuple[int, ...], parameters: int) -> None:
    network = FeedForward((1, 28, 28), 10, hidden)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_equals_the_matrix_products_written_out() -> None:
    network = FeedForward((2, 3, 4), 5, (7, 6)).double()
    images = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    values = images.numpy().reshape(3, -1)
    for layer in ("hidden.0.0", "hidden.1.0"):
        values = np.maximum(values @ state[f"{layer}.weight"].T + state[f"{layer}.bias"], 0)
    values = values @ state["head.weight"].T + state["head.bias"]
    np.testing.assert_allclose(network(images).detach().numpy(), values, rtol=1e-12)


def test_a_layer_without_units_is_refused() -> None:
    with pytest.raises(st.NetworkError, match=r"at least one unit, got hidden=\(300, 0\)"):
        FeedForward((1, 8, 8), 10, (300, 0))
