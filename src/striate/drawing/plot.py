"""Points in a plane: what networks reach against what they cost. Every point is labelled, and no label hides another.

Labels are set one after the other beside their points, where the least is in the way; what finds no place beside its
point gets a line to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from striate.drawing.svg import FAINT, INK, Drawing, document, group, line, number, text, text_width

WIDTH, HEIGHT = 860.0, 560.0  # px of the plane
LEFT, TOP, RIGHT, BOTTOM = 58.0, 48.0, 26.0, 62.0
LABELS, TITLE = 9.5, 16.0  # px, sizes of text
RADIUS = 4.0
HEAD = 30.0  # px, under the title
AIR = 2.0  # px between two labels
COLOURS = ("#3b7fb8", "#cf5a36", "#2a9d75", "#8d5fa8", "#b8930a", "#444444", "#c4588f", "#5aa9c9")


@dataclass(frozen=True)
class Point:
    """One point.

    Args:
        x: above 0; drawn on a logarithmic axis.
        label: beside it.
        family: points of one family share a colour and a mark.
    """

    x: float
    y: float
    label: str
    family: str = ""


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def plot_points(
    points: Sequence[Point], *, title: str, x_title: str, y_title: str, notes: Sequence[str] = ()
) -> Drawing:
    """Draw labelled points, x on a logarithmic axis, as SVG; the same points give the same text.

    Args:
        points: at least one; those of equal x and y are told apart by their labels alone.
        title, x_title, y_title: with units.
        notes: lines under the plot.

    Raises:
        ValueError: there is no point, an x is not above 0, or there are more labels than there is place for.
    """
    if not points or min(point.x for point in points) <= 0:
        raise ValueError("A plot needs at least one point, and every x above 0.")
    axes = _Axes(points)
    families = sorted({point.family for point in points})
    colour_of = {family: COLOURS[index % len(COLOURS)] for index, family in enumerate(families)}
    places = [axes.at(point) for point in points]
    parts = [axes.grid(), text(title, LEFT, 22, TITLE, anchor="start", bold=True)]
    parts.append(text(x_title, LEFT + WIDTH / 2, TOP + HEIGHT + 38, 11))
    turned = text(y_title, 0, 0, 11)
    parts.append(f'<g transform="translate(16 {number(TOP + HEIGHT / 2)}) rotate(-90)">{turned}</g>')
    for point, (x, y) in zip(points, places, strict=True):
        parts.append(_mark(x, y, colour_of[point.family], families.index(point.family)))
    parts += _labels(points, places, colour_of)
    for index, note in enumerate(notes):
        parts.append(text(note, LEFT, TOP + HEIGHT + 58 + 13 * index, LABELS, anchor="start", colour=FAINT))
    widest = max((LEFT + text_width(note, LABELS) + 10 for note in notes), default=0)
    return document(
        group("\n".join(parts), name="plot"),
        max(LEFT + WIDTH + RIGHT, widest),
        TOP + HEIGHT + BOTTOM + 13 * len(notes),
        title=title,
        description=f"{y_title} against {x_title}: " + "; ".join(f"{p.label} {p.x:g}, {p.y:g}" for p in points),
    )


class _Axes:
    """Where values are on the plane."""

    def __init__(self, points: Sequence[Point]) -> None:
        xs, ys = [math.log10(point.x) for point in points], [point.y for point in points]
        air = 0.08 * (max(ys) - min(ys)) or 1.0
        self._x = (min(xs) - 0.12, max(xs) + 0.12)
        self._y = (min(ys) - air, max(ys) + air)

    def at(self, point: Point) -> tuple[float, float]:
        return self._across(math.log10(point.x)), self._down(point.y)

    def grid(self) -> str:
        """Lines and numbers at 1, 2 and 5 of each power of ten, and at round values upwards."""
        parts = []
        for power in range(math.floor(self._x[0]), math.ceil(self._x[1]) + 1):
            for digit in (1, 2, 5):
                value = digit * 10.0**power
                if self._x[0] <= math.log10(value) <= self._x[1]:
                    x = self._across(math.log10(value))
                    parts.append(line([(x, TOP), (x, TOP + HEIGHT)], colour="#e4e4e4"))
                    parts.append(text(f"{value:g}", x, TOP + HEIGHT + 16, 10))
        for value in _round_values(*self._y):
            y = self._down(value)
            parts.append(line([(LEFT, y), (LEFT + WIDTH, y)], colour="#e4e4e4"))
            parts.append(text(f"{value:g}", LEFT - 7, y + 3.5, 10, anchor="end"))
        frame = [(LEFT, TOP), (LEFT, TOP + HEIGHT), (LEFT + WIDTH, TOP + HEIGHT)]
        return "".join(parts) + line(frame)

    def _across(self, x: float) -> float:
        return LEFT + WIDTH * (x - self._x[0]) / (self._x[1] - self._x[0])

    def _down(self, y: float) -> float:
        return TOP + HEIGHT * (self._y[1] - y) / (self._y[1] - self._y[0])


def _round_values(low: float, high: float) -> list[float]:
    """Return 4 to 10 round values between two."""
    step = 10.0 ** math.floor(math.log10((high - low) / 10))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= 10:
            step *= factor
            break
    first = math.ceil(low / step)
    return [round(step * index, 10) for index in range(first, math.floor(high / step) + 1)]


def _mark(x: float, y: float, colour: str, family: int) -> str:
    """A circle, a square or a rhombus, so that families differ on a grey printer too."""
    if family % 3 == 0:
        shape = f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(RADIUS)}"'
    else:
        turn = f' transform="rotate(45 {number(x)} {number(y)})"' if family % 3 == 2 else ""
        side = number(2 * RADIUS - 1)
        shape = (
            f'<rect x="{number(x - RADIUS + 0.5)}" y="{number(y - RADIUS + 0.5)}" width="{side}" height="{side}"{turn}'
        )
    return f'{shape} fill="{colour}" stroke="#ffffff" stroke-width="0.8"/>'


def _labels(points: Sequence[Point], places: Sequence[tuple[float, float]], colour_of: dict[str, str]) -> list[str]:
    taken = [_Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in places]
    parts = []
    for index in sorted(range(len(points)), key=lambda i: (-places[i][1], places[i][0])):
        (x, y), words = places[index], points[index].label
        free = (box for box in _candidates(x, y, text_width(words, LABELS)) if not any(map(box.meets, taken)))
        box = next(free, None)
        if box is None:
            raise ValueError(f"A plot must have a place for every label, got {len(points)} points. Plot fewer.")
        taken.append(box)
        near = _nearest(box, x, y)
        if math.hypot(near[0] - x, near[1] - y) > 3 * RADIUS:
            parts.append(line([(x, y), near], colour="#b0b0b0"))
        parts.append(text(words, box.left + AIR, box.bottom - 3.5, LABELS, anchor="start", colour=INK))
    return parts


def _candidates(x: float, y: float, width: float) -> Iterable[_Box]:
    """Yield places for a label, the nearest first: right, left, over, under, then further out; all on the plane."""
    high, wide, gap = LABELS + 4, width + 2 * AIR, RADIUS + 1
    for out in range(400):
        shift = out * 6.0
        sides = [
            (x + gap, y - high / 2 - shift), (x - gap - wide, y - high / 2 - shift),
            (x + gap, y - high / 2 + shift), (x - gap - wide, y - high / 2 + shift),
            (x - wide / 2, y - gap - high - shift), (x - wide / 2, y + gap + shift),
            (x + gap + shift, y - high / 2), (x - gap - wide - shift, y - high / 2),
        ]  # fmt: skip
        for left, top in sides:
            if left >= LEFT and left + wide <= LEFT + WIDTH and top >= HEAD and top + high <= TOP + HEIGHT:
                yield _Box(left, top, left + wide, top + high)


def _nearest(box: _Box, x: float, y: float) -> tuple[float, float]:
    return min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
