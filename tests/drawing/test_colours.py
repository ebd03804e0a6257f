from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.drawing.colours import Palette, Scale, overlaid

ENDS: dict[Palette, tuple[str, str, str]] = {  # lowest, middle, highest
    "grey": ("000000", "808080", "ffffff"),
    "diverging": ("123c69", "f7f7f7", "7f3b08"),
    "green-red": ("7a0010", "ffffff", "00401a"),
}


def _hex(colour: torch.Tensor) -> str:
    return bytes(colour.tolist()).hex()


@pytest.mark.parametrize("palette", ENDS)
def test_colours_at_the_ends_and_in_the_middle(palette: Palette) -> None:
    colours = Scale(palette, -2, 2).colours(torch.tensor([-2.0, 0.0, 2.0, -9.0, 9.0, -torch.inf, torch.inf]))
    low, middle, high = ENDS[palette]
    assert [_hex(one) for one in colours] == [low, middle, high, low, high, low, high]


def test_heat_is_brighter_the_higher_the_value() -> None:
    colours = Scale("heat", 0, 1).colours(torch.linspace(0, 1, 50)).double()
    assert (colours @ torch.tensor([0.2126, 0.7152, 0.0722]).double()).diff().min() > 0
    assert [_hex(one) for one in Scale("heat", 0, 1).colours(torch.tensor([0.0, 1.0]))] == ["440154", "fde725"]


def test_red_is_below_zero_and_green_above() -> None:
    red, green = Scale("green-red", -1, 1).colours(torch.tensor([-0.6, 0.6])).tolist()
    assert red[0] > red[1] + 50
    assert green[1] > green[0] + 50


def test_between_two_colours_in_proportion() -> None:
    values = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    colours = Scale("grey", 0, 1).colours(values)
    assert colours.shape == (3, 4, 3)
    np.testing.assert_allclose(colours[..., 1].numpy(), values.numpy() * 255, atol=0.51)


def test_what_is_no_number_is_mid_grey_and_no_extent_the_middle() -> None:
    assert Scale("heat", 0, 1).colours(torch.tensor([torch.nan])).tolist() == [[128, 128, 128]]
    assert _hex(Scale("diverging", 0, 0).colours(torch.zeros(1))[0]) == "f7f7f7"


def test_the_scale_of_values_holds_the_finite_ones() -> None:
    values = torch.tensor([-3.0, 1.0, torch.nan, torch.inf])
    assert (Scale.of(values).low, Scale.of(values).high) == (-3, 1)
    assert (Scale.of(values, "diverging").low, Scale.of(values, "diverging").high) == (-3, 3)
    assert Scale.of(torch.tensor([torch.nan])).high == 0


def test_a_picture_with_values_upon_it() -> None:
    picture = torch.tensor([[[30, 90]], [[60, 90]], [[90, 90]]], dtype=torch.uint8)
    mixed = overlaid(picture, torch.tensor([[0.0, 1.0]]), Scale("grey", 0, 1), opacity=0.5)
    assert mixed[:, 0, 0].tolist() == [30, 30, 30]  # (60 + 0) / 2
    assert mixed[:, 0, 1].tolist() == [172, 172, 172]  # (90 + 255) / 2, to even
    assert torch.equal(overlaid(picture[:1], torch.zeros(1, 2), Scale("grey", 0, 1), 0)[0], picture[0])
