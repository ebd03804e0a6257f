"""The confusion matrix as SVG: rows are what pictures are, columns what they were said to be."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import torch
from torch import Tensor

from striate.drawing.colours import Scale
from striate.drawing.svg import FAINT, INK, Drawing, document, line, number, text, text_width

NUMBERED = 30  # classes up to which counts are written
NAMED = 120  # classes up to which names are
WIDEST_NAME = 130.0  # px
_LABEL, _SMALL, _TITLE = 11.0, 9.0, 16.0  # px, sizes of text
_MARGIN, _LEGEND = 20.0, 180.0
_DIAGONAL = "#ff2d95"


def draw_matrix(counts: Tensor, names: Sequence[str], *, title: str = "Confusion matrix") -> Drawing:
    """Draw a confusion matrix.

    The colour of a cell is its part of the row, so that rare classes are seen as well as frequent ones; the number in
    it is the count. The diagonal, what was right, is framed.

    Args:
        counts: (K, K), row: the class it is; column: the class it was said to be.
        names: K of them; long ones are cut, and whole when pointed at.
        title: over it.

    Raises:
        ValueError: names and counts do not fit.
    """
    classes = len(names)
    if tuple(counts.shape) != (classes, classes) or not classes:
        raise ValueError(f"counts must be ({classes}, {classes}) for {classes} names, got {tuple(counts.shape)}.")
    cell = _cell(counts, classes)
    scale = Scale("heat", 0.0, 1.0)
    side = classes * cell
    shown = [_cut(name, WIDEST_NAME) for name in names] if classes <= NAMED else []
    # Only as many names as have room.
    every = max(1, -(-round(1.3 * _LABEL) // max(1, round(cell))))
    room = max((text_width(name, _LABEL) for name in shown), default=0.0) + 10
    turned = any(text_width(name, _LABEL) > cell - 4 for name in shown)
    left, top = _MARGIN + 22 + room, _MARGIN + _TITLE + 30 + (room if turned else _LABEL + 10)
    content = [text(title, _MARGIN, _MARGIN + _TITLE, _TITLE, anchor="start", bold=True)]
    content += _cells(counts, names, scale, cell, left, top)
    for place, name in enumerate(shown):
        if place % every == 0:
            middle = (place + 0.5) * cell
            content.append(text(name, left - 6, top + middle + 0.36 * _LABEL, _LABEL, anchor="end"))
            content.append(_column_name(name, left + middle, top - 6, turned))
    said = f"said to be{'' if shown else f' (one of {classes} classes, in their order)'}"
    content.append(text(said, left, _MARGIN + _TITLE + 22, _LABEL, anchor="start", colour=FAINT))
    content.append(_turned("is", _MARGIN + 10, top + side / 2, "middle", FAINT))
    bottom = top + side + 26
    content += _legend(scale, left, bottom)
    need = max(left + side, left + _LEGEND + text_width(_MEANING, _SMALL) + 12, text_width(title, _TITLE, bold=True))
    right = int(counts.diagonal().sum())
    return document(
        "\n".join(content),
        need + _MARGIN,
        bottom + 46,
        title=title,
        description=f"{classes} classes, {int(counts.sum())} pictures, {right} of them right (on the diagonal).",
    )


_MEANING = "part of the pictures of the class (of the row); framed: right"


def _cell(counts: Tensor, classes: int) -> float:
    """Return the side of a cell in px: as wide as the longest count, where counts are written."""
    if classes > NUMBERED:
        return max(3.0, min(14.0, 900 / classes))
    return max(26.0, text_width(f"{int(counts.max())}", _SMALL) + 8, min(48.0, 480 / classes))


def _cells(counts: Tensor, names: Sequence[str], scale: Scale, cell: float, left: float, top: float) -> list[str]:
    """Return the cells, empty ones as one rectangle; then the frames of the diagonal."""
    classes = len(names)
    shares = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    colours = scale.colours(shares)
    side = classes * cell
    drawn = [_rectangle(left, top, side, side, "#ffffff", stroke=INK)]
    if classes <= NUMBERED:
        for place in range(1, classes):
            drawn.append(line([(left, top + place * cell), (left + side, top + place * cell)], colour="#e4e4e4"))
            drawn.append(line([(left + place * cell, top), (left + place * cell, top + side)], colour="#e4e4e4"))
    for row, column in counts.nonzero().tolist():
        count, share = int(counts[row, column]), float(shares[row, column])
        x, y = left + column * cell, top + row * cell
        red, green, blue = colours[row, column].tolist()
        fill = f"#{red:02x}{green:02x}{blue:02x}"
        said = f"{names[row]}, said to be {names[column]}: {count} ({share:.1%})"
        drawn.append(_rectangle(x, y, cell, cell, fill, about=said))
        if classes <= NUMBERED:
            light = 0.299 * red + 0.587 * green + 0.114 * blue > 140
            ink = INK if light else "#ffffff"
            drawn.append(text(f"{count}", x + cell / 2, y + cell / 2 + 0.36 * _SMALL, _SMALL, colour=ink))
    for place in range(classes):
        x, y = left + place * cell, top + place * cell
        drawn.append(_rectangle(x, y, cell, cell, "none", stroke=_DIAGONAL, width=1.6 if classes <= NUMBERED else 0.4))
    return drawn


def _rectangle(
    x: float,
    y: float,
    wide: float,
    high: float,
    fill: str,
    *,
    stroke: str = "none",
    width: float = 1.0,
    about: str = "",
) -> str:
    box = f'<rect x="{number(x)}" y="{number(y)}" width="{number(wide)}" height="{number(high)}" fill="{fill}"'
    box += f' stroke="{stroke}" stroke-width="{width}"' if stroke != "none" else ""
    return f"{box}><title>{_clean(about)}</title></rect>" if about else f"{box}/>"


def _column_name(name: str, x: float, y: float, turned: bool) -> str:
    return _turned(name, x + 0.36 * _LABEL, y, "start", INK) if turned else text(name, x, y, _LABEL)


def _turned(words: str, x: float, y: float, anchor: str, colour: str) -> str:
    """Return a line of text that is read from below."""
    written = text(words, 0, 0, _LABEL, anchor=anchor, colour=colour)
    return f'<g transform="translate({number(x)} {number(y)}) rotate(-90)">{written}</g>'


def _legend(scale: Scale, left: float, top: float) -> list[str]:
    colours = scale.colours(torch.linspace(0, 1, 60)).tolist()
    step = _LEGEND / len(colours)
    drawn = [
        _rectangle(left + place * step, top, step + 0.3, 12, f"#{red:02x}{green:02x}{blue:02x}")
        for place, (red, green, blue) in enumerate(colours)
    ]
    drawn.append(_rectangle(left, top, _LEGEND, 12, "none", stroke=INK))
    drawn += [
        text(label, left + place * _LEGEND, top + 24, _SMALL, anchor=anchor)
        for place, label, anchor in ((0.0, "0 %", "start"), (0.5, "50 %", "middle"), (1.0, "100 %", "end"))
    ]
    return [*drawn, text(_MEANING, left + _LEGEND + 10, top + 10, _SMALL, anchor="start")]


def _cut(words: str, most: float) -> str:
    """Shorten a name with an ellipsis to at most some px."""
    if text_width(words, _LABEL) <= most:
        return words
    while words and text_width(words + "…", _LABEL) > most:
        words = words[:-1]
    return words.rstrip() + "…"


def _clean(words: str) -> str:
    """Escape what XML reads as markup; characters that it cannot hold become a sign of their absence."""
    return escape("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in words))
