"""Tensors as a sheet of tiles: pictures, maps and filters side by side, with captions and a legend of the colours."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import final

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from striate.core import files
from striate.drawing.colours import ABOUT_ZERO, Scale
from striate.drawing.svg import FAINT, INK

MARGIN, GAP = 20, 8  # px around the sheet, between tiles
TITLE, HEADING, WORDS = 20, 15, 12  # px, sizes of text
LEADING = 1.35  # from one line of text to the next, in sizes
WIDEST = 1400  # px of a sheet whose number of columns is not given
LEGEND = (220, 12)  # px, its bar
MARKED = 5  # px per value from which those below zero get a dash
ROOM = 46  # px per value from which it can be written upon
BOX = "#ff2d95"  # a colour that photographs rarely have


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture or map.

    Args:
        pixels: (H, W) values, which a scale turns into colours; or (1 or 3, H, W) uint8, a picture as it is.
        caption: under it; it is broken into lines.
        scale: of its own; that of its group where None.
        box: (first row, last row, first column, last column) of a frame upon it, in its own pixels.
        numbers: whether each value is written upon its pixel, where it has `ROOM` and the value is a number.
    """

    pixels: Tensor
    caption: str = ""
    scale: Scale | None = None
    box: tuple[int, int, int, int] | None = None
    numbers: bool = False


@dataclass(frozen=True)
class Group:
    """Tiles under one heading, with one scale whose legend is drawn after them.

    Args:
        tiles: from left to right, in rows.
        heading: over them.
        scale: for the tiles of values that have none of their own.
        columns: tiles in a row; as many as fit where None.
        side: px of a tile's longer side, about: small tiles are enlarged by a whole number.
    """

    tiles: Sequence[Tile]
    heading: str = ""
    scale: Scale | None = None
    columns: int | None = None
    side: int = 96


@final
@dataclass(frozen=True, eq=False)
class Sheet:
    """A finished sheet; a notebook shows it as a picture.

    Args:
        image: in RGB.
    """

    image: Image.Image = field(repr=False)

    def png(self) -> bytes:
        """Return it as the bytes of a PNG file; the same sheet is the same bytes."""
        stream = io.BytesIO()
        self.image.save(stream, "PNG", optimize=True)
        return stream.getvalue()

    def write(self, path: str | Path) -> None:
        """Write it to a file.

        Raises:
            FileError: the name does not end in .png, or it cannot be written.
        """
        files.check_ending(path, ".png", "sheet")
        files.write_bytes(Path(path), self.png())

    def _repr_png_(self) -> bytes:
        return self.png()


def draw_grid(groups: Iterable[Group], *, title: str, subtitle: str = "", notes: Sequence[str] = ()) -> Sheet:
    """Draw groups of tiles one under the other.

    Args:
        groups: those without tiles are left out.
        title, subtitle: over them; an empty one takes no room.
        notes: sentences under them: what the reader must know.
    """
    made = [_drawn(group) for group in groups if group.tiles]
    width = max([one.width for one in made] + [min(WIDEST, _text_width(title, TITLE)), 320])
    blocks = [
        *([_words(title, TITLE, width, bold=True)] if title else []),
        *([_words(subtitle, WORDS, width, colour=FAINT)] if subtitle else []),
        *made,
        *(_words(note, WORDS, width) for note in notes),
    ]
    return Sheet(_stacked(blocks, between=14, margin=MARGIN))


def _drawn(group: Group) -> Image.Image:
    """Draw one group: its heading, its tiles in rows, the legend of its scale."""
    pictures = [_tile(tile, group) for tile in group.tiles]
    cell = max(one.width for one in pictures)
    columns = group.columns or max(1, min(len(pictures), (WIDEST - 2 * MARGIN + GAP) // (cell + GAP)))
    cells = [
        _stacked([picture, *([_words(tile.caption, WORDS, cell)] if tile.caption else [])], between=3)
        for tile, picture in zip(group.tiles, pictures, strict=True)
    ]
    rows = [_side_by_side(cells[start : start + columns], cell) for start in range(0, len(cells), columns)]
    width = max(row.width for row in rows)
    width = max(width, min(WIDEST, _text_width(group.heading, HEADING, bold=True)))
    shown = group.scale is not None and any(tile.pixels.ndim == 2 and tile.scale is None for tile in group.tiles)
    return _stacked(
        [
            *([_words(group.heading, HEADING, width, bold=True)] if group.heading else []),
            _stacked(rows, between=GAP),
            *([draw_legend(group.scale)] if shown and group.scale is not None else []),
        ],
        between=7,
    )


def _tile(tile: Tile, group: Group) -> Image.Image:
    height, width = tile.pixels.shape[-2:]
    factor = group.side / max(height, width, 1)
    factor = max(1, round(factor)) if factor > 1 else factor
    scale = tile.scale or group.scale or Scale.of(tile.pixels) if tile.pixels.ndim == 2 else None
    colours = scale.colours(tile.pixels).permute(2, 0, 1) if scale else tile.pixels.expand(3, -1, -1)
    if factor >= 1:
        drawn = colours.repeat_interleave(int(factor), 1).repeat_interleave(int(factor), 2)
    else:
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        drawn = F.interpolate(colours[None].float(), size, mode="bilinear", antialias=True)[0].round().clamp(0, 255)
    image = Image.fromarray(drawn.to(torch.uint8).permute(1, 2, 0).contiguous().numpy())
    if scale is not None and tile.numbers and factor >= ROOM:
        _write_numbers(image, tile.pixels, scale, int(factor))
    elif scale is not None and scale.palette == "green-red" and factor >= MARKED:
        _mark_negative(image, tile.pixels, scale, int(factor))
    if tile.box is not None:
        top, bottom, left, right = (place * factor for place in tile.box)
        right, bottom = min(image.width, right + factor) - 1, min(image.height, bottom + factor) - 1
        corners = (left, top, max(left, right), max(top, bottom))  # a pixel of a shrunken tile is less than one here
        ImageDraw.Draw(image).rectangle(corners, outline=BOX, width=2)
    return image


def _mark_negative(image: Image.Image, values: Tensor, scale: Scale, factor: int) -> None:
    """Put a dash into each value well below zero, for who does not tell red from green."""
    draw = ImageDraw.Draw(image)
    for row, column in (values < 0.15 * scale.low).nonzero().tolist():
        x, y = column * factor, row * factor + factor // 2
        light = values[row, column] < 0.55 * scale.low
        draw.line((x + 1, y, x + factor - 2, y), fill="#ffffff" if light else "#000000")


def _write_numbers(image: Image.Image, values: Tensor, scale: Scale, factor: int) -> None:
    """Write each value upon its pixel, in black or white after the brightness of the colour under it."""
    draw, font = ImageDraw.Draw(image), _font(WORDS - 1, False)
    brightness = image.convert("L")
    largest = max(abs(scale.low), abs(scale.high))
    decimals = 1 - math.floor(math.log10(largest)) if largest else 0  # two digits of the largest
    for row, column in values.isfinite().nonzero().tolist():
        middle = (column * factor + factor / 2, row * factor + factor / 2)
        dark = brightness.getpixel((column * factor + 1, row * factor + 1)) < 128  # type: ignore[operator]
        words = in_digits(round(float(values[row, column]), decimals) + 0.0)
        draw.text(middle, words, fill="#ffffff" if dark else "#000000", font=font, anchor="mm")


def draw_legend(scale: Scale) -> Image.Image:
    """Return the bar of a scale with its values and its meaning."""
    width, height = LEGEND
    ramp = torch.linspace(scale.low, scale.high, width).expand(height, -1)
    bar = Image.fromarray(scale.colours(ramp).contiguous().numpy())
    ImageDraw.Draw(bar).rectangle((0, 0, width - 1, height - 1), outline=INK)
    middle = ["0"] if scale.palette in ABOUT_ZERO else []
    ends = [in_digits(scale.low), *middle, in_digits(scale.high)]
    labels = Image.new("RGB", (width, round(WORDS * LEADING)), "white")
    draw = ImageDraw.Draw(labels)
    for place, label in zip(torch.linspace(0, 1, len(ends)).tolist(), ends, strict=True):
        draw.text((place * (width - _text_width(label, WORDS)), 0), label, fill=INK, font=_font(WORDS, False))
    whole = _stacked([bar, labels], between=1)
    if not scale.meaning:
        return whole
    words = _words(scale.meaning, WORDS, 420)
    joined = Image.new("RGB", (whole.width + 12 + words.width, max(whole.height, words.height)), "white")
    joined.paste(whole, (0, 0))
    joined.paste(words, (whole.width + 12, 0))
    return joined


def in_digits(value: float, digits: int = 3) -> str:
    """Return a number with so many digits and a minus sign."""
    return f"{value + 0.0:.{digits}g}".replace("-", "−")  # without the sign of −0


def _words(words: str, size: int, width: int, *, bold: bool = False, colour: str = INK) -> Image.Image:
    """Draw text in lines no wider than ``width`` px; words that are too long for a line are broken."""
    lines = _lines(words, size, width, bold)
    image = Image.new("RGB", (max(1, width), round(len(lines) * size * LEADING)), "white")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((0, number * size * LEADING), line, fill=colour, font=_font(size, bold))
    return image


def _lines(words: str, size: int, width: int, bold: bool) -> list[str]:
    lines: list[str] = []
    for paragraph in words.split("\n"):
        lines.append("")
        for word in paragraph.split(" "):
            longer = f"{lines[-1]} {word}".strip()
            if _text_width(longer, size, bold=bold) <= width:
                lines[-1] = longer
                continue
            if lines[-1]:
                lines.append("")
            for character in word:
                if lines[-1] and _text_width(lines[-1] + character, size, bold=bold) > width:
                    lines.append("")
                lines[-1] += character
    return lines


def _text_width(words: str, size: int, *, bold: bool = False) -> int:
    return -int(-_font(size, bold).getlength(words) // 1)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and knows most alphabets; found without importing matplotlib."""
    package = importlib.util.find_spec("matplotlib")
    assert package is not None
    assert package.origin is not None
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / name), size)


def _stacked(images: Sequence[Image.Image], *, between: int, margin: int = 0) -> Image.Image:
    width, height = max(one.width for one in images), sum(one.height for one in images) + between * (len(images) - 1)
    whole = Image.new("RGB", (width + 2 * margin, height + 2 * margin), "white")
    y = margin
    for one in images:
        whole.paste(one, (margin, y))
        y += one.height + between
    return whole


def _side_by_side(images: Sequence[Image.Image], cell: int) -> Image.Image:
    whole = Image.new("RGB", (len(images) * (cell + GAP) - GAP, max(one.height for one in images)), "white")
    for number, one in enumerate(images):
        whole.paste(one, (number * (cell + GAP), 0))
    return whole
