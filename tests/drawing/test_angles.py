from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from striate.drawing.angles import angle_colours, draw_bar, draw_rose, draw_wheel


def colour_at(picture: Tensor, angle: float, radius: float) -> list[int]:
    """Return the colour at an angle and a distance from the middle, of half the side."""
    half = picture.shape[1] / 2
    row = int(half - half * radius * math.sin(math.radians(angle)))
    column = int(half + half * radius * math.cos(math.radians(angle)))
    return [int(value) for value in picture[:, row, column]]


def test_colours_go_round_once_in_half_a_turn() -> None:
    angles = torch.arange(0.0, 180.0, 0.5)
    colours = angle_colours(angles, torch.ones(())).int()
    assert torch.equal(colours, angle_colours(angles + 180, torch.ones(())).int())
    steps = (colours - colours.roll(1, 0)).abs().amax(1)
    assert int(steps.max()) <= 4  # from the last to the first as well
    assert len({tuple(colour) for colour in colours.tolist()}) > 300


def test_without_strength_or_angle_nothing_is_said() -> None:
    pale = angle_colours(torch.tensor([10.0, 80.0, math.nan]), torch.tensor([0.0, 0.0, 1.0])).tolist()
    assert pale[0] == pale[1] == pale[2] == [225] * 3
    assert int(draw_bar(math.nan, 1.0, 20).min()) == 255


@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, 150.0])
def test_bars_and_roses_lie_at_their_angle(angle: float) -> None:
    colour = angle_colours(torch.tensor(angle), torch.ones(())).tolist()
    bar = draw_bar(angle, 1.0, 60)
    values = torch.zeros(36)
    values[round(angle / 5)] = 3
    rose = draw_rose(values, 60)
    for picture in (bar, rose):
        for end in (angle, angle + 180):
            assert colour_at(picture, end, 0.8) == pytest.approx(colour, abs=12)
            assert colour_at(picture, end + 40, 0.55) == [255] * 3
    assert colour_at(draw_wheel(60), angle, 0.93) == pytest.approx(colour, abs=20)


def test_the_petals_of_a_rose_are_as_long_as_their_values() -> None:
    rose = draw_rose(torch.tensor([4.0, 2.0, 0.0, 1.0]), 200)
    painted = {
        angle: max(r for r in range(5, 90) if len(set(colour_at(rose, angle, r / 100))) > 1)
        for angle in (5, 50, 140)
    }  # fmt: skip
    assert painted == pytest.approx({5: 89, 50: 47, 140: 24}, abs=2)
    assert colour_at(rose, 100, 0.3) == [255] * 3
    draw_rose(torch.zeros(4), 20)
