from __future__ import annotations

import torch
from torch import nn

from striate.training.average import WeightAverage


def test_equals_the_recurrence_and_leaves_the_network_alone() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).double()
    average = WeightAverage(network, decay=0.5)
    expected = network[0].weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            network[0].weight.add_(step)
            network[1].num_batches_tracked.add_(1)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
        average.update(network, step)
    torch.testing.assert_close(average.network[0].weight, expected)
    assert int(average.network[1].num_batches_tracked) == 5
    assert network[0].weight.requires_grad
    assert not average.network[0].weight.requires_grad


def test_a_buffer_that_is_replaced_is_followed() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(1))

    network = Counter()
    average = WeightAverage(network, decay=0.0)
    network.mean = torch.ones(1)
    average.update(network, 1)
    assert average.network.mean.item() == 1.0
