"""The part of a picture that a unit saw, cut out; and several of them as one square."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.core.errors import NetworkError
from striate.core.spec import InputSpec
from striate.drawing.grid import in_digits
from striate.inspection.units.site import Site
from striate.networks.geometry import Geometry

Window = tuple[int, int, int, int]  # first row, last row, first column, last column; beyond the border is padding
SIDE, BETWEEN = 64, 4  # px of a crop in a square of them, and between two
STRIPED = "Stripes lie beyond the picture's border, where the unit saw padding."
STRIPES = (235, 190)  # greys of what lies beyond the border


def window_of(geometry: Geometry, site: Site, position: Sequence[int], spec: InputSpec) -> Window:
    """Return the pixels that a unit sees from one position of its map.

    A window as large as the picture or larger ends at the picture's border, a smaller one goes on beyond it. It is the
    whole picture where the unit has no map, or where what it sees is not known.

    Args:
        position: (y, x).
    """
    whole = (0, spec.height - 1, 0, spec.width - 1)
    if not site.sides or site.node is None:
        return whole
    try:
        seen = geometry.sees(site.node, position)
    except NetworkError:
        return whole
    field = geometry.receptive_field(site.node)
    if seen is None or field is None:
        return whole
    edges: list[int] = []
    for axis, side in enumerate((spec.height, spec.width)):
        jump, offset, size = field.jump[axis], field.offset[axis], field.size[axis]
        if field.regular and jump is not None and jump.denominator == 1 and offset is not None and size < side:
            first = offset + position[axis] * int(jump)
            edges += [first, first + size - 1]
        else:
            edges += seen[axis]
    return (edges[0], edges[1], edges[2], edges[3])


def clipped(window: Window, picture: Tensor) -> Window:
    """Return the part of a window that lies upon a picture (C, H, W)."""
    top, bottom, left, right = window
    height, width = picture.shape[-2:]
    return max(0, top), min(height - 1, bottom), max(0, left), min(width - 1, right)


def frame(window: Window, picture: Tensor) -> Window | None:
    """Return where a window lies upon a picture; None where it is all of it."""
    height, width = picture.shape[-2:]
    box = clipped(window, picture)
    return None if box == (0, height - 1, 0, width - 1) else box


def cut(pixels: Tensor, window: Window, beyond: float) -> Tensor:
    """Return the pixels (C, H, W) in a window, and ``beyond`` where there are none."""
    top, bottom, left, right = window
    height, width = pixels.shape[-2:]
    padding = (max(0, -left), max(0, right - width + 1), max(0, -top), max(0, bottom - height + 1))
    inside = pixels[:, max(0, top) : bottom + 1, max(0, left) : right + 1]
    return F.pad(inside, padding, value=beyond)


def crop(picture: Tensor, window: Window) -> Tensor:
    """Return the part of a picture (1 or 3, H, W) uint8 in a window as (3, h, w) uint8, striped beyond its border."""
    cut_out = cut(picture.short(), window, -1).expand(3, -1, -1)
    height, width = cut_out.shape[-2:]
    diagonal = (torch.arange(height)[:, None] + torch.arange(width)) // max(1, max(height, width) // 12) % 2
    stripes = torch.tensor(STRIPES, dtype=torch.int16)[diagonal].expand(3, -1, -1)
    return torch.where(cut_out < 0, stripes, cut_out).to(torch.uint8)


def mosaic(parts: Sequence[Tensor]) -> Tensor:
    """Return tiles as one square of them, in rows: (…, h, w) each, enlarged by a whole number where they are small.

    Args:
        parts: (3, h, w) uint8, with grey between them; or (h, w) values, with what is not a number, which is drawn in
            grey.
    """
    columns = math.ceil(math.sqrt(len(parts)))
    rows = math.ceil(len(parts) / columns)
    high, wide = (max(part.shape[axis] for part in parts) for axis in (-2, -1))
    factor = max(1, round(SIDE / max(high, wide)))
    size = (rows * (high * factor + BETWEEN) - BETWEEN, columns * (wide * factor + BETWEEN) - BETWEEN)
    blank = 180 if parts[0].ndim == 3 else math.nan
    whole = torch.full((*parts[0].shape[:-2], *size), blank, dtype=parts[0].dtype)
    for number, part in enumerate(parts):
        row, column = divmod(number, columns)
        y, x = row * (high * factor + BETWEEN), column * (wide * factor + BETWEEN)
        drawn = part.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
        whole[..., y : y + drawn.shape[-2], x : x + drawn.shape[-1]] = drawn
    return whole


def unknown(geometry: Geometry, sites: Iterable[Site]) -> list[str]:
    """Return why whole pictures are shown instead of crops, in a sentence; nothing where all of it is known."""
    mapped = [site for site in sites if site.sides]
    if all(site.node is not None and geometry.receptive_field(site.node) is not None for site in mapped):
        return []
    reason = geometry.notes[0] if geometry.notes else "What the units see of the picture is not known."
    return [f"{reason} Whole pictures are shown where crops are not known."]


def described(values: Tensor) -> str:
    """Return the range of a unit's values in words, from the largest."""
    if float(values[0]) == 0:
        return "answers to none"
    return f"{in_digits(float(values[0]))} to {in_digits(float(values[-1]))}"
