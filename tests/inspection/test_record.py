from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.inspection.record import record
from striate.inspection.subject import subject_of
from tests.inspection import subjects


@pytest.mark.parametrize("name", [*subjects.ZOO, *subjects.FOREIGN])
def test_every_stage_is_recorded_with_its_gradient(name: str) -> None:
    network = subjects.build(name)
    inputs = subject_of(network, subjects.pictures(name, 1)).inputs
    recording = record(network, inputs, gradient_of=lambda logits: logits[:, 0])
    assert recording.activations
    assert all(recording.gradients[stage].shape == map.shape for stage, map in recording.activations.items())
    with torch.no_grad():
        assert torch.equal(recording.logits, network(inputs))
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_what_is_done_in_place_later_does_not_change_what_was_recorded() -> None:
    network = subjects.build("in place")
    inputs = subject_of(network, subjects.pictures("in place")).inputs
    recording = record(network, inputs, ["norm", "act", "second"], gradient_of=lambda logits: logits[:, 1])
    assert isinstance(network, subjects.InPlace)
    with torch.no_grad():
        normed = network.norm(network.first(inputs))
        second = network.second(normed.relu())
    torch.testing.assert_close(recording.activations["norm"], normed)
    torch.testing.assert_close(recording.activations["second"], second)
    # The gradient is that of the value as it was recorded: one more in place is one more here.
    probe = second.clone().requires_grad_()
    logits = network.head(torch.nn.functional.max_pool2d((probe + 1).relu(), 2).mean((2, 3)))
    (expected,) = torch.autograd.grad(logits[:, 1].sum(), probe)
    torch.testing.assert_close(recording.gradients["second"], expected)


def test_hooks_go_when_the_network_raises() -> None:
    class Raises(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, images: Tensor) -> Tensor:
            self.conv(images)
            raise ValueError("as it is wont to")

    network = Raises().train()
    with pytest.raises(ValueError, match="wont"):
        record(network, torch.zeros(1, 1, 8, 8))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_nothing_is_kept_that_was_not_asked_for() -> None:
    network = subjects.build("lenet5")
    recording = record(network, subject_of(network, subjects.pictures("lenet5")).inputs, ["c3"])
    assert list(recording.activations) == ["c3"]
    assert not recording.gradients
    assert not recording.activations["c3"].requires_grad
    assert not recording.logits.requires_grad


def test_a_layer_that_does_not_exist() -> None:
    with pytest.raises(st.NetworkError, match=r"no layer 'c33'\. Did you mean 'c3'\? Its stages are c1, s2, c3"):
        record(subjects.build("lenet5"), torch.zeros(1, 1, 28, 28), ["c33"])
