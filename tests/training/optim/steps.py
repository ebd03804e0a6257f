"""A small network, given gradients, and steps of it by the updater and by an optimiser of PyTorch's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import striate as st
from striate.training.optim import Updater

RATES = [0.1, 0.05, 0.2, 0.1, 0.01, 0.3, 0.1, 0.02, 0.05, 0.1, 0.1, 0.05]


class Small(nn.Module):
    """Filters, a norm, a matrix and a head, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 6))
        self.head = nn.Linear(6, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, 2, 4, 4)."""
        result: Tensor = self.head(self.body(x))
        return result


def small() -> Small:
    """Return the same network whenever it is called."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small()


def give_gradients(network: nn.Module, step: int, scale: float = 1.0) -> None:
    """Set every gradient to what it always is in a step."""
    generator = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def updated(recipe: st.Recipe) -> Small:
    """Return the network after a step of each rate."""
    network = small()
    updater = Updater(network, recipe)
    for step, rate in enumerate(RATES):
        give_gradients(network, step)
        updater.step(0, rate)
    return network


def updated_by(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], decay: float) -> Small:
    """Return the same by an optimiser without decay; weights of more than one dimension are shrunk before each step."""
    network = small()
    optimizer = make(list(network.parameters()))
    for step, rate in enumerate(RATES):
        give_gradients(network, step)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1 - rate * decay if parameter.dim() > 1 else 1.0)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return network


def assert_same(one: nn.Module, other: nn.Module, tolerance: float = 1e-9) -> None:
    """Compare all weights."""
    for (name, value), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance, msg=name)
