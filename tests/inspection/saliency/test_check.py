from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.inspection.saliency.check import check_map
from striate.inspection.saliency.integrated_gradients import integrated_gradients
from striate.inspection.subject import Subject, subject_of
from tests.conftest import make_image_set


def constant(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """A map that says nothing."""
    return torch.full(inputs[:, 0].shape, 0.5)


def sobel(network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The edges of the picture, which look like an explanation."""
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    grey = inputs.mean(1, keepdim=True)
    return F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None], padding=1).square().sum(1).sqrt()


@pytest.fixture(scope="module")
def learned() -> Subject:
    """A small network that has learned which third of the picture is bright."""
    images = make_image_set(size=12)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten()]
        network = nn.Sequential(*layers, nn.Linear(144, 3))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    subject = subject_of(network, images.train)
    assert subject.labels is not None
    for _ in range(40):
        loss = F.cross_entropy(network(subject.inputs), subject.labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    optimiser.zero_grad()
    return subject_of(network.train(), images.train[[0, 1, 2]])


def test_a_constant_map_fails(learned: Subject) -> None:
    check = check_map(constant, learned.network, learned.inputs, learned.targets(), learned.spec.task)
    assert not check.randomisation.passes.any()
    assert not check.passes.any()
    assert check.warnings(0) == ["This map is the same everywhere: it says nothing about what the answer rests on."]


def test_an_edge_detector_fails(learned: Subject) -> None:
    check = check_map(sobel, learned.network, learned.inputs, learned.targets(), learned.spec.task)
    assert check.randomisation.correlation.tolist() == pytest.approx([1, 1, 1])
    assert not check.randomisation.passes.any()
    assert "too much the same (ρ = 1.000, at most ±0.3 passes)" in check.warnings(0)[0]


def test_integrated_gradients_pass_and_the_network_is_left_as_it_was(learned: Subject) -> None:
    before = {name: value.clone() for name, value in learned.network.state_dict().items()}
    state = torch.get_rng_state()
    check = check_map(integrated_gradients, learned.network, learned.inputs, learned.targets(), learned.spec.task)
    assert check.randomisation.passes.all()
    assert learned.network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in learned.network.state_dict().items())
    again = check_map(integrated_gradients, learned.network, learned.inputs, learned.targets(), learned.spec.task)
    assert torch.equal(again.removal.deletion, check.removal.deletion)
    assert torch.equal(again.randomisation.correlation, check.randomisation.correlation)
