from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.data.augment.warp import warp
from striate.inspection.equivariance import equivariance
from tests.inspection import subjects


def network_of(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(2, 3, 3),
        nn.Conv2d(2, 4, (3, 5), padding=2, groups=2),
        nn.Conv2d(2, 3, 3, dilation=3, padding="same"),
        nn.Conv2d(2, 3, 5, stride=2, padding=2),
        nn.MaxPool2d(3, 1),
        nn.AvgPool2d(2, 2),
    ],
)
def test_a_shifted_picture_is_a_shifted_map_away_from_the_border(convolution: nn.Module) -> None:
    pictures = torch.rand(2, 2, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    stride = convolution.stride if isinstance(convolution.stride, int) else convolution.stride[1]
    convolution = convolution.double()
    with torch.no_grad():
        before = convolution(pictures)
        after = convolution(warp(pictures, shift=(2 * stride, -stride), border="edge"))
    expected = warp(before, shift=(2, -1))
    inside = (..., slice(8 // stride, -8 // stride), slice(8 // stride, -8 // stride))
    torch.testing.assert_close(after[inside], expected[inside], atol=1e-12, rtol=0)
    assert not torch.allclose(after, expected)  # but not at the border


def _check(name: str) -> None:
    seen = equivariance(subjects.build(name), subjects.pictures(name, 1))
    exact, others = [], []
    for errors in seen.stages.values():
        for shift, error in zip(errors.shifts, errors.inside, strict=True):
            if error is not None and shift > 0:
                (exact if errors.is_multiple(shift) else others).append(error)
    assert exact
    assert max(exact) < 1e-5
    assert not others or min(others) > 1e-4


@pytest.mark.parametrize("name", ["lenet5", "lenet5_paper", "speednet_small", "in place", "wrapped"])
def test_shifts_by_multiples_of_the_jump_move_the_maps(name: str) -> None:
    _check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in subjects.ZOO if name not in ("feedforward1", "lenet5")])
def test_shifts_by_multiples_of_the_jump_move_the_maps_of_every_family(name: str) -> None:
    _check(name)


def test_errors_are_those_of_a_hand_made_network() -> None:
    # Every second column is taken: a shift by one pixel shows the others.
    network = nn.Sequential(nn.Conv2d(1, 1, 1, stride=2, bias=False), nn.Flatten(), nn.Linear(36, 2))
    nn.init.ones_(network[0].weight)
    picture = torch.randint(0, 256, (1, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    errors = equivariance(network, picture).stages["0"]
    map = picture[0, 0, ::2, ::2].double()
    other = picture[0, 0, ::2, 1::2].double()
    # Unit u ≥ 1 of the shifted picture is column 2u − 1; expected is the mean of units u − 1 and u.
    between = (map[:, :-1] + map[:, 1:]) / 2
    expected = float((other[:, :-1] - between).norm() / between.norm())
    assert errors.jump == 2
    assert errors.inside[0] == errors.inside[2] == 0
    assert errors.inside[1] == pytest.approx(expected, rel=1e-5)
    assert errors.everywhere[1] == pytest.approx(expected, rel=1e-5)
    turned = picture[0, 0].rot90(1)[::2, ::2].double()
    assert errors.quarter_turn == pytest.approx(float((turned - map.rot90(1)).norm() / map.norm()), rel=1e-5)


def test_a_symmetric_kernel_alone_is_equivariant_to_a_quarter_turn() -> None:
    network = network_of(nn.Conv2d(1, 1, 3, padding=1, bias=False))
    pictures = subjects.pictures("lenet5", 2)
    network(torch.zeros(1, 1, 28, 28))
    assert (equivariance(network, pictures).stages["0"].quarter_turn or 0) > 0.05
    nn.init.ones_(network[0].weight)
    assert (equivariance(network, pictures).stages["0"].quarter_turn or 0) < 1e-6


def test_units_that_all_see_the_border_are_not_measured_away_from_it() -> None:
    seen = equivariance(subjects.build("lenet5"), subjects.pictures("lenet5", 1))
    # Unit u of s4 sees from column 4u − 2 to 4u + 13 of 28: after a shift by 9 no unit sees inside alone.
    assert seen.stages["s4"].inside[9] is None
    assert seen.stages["s4"].everywhere[9] is not None
    assert seen.stages["s4"].inside[4] == pytest.approx(0, abs=1e-5)
    drawn = str(seen.draw())
    assert "jump 4" in drawn
    assert "turned by 90°" in drawn


@pytest.mark.parametrize(
    ("name", "words"),
    [("feedforward1", r"No stage of the network returns maps \(N, C, H, W\); "), ("untraceable", "cannot be traced")],
)
def test_a_network_without_known_maps(name: str, words: str) -> None:
    with pytest.raises(st.NetworkError, match=words):
        equivariance(subjects.build(name), subjects.pictures(name, 1))
