from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.inspection.receptive import ReceptiveFields, receptive_fields
from tests.inspection import subjects

QUICK = ["feedforward1", "lenet5", "speednet_small", "nin_cifar10", "resnet20_cifar10", *subjects.FOREIGN]
DEEP = [name for name in subjects.ZOO if name not in QUICK]


class Averages(nn.Module):
    """k convolutions of 3×3 whose weights are all equal, as Luo et al. (2016, section 2.1) take them."""

    def __init__(self, layers: int, size: int) -> None:
        super().__init__()
        self.stack = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(layers)))
        self.head = nn.Linear(size * size, 2)
        for convolution in self.stack:
            assert isinstance(convolution, nn.Conv2d)
            nn.init.constant_(convolution.weight, 1 / 9)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stack(images).flatten(1))
        return logits


def check(name: str) -> ReceptiveFields:
    network = subjects.build(name).train()
    weights = [parameter.clone() for parameter in network.parameters()]
    state = torch.get_rng_state()
    found = receptive_fields(network, subjects.pictures(name))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(one, two) for one, two in zip(weights, network.parameters(), strict=True))
    for layer in found.layers:
        assert layer.effective.shape == subjects.pictures(name).shape[-2:]
        assert not layer.is_dead
        assert float(layer.effective.sum()) == pytest.approx(1)
        if name != "untraceable":
            assert layer.box is not None
            (top, bottom), (left, right) = layer.box
            outside = layer.effective.clone()
            outside[top : bottom + 1, left : right + 1] = 0
            assert not outside.any()  # exactly
            assert 0 < layer.share <= 1
    assert found.draw().image.width > 300
    return found


@pytest.mark.parametrize("name", QUICK)
def test_the_effective_field_lies_within_what_can_be_seen(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_the_effective_field_lies_within_what_can_be_seen_in_deep_networks(name: str) -> None:
    check(name)


@pytest.mark.parametrize("layers", [1, 4, 9])
def test_width_of_a_stack_of_averages(layers: int) -> None:
    network = Averages(layers, 33)
    found = receptive_fields(network, torch.zeros(1, 1, 33, 33, dtype=torch.uint8), f"stack.{layers - 1}").layers[0]
    size = 2 * layers + 1
    assert found.box == ((16 - layers, 16 + layers),) * 2
    assert found.theory is not None
    assert found.theory.size == (size, size)
    # Each convolution moves by −1, 0 or 1 with equal weight: variance 2/3, and variances add.
    assert found.sigma == pytest.approx((math.sqrt(layers * 2 / 3),) * 2, rel=1e-4)
    assert found.centre == pytest.approx((16, 16), abs=1e-4)
    assert found.area == smallest_area(found.effective.tolist(), 0.95)


def smallest_area(field: Sequence[Sequence[float]], share: float) -> int:
    held, count = 0.0, 0
    values = sorted((value for row in field for value in row), reverse=True)
    while held < share * sum(values):
        held += values[count]
        count += 1
    return count


def test_the_field_shrinks_against_the_box_as_the_network_deepens() -> None:
    layers = (4, 9, 16)
    shares = []
    for count in layers:
        network = Averages(count, 41)
        pictures = torch.zeros(1, 1, 41, 41, dtype=torch.uint8)
        found = receptive_fields(network, pictures, f"stack.{count - 1}").layers[0]
        assert found.theory is not None
        shares.append(found.side / found.theory.size[0])
    # Luo et al. (2016), section 2: the share of the side falls as 1/√k, so that share · √k stays.
    constants = [share * math.sqrt(count) for share, count in zip(shares, layers, strict=True)]
    assert constants[-1] == pytest.approx(constants[0], rel=0.12)
    assert shares[0] > 1.3 * shares[1] > 1.3 * 1.2 * shares[2]


def test_an_effective_field_by_hand() -> None:
    """Of one layer: |the kernels| averaged over the input's channels, the signs not mattering with one channel."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 1, 3, stride=2), nn.Flatten(), nn.Linear(16, 4))
    pictures = torch.zeros(2, 3, 9, 9, dtype=torch.uint8)
    found = receptive_fields(network, pictures, "0", (1, 3))["0"]
    convolution = network[0]
    assert isinstance(convolution, nn.Conv2d)
    expected = torch.zeros(9, 9, dtype=torch.float64)
    expected[2:5, 6:9] = convolution.weight.detach()[0].abs().double().mean(0)
    assert (found.unit, found.units, found.box) == ((1, 3), (4, 4), ((2, 4), (6, 8)))
    torch.testing.assert_close(found.effective, expected / expected.sum())


def test_channels_that_cancel_when_added_are_seen() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 4))
    convolution = network[0]
    assert isinstance(convolution, nn.Conv2d)
    with torch.no_grad():
        convolution.weight[1] = -convolution.weight[0]
    assert not receptive_fields(network, torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "0")["0"].is_dead


def test_a_dead_layer_is_said_to_be_one() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4))
    convolution = network[0]
    assert isinstance(convolution, nn.Conv2d)
    nn.init.constant_(convolution.bias, -100)  # type: ignore[arg-type]
    found = receptive_fields(network, torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    layer = found["1"]
    assert (layer.is_dead, layer.area) == (True, 0)
    assert all(map(math.isnan, (*layer.sigma, *layer.centre, layer.share)))
    assert found.notes[-1].startswith("No gradient comes from 1, ")
    found.draw()


def test_what_is_not_known_is_said() -> None:
    found = receptive_fields(subjects.build("untraceable"), subjects.pictures("untraceable"))
    assert found.notes[0].startswith("The network cannot be traced")
    assert all(layer.box is None and math.isnan(layer.share) and layer.area > 0 for layer in found.layers)


def test_what_cannot_be_looked_at() -> None:
    network, pictures = subjects.build("lenet5"), subjects.pictures("lenet5")
    with pytest.raises(st.NetworkError, match=r"Did you mean 'c3'\?"):
        receptive_fields(network, pictures, "c33")
    with pytest.raises(st.NetworkError, match=r"map of 'c3', which has 10×10 units .* got \(10, 0\)"):
        receptive_fields(network, pictures, "c3", (10, 0))
    tokens = nn.Sequential(nn.Unflatten(3, (2, 4)), nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(st.NetworkError, match=r"layer '0' must return a map \(N, C, H, W\)"):
        receptive_fields(tokens, torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "0")
    with pytest.raises(st.DataError, match="at least one picture"):
        receptive_fields(network, [])
