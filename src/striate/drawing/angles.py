"""Angles of stripes, 0–180° counter-clockwise from the horizontal, as colours, bars and roses.

An angle and the one 180° on are the same, so the colours go round once in 180°: dark blue for horizontal, yellow,
dark red for vertical, lilac. Dark and light alternate and blue faces yellow, for eyes that do not tell red from green.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_CYCLE = torch.tensor([(22.0, 78.0, 160.0), (244, 200, 40), (176, 32, 28), (203, 158, 226)])  # 0, 45, 90, 135°
_WEAK = torch.tensor([225.0, 225.0, 225.0])  # of an angle that means nothing
_FINER = 3  # times, before edges are smoothed


def angle_colours(angles: Tensor, strength: Tensor) -> Tensor:
    """Return the colour of each angle.

    Args:
        angles: (…) degrees; nan is shown as one without strength.
        strength: (…) 0–1: pale grey to full colour.

    Returns:
        (…, 3) uint8.
    """
    position = angles.float().nan_to_num(0).remainder(180) / 180 * len(_CYCLE)
    left = position.floor().long() % len(_CYCLE)
    share = (position - position.floor())[..., None]
    colour = _CYCLE[left] * (1 - share) + _CYCLE[(left + 1) % len(_CYCLE)] * share
    weight = torch.where(angles.isnan(), 0.0, strength.float().clamp(0, 1))[..., None]
    return (_WEAK + (colour - _WEAK) * weight).round().to(torch.uint8)


def draw_bar(angle: float, strength: float, side: int) -> Tensor:
    """Return a bar at an angle on white, (3, side, side) uint8; nothing where the angle is nan."""
    x, y = _plane(side)
    slope = math.radians(angle) if math.isfinite(angle) else 0.0
    along, across = x * math.cos(slope) + y * math.sin(slope), x * math.sin(slope) - y * math.cos(slope)
    inside = (across.abs() <= 0.2) & (along.abs() <= 0.92) & math.isfinite(angle)
    colour = angle_colours(torch.tensor(angle), torch.tensor(strength)).float()
    return _smoothed(torch.where(inside[..., None], colour, 255.0))


def draw_rose(values: Tensor, side: int) -> Tensor:
    """Return values of angles as petals, twice round, on white with the rim and two axes.

    Args:
        values: (A,) at least 0, of angles 0, 180/A, …; each fills the sector about its angle. The largest reaches the
            rim.
        side: px.

    Returns:
        (3, side, side) uint8.
    """
    x, y = _plane(side)
    radius, angle = torch.hypot(x, y), torch.rad2deg(torch.atan2(y, x)).remainder(180)
    sector = (angle / 180 * len(values)).round().long() % len(values)
    reach = (values.float() / values.float().max().clamp(min=1e-30) * 0.95)[sector]
    drawn = torch.full((*radius.shape, 3), 255.0)
    line = 2.2 / side  # about a pixel
    drawn[((x.abs() < line / 2) | (y.abs() < line / 2)) & (radius < 0.95)] = 190
    drawn[(radius - 0.95).abs() < line / 2] = 150
    inside = radius <= reach
    drawn[inside] = angle_colours(angle[inside], torch.ones(())).to(drawn.dtype)
    return _smoothed(drawn)


def draw_wheel(side: int) -> Tensor:
    """Return the colours' legend, (3, side, side) uint8: angle round the middle, strength 0 there and 1 at the rim."""
    x, y = _plane(side)
    radius, angle = torch.hypot(x, y), torch.rad2deg(torch.atan2(y, x)).remainder(180)
    colours = angle_colours(angle, radius / 0.95).float()
    return _smoothed(torch.where((radius <= 0.95)[..., None], colours, 255.0))


def _plane(side: int) -> tuple[Tensor, Tensor]:
    """Return x to the right and y upwards, −1 to 1, of the pixels before edges are smoothed."""
    places = (torch.arange(side * _FINER) + 0.5) / (side * _FINER) * 2 - 1
    y, x = torch.meshgrid(-places, places, indexing="ij")
    return x, y


def _smoothed(drawn: Tensor) -> Tensor:
    """(side · finer, side · finer, 3) → (3, side, side) uint8."""
    return F.avg_pool2d(drawn.permute(2, 0, 1), _FINER).round().to(torch.uint8)
