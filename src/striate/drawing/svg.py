"""The few elements of SVG that our drawings are made of; text is measured, so that nothing overlaps and nothing is cut.

Everything here is text: the same drawing is the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final
from xml.sax.saxutils import escape, quoteattr

from striate.core import files

FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
SMALLEST = 9.0  # px: what a person can read at natural size
INK, FAINT = "#1a1a1a", "#555555"

# Width of each character in em, of the widest of the fonts above, rounded up to twentieths.
_WIDTHS = {
    character: width
    for width, characters in {
        0.3: "'IJijl",
        0.35: " ,./:;\\|·",
        0.4: "()-[]ft",
        0.45: "!r",
        0.5: '"*_`–',
        0.55: "?csz",
        0.6: "FLkvxy",
        0.65: "$0123456789EPSTYabdeghnopqu{}√",
        0.7: "ABCKRVXZ",
        0.75: "NU∝",
        0.8: "&DGHOQ",
        0.85: "#+<=>^w~×→−",
        0.9: "M",
    }.items()
    for character in characters
}
_BOLD = 1.15  # how much wider bold letters are


@final
class Drawing(str):
    """An SVG document; a notebook shows it as a picture."""

    __slots__ = ()

    def write(self, path: str | Path) -> None:
        """Write it to a file.

        Raises:
            FileError: the name does not end in .svg, or it cannot be written.
        """
        files.check_ending(path, ".svg", "drawing")
        files.write_text(Path(path), self)

    def _repr_svg_(self) -> str:
        return str(self)


def text_width(words: str, size: float, *, bold: bool = False) -> float:
    """Return at least the width of a line of text, in px, whichever of `FONTS` shows it.

    Args:
        size: of the font, in px.
    """
    return size * sum(_WIDTHS.get(character, 1.0) for character in words) * (_BOLD if bold else 1.0)


def text(
    words: str, x: float, y: float, size: float, *, anchor: str = "middle", colour: str = INK, bold: bool = False
) -> str:
    """Return a line of text whose baseline is at y.

    Args:
        size: of the font, in px; `SMALLEST` at least.
        anchor: what is at x: ``start``, ``middle`` or ``end``.
    """
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{number(x)}" y="{number(y)}" font-size="{number(max(size, SMALLEST))}" text-anchor="{anchor}" '
        f'fill="{colour}"{weight}>{_clean(words)}</text>'
    )


def polygon(points: Iterable[tuple[float, float]], fill: str, *, stroke: str = INK, width: float = 0.7) -> str:
    """Return a closed shape."""
    corners = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return (
        f'<polygon points="{corners}" fill="{fill}" stroke="{stroke}" stroke-width="{width}" stroke-linejoin="round"/>'
    )


def line(points: Sequence[tuple[float, float]], *, arrow: bool = False, dashed: bool = False, colour: str = INK) -> str:
    """Return a line through points, which ends in an arrowhead where asked."""
    path = "M" + " L".join(f"{number(x)} {number(y)}" for x, y in points)
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    head = _head(points[-2], points[-1], colour) if arrow else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1"{dashes}/>{head}'


def _head(before: tuple[float, float], tip: tuple[float, float], colour: str) -> str:
    """An arrowhead that points along the last stretch, which is horizontal or vertical."""
    (x0, y0), (x, y) = before, tip
    dx, dy = (6 if x > x0 else -6, 0) if abs(x - x0) >= abs(y - y0) else (0, 6 if y > y0 else -6)
    corners = [(x, y), (x - dx + dy / 2, y - dy + dx / 2), (x - dx - dy / 2, y - dy - dx / 2)]
    return polygon(corners, colour, stroke="none", width=0)


def group(content: str, x: float = 0, y: float = 0, *, name: str = "") -> str:
    """Return elements moved by (x, y), with a class that says what they are."""
    what = f' class="{name}"' if name else ""
    return f'<g{what} transform="translate({number(x)} {number(y)})">{content}</g>'


def document(content: str, width: float, height: float, *, title: str, description: str) -> Drawing:
    """Return a whole SVG document with a title and a description for who cannot see it."""
    w, h = number(width), number(height)
    return Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" '
        f'aria-labelledby="title description" font-family={quoteattr(FONTS)}>\n'
        f'<title id="title">{_clean(title)}</title>\n<desc id="description">{_clean(description)}</desc>\n'
        f'<rect width="{w}" height="{h}" fill="#ffffff"/>\n{content}\n</svg>\n'
    )


def _clean(words: str) -> str:
    """Escape what XML reads as markup; characters that it cannot hold at all become a sign of their absence."""
    return escape("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in words))


def number(value: float) -> str:
    """Return a number of px to a tenth."""
    return f"{round(value, 1) + 0:g}" if abs(value) < 1e5 else f"{value:.0f}"


def mixed(colour: str, other: str, share: float) -> str:
    """Return ``colour`` (#rrggbb) with a share of another in it."""
    pairs = [(int(colour[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)
