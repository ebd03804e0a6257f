from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import striate as st
from striate.inspection.subject import subject_of
from striate.inspection.training_step import explain_step
from tests.inspection import subjects

PARAMETERS = [
    ("lenet5", "c1.weight", (2, 0, 3, 4)),
    ("resnet20_cifar10", None, None),
    ("in place", "second.weight", (1, 2, 0, 1)),
    ("in place", "norm.bias", 3),
    ("wrapped", "network.head.weight", (2, 5)),
    ("untraceable", "conv.bias", 4),
]


@pytest.mark.parametrize(("name", "parameter", "index"), PARAMETERS)
def test_the_gradient_is_the_central_difference(name: str, parameter: str | None, index: int | tuple[int, ...]) -> None:
    network = subjects.build(name)
    if parameter is None:
        parameter, weights = next((n, p) for n, p in network.named_parameters() if p.ndim == 4)
        index = tuple(size // 2 for size in weights.shape)
    picture = subjects.pictures(name, 1)
    step = explain_step(network, picture, 2, parameter, index, learning_rate=0.05)
    replica, inputs = copy.deepcopy(network).double(), subject_of(network, picture).inputs.double()
    weights = replica.get_parameter(parameter)

    def loss() -> Tensor:
        return F.cross_entropy(replica(inputs), torch.tensor([2]))

    with torch.no_grad():
        middle, width = float(weights[index]), 1e-6
        weights[index] = middle + width
        above = float(loss())
        weights[index] = middle - width
        below = float(loss())
        weights[index] = middle
        assert step.loss == pytest.approx(float(loss()), rel=1e-12)
    assert step.gradient == pytest.approx((above - below) / (2 * width), rel=1e-4, abs=1e-8)
    assert step.weight == middle
    assert step.update == -0.05 * step.gradient


def test_the_step_is_that_of_gradient_descent() -> None:
    network, picture = subjects.build("lenet5"), subjects.pictures("lenet5", 1)
    step = explain_step(network, picture, "7", "head.bias", 3, learning_rate=0.1)
    replica, inputs = copy.deepcopy(network).double(), subject_of(network, picture).inputs.double()
    optimiser = torch.optim.SGD(replica.parameters(), lr=0.1)
    loss = F.cross_entropy(replica(inputs), torch.tensor([7]))
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        after = float(F.cross_entropy(replica(inputs), torch.tensor([7])))
        assert step.weight_after == pytest.approx(float(replica.get_parameter("head.bias")[3]), rel=1e-12)
    assert step.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    assert step.loss_after == pytest.approx(after, rel=1e-9)
    assert step.loss_after < step.loss_after_alone < step.loss


def test_a_step_by_hand() -> None:
    """Two classes, logits (w x, 0): the loss is ln(1 + e^−wx), its slope −x (1 − p)."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[2.0], [0.0]]))
    step = explain_step(network, torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), 0, "1.weight", (0, 0))
    right = 1 / (1 + math.exp(-2))
    assert step.loss == pytest.approx(-math.log(right))
    assert step.gradient == pytest.approx(right - 1)
    assert step.weight_after == pytest.approx(2 + 0.01 * (1 - right))
    assert step.loss_after_alone == pytest.approx(math.log(1 + math.exp(-step.weight_after)))
    assert "update = −lr · dL/dw = −0.01 · (−0.119203) = 0.00119203" in str(step)
    assert "if w grows a little, the loss shrinks" in str(step)
    for weight, loss in (*step.nearby, *step.around):
        assert loss == pytest.approx(math.log(1 + math.exp(-weight)))


def test_the_network_is_left_as_it_was() -> None:
    network = subjects.build("in place").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    explain_step(network, subjects.pictures("in place", 1), 1, "first.weight", (0, 0, 0, 0))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert next(network.parameters()).dtype == torch.float32
    assert torch.equal(state, torch.random.get_rng_state())


def test_it_is_drawn_with_its_numbers() -> None:
    step = explain_step(subjects.build("lenet5"), subjects.pictures("lenet5", 1), 1, "head.bias", 1)
    drawing = step.draw()
    assert "change of the loss" in drawing
    assert f"slope dL/dw = −{-step.gradient:.4g}" in drawing


def test_what_cannot_be_explained_is_said() -> None:
    network, picture = subjects.build("lenet5"), subjects.pictures("lenet5", 1)
    with pytest.raises(st.NetworkError, match=r"no parameter 'head\.wieght'\. Did you mean 'head\.weight'\?"):
        explain_step(network, picture, 1, "head.wieght", 0)
    with pytest.raises(st.NetworkError, match=r"'head\.bias' must be 1 number from 0, below 10; got 10"):
        explain_step(network, picture, 1, "head.bias", 10)
    with pytest.raises(st.DataError, match="no class 'ten'"):
        explain_step(network, picture, "ten", "head.bias", 1)
    with pytest.raises(st.DataError, match="learning rate must be a number above 0, got 0"):
        explain_step(network, picture, 1, "head.bias", 1, learning_rate=0)
    with pytest.raises(st.NetworkError, match=r"'norm\.running_mean' is a buffer"):
        explain_step(subjects.build("in place"), subjects.pictures("in place", 1), 1, "norm.running_mean", 0)
    network.get_parameter("head.bias").requires_grad_(False)
    with pytest.raises(st.NetworkError, match=r"'head\.bias' is frozen"):
        explain_step(network, picture, 1, "head.bias", 1)
    google = subjects.build("googlenet")
    parameter = next(name for name, _ in google.named_parameters() if name.startswith("aux1") and "bias" in name)
    with pytest.raises(st.NetworkError, match="does not depend on 'aux1"):
        explain_step(google, subjects.pictures("googlenet", 1), 1, parameter, 0)
