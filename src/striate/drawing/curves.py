"""Curves, bars and points in a plane, as SVG; told apart by colour, dash and mark, so that no eye needs all three."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal
from xml.sax.saxutils import escape

from striate.drawing.svg import FONTS, Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that colour-blind eyes tell apart (Okabe and Ito 2008), dark enough for white paper.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#9a7d0a", "#56b4e9", "#444444", "#8b1e3f")
_DASHES = ("-", "--", "-.", ":")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Curve:
    """One line, one set of bars, or one set of points.

    Args:
        x, y: equally many numbers.
        label: for the legend; none where empty.
        low, high: of a band about it, such as a 95 % interval; empty where there is none.
        form: ``line``, ``marks`` (a line with a mark at each point), ``points``, ``bars`` or ``steps``.
        faint: drawn thin and grey, as a reference to compare with.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    form: Literal["line", "marks", "points", "bars", "steps"] = "line"
    faint: bool = False


@dataclass(frozen=True)
class Plane:
    """What curves are drawn in.

    Args:
        curves: the first is drawn first.
        title, x_title, y_title: with units.
        x_range, y_range: (least, most); what the curves need where None, or where they are equal.
        logarithmic: the axes that are, of ``"x"``, ``"y"``, ``"xy"``.
        polar: x is an angle in degrees, 0 to the right and counter-clockwise, y the distance from the centre.
        size: (width, height) in px.
    """

    curves: Sequence[Curve]
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    logarithmic: str = ""
    polar: bool = False
    size: tuple[int, int] = (520, 340)


def draw_curves(planes: Plane | Sequence[Plane], *, columns: int = 2, description: str = "") -> Drawing:
    """Draw one plane, or several side by side in rows.

    Args:
        planes: all are drawn at the size of the first.
        columns: planes in a row.
        description: for who cannot see it.

    Raises:
        ValueError: there is no plane.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    planes = [planes] if isinstance(planes, Plane) else list(planes)
    if not planes:
        raise ValueError("There must be at least one plane to draw, got none.")
    columns = min(columns, len(planes))
    rows = -(-len(planes) // columns)
    width, height = planes[0].size
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "striate", "font.family": ["sans-serif"]}
    style |= {"font.size": 9, "axes.titlesize": 11, "axes.spines.top": False, "axes.spines.right": False}
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # who shows the drawing has other fonts
        figure = Figure(figsize=(columns * width / 72, rows * height / 72), layout="constrained")
        for number, plane in enumerate(planes, 1):
            axes = figure.add_subplot(rows, columns, number, projection="polar" if plane.polar else None)
            _draw(axes, plane)
        stream = io.StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(stream, metadata={"Date": None, "Creator": None})
    return _as_drawing(stream.getvalue(), description or "; ".join(plane.title for plane in planes))


def _draw(axes: Axes, plane: Plane) -> None:
    named: list[tuple[Any, str]] = []
    for number, curve in enumerate(plane.curves):
        x = [value * 3.141592653589793 / 180 for value in curve.x] if plane.polar else list(curve.x)
        colour = "#999999" if curve.faint else COLOURS[number % len(COLOURS)]
        style: dict[str, Any] = {"color": colour}
        dash, mark = _DASHES[number // 2 % len(_DASHES)], _MARKS[number % len(_MARKS)]
        if curve.form == "bars":
            widths = min((b - a for a, b in pairwise(x)), default=1.0)
            drawn: Any = axes.bar(x, curve.y, width=0.9 * widths, **style)
        elif curve.form == "points":
            (drawn,) = axes.plot(x, curve.y, mark, markersize=5, **style)
        elif curve.form == "steps":
            (drawn,) = axes.step(x, curve.y, where="post", linestyle=dash, **style)
        else:
            form: dict[str, Any] = {"marker": mark, "markersize": 4} if curve.form == "marks" else {}
            style |= {"linestyle": ":", "linewidth": 1} if curve.faint else {"linestyle": dash, "linewidth": 1.8}
            (drawn,) = axes.plot(x, curve.y, **form, **style)
        if curve.label:
            named.append((drawn, _safe(curve.label)))
        if curve.low and curve.high:
            axes.fill_between(x, list(curve.low), list(curve.high), color=colour, alpha=0.18, linewidth=0)
    axes.set_title(_safe(plane.title), loc="left" if not plane.polar else "center")
    axes.set_xlabel(_safe(plane.x_title))
    axes.set_ylabel(_safe(plane.y_title))
    axes.grid(True, color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    if "x" in plane.logarithmic:
        axes.set_xscale("log")
    if "y" in plane.logarithmic:
        axes.set_yscale("log")
    for limits, set_limits in ((plane.x_range, axes.set_xlim), (plane.y_range, axes.set_ylim)):
        if limits and limits[0] < limits[1]:
            set_limits(*limits)
    if named:
        # The words are set afterwards, because matplotlib leaves out those that begin with an underscore.
        # Its ground is nearly opaque, so that it can be read where it has to lie upon a curve.
        ground: dict[str, Any] = {"facecolor": "white", "framealpha": 0.85, "edgecolor": "none"}
        legend = axes.legend([drawn for drawn, _ in named], ["named"] * len(named), fontsize=8.5, **ground)
        for words, (_, label) in zip(legend.get_texts(), named, strict=True):
            words.set_text(label)


def _safe(words: str) -> str:
    """Keep matplotlib from reading a dollar sign as mathematics, and XML from meeting what it cannot hold."""
    return _printable(words).replace("$", r"\$")


def _printable(words: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in words)


def _as_drawing(written: str, description: str) -> Drawing:
    """Keep the <svg> element alone, sized in px, with our fonts and a description."""
    body = written[written.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)  # it would style the page
    body = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', body, count=2)
    body = re.sub(r"font-family: [^;\"]*", f"font-family: {FONTS}", body)
    body = body.replace("<svg", '<svg role="img" stroke-linejoin="round"', 1)
    end = body.index(">") + 1
    return Drawing(f"{body[:end]}<title>{escape(_printable(description))}</title>{body[end:]}")
