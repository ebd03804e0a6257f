"""A diagram of volumes: what flows through a network, drawn to scale from left to right, in rows where it is long.

It knows shapes, words, colours and how lines branch and join; it knows nothing of networks. Volumes are in cabinet
projection: channels to the right, height upwards, width backwards. Heights and widths share one scale, the square root
of the pixels; channels and the units of vectors go by their logarithm, for both span three orders of magnitude.

The layout is composed: each item is sketched about its own axis, the line that flows through it, and says how far it
reaches above and below; what holds several items puts their sketches side by side on one axis, or in lanes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

from striate.drawing.svg import (
    FAINT,
    INK,
    Drawing,
    document,
    group,
    line,
    mixed,
    number,
    polygon,
    text,
    text_width,
)

Kind = Literal["picture", "convolution", "pooling", "fully connected", "other"]

# Told apart by colour-blind eyes (after Okabe and Ito 2008) and, by their lightness, on a grey printer.
COLOURS: Mapping[Kind, str] = {
    "picture": "#dcdcdc",
    "convolution": "#79b4e2",
    "pooling": "#cf5a36",
    "fully connected": "#f3d84f",
    "other": "#ece3f2",
}

WORDS, NUMBERS, TITLES = 10.0, 9.0, 11.0  # px, sizes of text
LEADING = 11.5  # px from one line of text to the next
TALLEST, ENLARGED = 84.0, 10.0  # px: the largest side of all; the side of 1 pixel at most
OBLIQUE = (0.36, 0.24)  # how far to the right and upwards 1 px backwards goes
ARROW = 22.0  # px, the shortest
BUS = 12.0  # px from the point where lines part to the branches
LANE = 9.0  # px between branches
STRAIGHT = 0.05  # px: what is no further from the axis is on it
SIGN = 9.0  # px, the radius of a join
PADDING, MARGIN, GAP = 9.0, 24.0, 8.0
PILE = 3.5  # px from one sheet of a pile to the next
PAGE = 1600.0  # px, its width


@dataclass(frozen=True)
class Step:
    """A volume, or a vector, and the arrow that leads to it.

    Args:
        shape: (C, H, W), (C, L), or (K,) for a vector.
        kind: decides its colour.
        above, below: lines of words over and under the arrow.
        captions: lines under the volume, the first of them strong.
        certain: whether it is known that the arrow leads here from what is drawn before; dashed where not.
    """

    shape: tuple[int, ...]
    kind: Kind
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    certain: bool = True


@dataclass(frozen=True)
class Join:
    """Where branches meet: a sign in a circle (``concat`` is drawn), words over and under the line that leaves it."""

    sign: str
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fork:
    """Branches, from top to bottom; an empty one hands on what comes in. Without a join, the next one outside joins."""

    branches: tuple[tuple[Item, ...], ...]
    join: Join | None


@dataclass(frozen=True)
class Frame:
    """Items in a frame: a block, drawn once however often it is there.

    Args:
        lines: over the items, the first of them strong.
        times: how often.
    """

    items: tuple[Item, ...]
    lines: tuple[str, ...]
    times: int = 1


Item = Step | Fork | Frame


@dataclass(frozen=True)
class Stage:
    """Items under one bracket; no bracket where the name is empty."""

    items: tuple[Item, ...]
    name: str = ""

    @property
    def blocks(self) -> int:
        """How many framed blocks it stands for."""
        return sum(item.times for item in self.items if isinstance(item, Frame))


@dataclass(frozen=True)
class Diagram:
    """All that is drawn.

    Args:
        title, subtitle: over it.
        description: for who cannot see it.
        stages: from the picture to the last vector.
        notes: what the reader must know, in sentences.
        key: what words and abbreviations mean, in sentences.
    """

    title: str
    subtitle: str
    description: str
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sketch:
    """Something drawn about its axis, y = 0, from x = 0 to its width.

    Args:
        above, below: how far it reaches from its axis.
        tail: the x where the line to what follows begins; it is drawn where something follows.
        exits: the y of the lines that leave at the right, from the top.
    """

    width: float
    above: float
    below: float
    content: str
    tail: float
    exits: tuple[float, ...] = (0.0,)

    @property
    def going_on(self) -> str:
        """Draw the line to what follows."""
        return line([(self.tail, 0), (self.width, 0)]) if self.tail < self.width else ""


def draw_diagram(diagram: Diagram) -> Drawing:
    """Return a diagram as SVG; the same diagram is the same text."""
    steps = list(_steps(item for stage in diagram.stages for item in stage.items))
    scale = _Scale(max((max(step.shape[1:], default=1) for step in steps), default=1))
    units = [(index, scale.item(item)) for index, stage in enumerate(diagram.stages) for item in stage.items]
    framed = {index for index, stage in enumerate(diagram.stages) if stage.blocks}
    rows = _rows(units, framed)
    names = [stage.name for stage in diagram.stages]
    body = [_row(row, names, last=row is rows[-1]) for row in rows]
    width = max(row.width for row in body)
    heading = text(diagram.title, 0, 16, 17, anchor="start", bold=True)
    heading += text(diagram.subtitle, 0, 34, WORDS, anchor="start", colour=FAINT)
    width = max(
        [width, 340, text_width(diagram.title, 17, bold=True), text_width(diagram.subtitle, WORDS)]
    )  # a title is never cut
    content, height = _stacked(body, 52)
    legend, legend_height = _legend(
        {step.kind for step in steps}, any(len(s.shape) == 1 for s in steps), diagram.key, width
    )
    notes = _wrapped(diagram.notes, width, WORDS + 1)
    lines = [
        text(words, 0, height + 22 + 14 * i, WORDS + 1, anchor="start", bold=True) for i, words in enumerate(notes)
    ]
    height += 14 * len(notes) + (8 if notes else 0)
    inside = "\n".join([heading, content, *lines, group(legend, 0, height + 16, name="legend")])
    return document(
        group(inside, MARGIN, MARGIN, name="diagram"),
        width + 2 * MARGIN,
        height + 16 + legend_height + 2 * MARGIN,
        title=diagram.title,
        description=diagram.description,
    )


def _steps(items: Iterable[Item]) -> Iterable[Step]:
    for item in items:
        if isinstance(item, Step):
            yield item
        elif isinstance(item, Frame):
            yield from _steps(item.items)
        else:
            for branch in item.branches:
                yield from _steps(branch)


class _Scale:
    """Sketches items at one scale.

    Args:
        largest: side in pixels.
    """

    def __init__(self, largest: int) -> None:
        self._side = min(ENLARGED, TALLEST / math.sqrt(largest))

    def item(self, item: Item) -> _Sketch:
        if isinstance(item, Step):
            return self._step(item)
        return self._fork(item) if isinstance(item, Fork) else self._frame(item)

    def box(self, shape: tuple[int, ...]) -> tuple[float, float, float]:
        """Return the px of a shape to the right, upwards and backwards."""
        if len(shape) < 2:
            return 9.0, 7 * math.log2(1 + math.prod(shape)), 6.0
        height, width = (*shape[1:], 1)[:2] if len(shape) < 4 else shape[-2:]
        return 4 * math.log2(1 + shape[0]), self._side * math.sqrt(height), self._side * math.sqrt(width)

    def _step(self, step: Step) -> _Sketch:
        right, up, back = self.box(step.shape)
        dx, dy = OBLIQUE[0] * back, OBLIQUE[1] * back
        words = max([text_width(words, WORDS) for words in (*step.above, *step.below)], default=0)
        shaft = max(ARROW, words + 12) if step.kind != "picture" else 0
        sizes = [WORDS] + [NUMBERS] * len(step.captions)
        wide = GAP + max([right + dx] + [text_width(w, s) for w, s in zip(step.captions, sizes, strict=False)])
        left = shaft + (wide - right - dx) / 2
        top = -(up + dy) / 2
        parts = [line([(0, 0), (left, 0)], arrow=True, dashed=not step.certain)] if shaft else []
        parts += [_words(step.above, step.below, 0, shaft - 7)] if shaft else []
        parts.append(_volume(left, top, (right, up), (dx, dy), step.kind))
        middle = shaft + wide / 2
        for index, words_under in enumerate(step.captions):
            style = (WORDS, INK) if index == 0 else (NUMBERS, FAINT)
            parts.append(text(words_under, middle, -top + LEADING * (index + 1), style[0], colour=style[1]))
        below = max(-top + LEADING * len(step.captions) + 3, LEADING * len(step.below) + 6)
        above = max(-top, LEADING * len(step.above) + 6)
        tail = left + right + (dx if step.kind == "picture" else dx / 2)
        return _Sketch(shaft + wide, above, below, group("".join(parts), name="step"), tail)

    def items(self, items: Sequence[Item]) -> _Sketch:
        """Put items one after the other."""
        x, content = 0.0, ""
        exits: tuple[float, ...] = (0.0,)
        sketches = [self.item(item) for item in items]
        for sketch in sketches:
            content += group(sketch.content + sketch.going_on, x)
            x, exits = x + sketch.width, sketch.exits
        above = max((sketch.above for sketch in sketches), default=LANE / 2)
        below = max((sketch.below for sketch in sketches), default=LANE / 2)
        return _Sketch(x, above, below, content, x, exits)

    def _fork(self, fork: Fork) -> _Sketch:
        lanes = [self.items(branch) for branch in fork.branches]
        places = _lanes(lanes)
        inner = max(lane.width for lane in lanes)
        end = BUS + inner  # where the branches end
        parts, exits = [], []
        for y, lane in zip(places, lanes, strict=True):
            x = BUS + (inner - lane.width) / 2
            parts.append(line([(0, 0), (BUS / 2, 0), (BUS / 2, y), (x, y)] if y else [(0, 0), (x, 0)]))
            parts.append(group(lane.content, x, y))
            for way in lane.exits:
                parts.append(line([(x + lane.width, y + way), (end, y + way)]))
                exits.append(y + way if abs(y + way) > STRAIGHT else 0.0)
        above = max(lane.above - y for y, lane in zip(places, lanes, strict=True))
        below = max(lane.below + y for y, lane in zip(places, lanes, strict=True))
        if fork.join is None:
            return _Sketch(end, above, below, "".join(parts), end, tuple(exits))
        join = _join(fork.join, exits)
        parts.append(group(join.content, end))
        width = end + join.width
        return _Sketch(width, max(above, join.above), max(below, join.below), "".join(parts), width)

    def _frame(self, frame: Frame) -> _Sketch:
        inside = self.items(frame.items)
        heads = [text_width(w, TITLES if i == 0 else NUMBERS, bold=i == 0) for i, w in enumerate(frame.lines)]
        width = max([inside.width, *heads]) + 2 * PADDING
        head = 15 + LEADING * (len(frame.lines) - 1) + 5
        above, below = inside.above + head, inside.below + PADDING
        sheets = [
            f'<rect x="{number(ARROW + offset)}" y="{number(-above - offset)}" width="{number(width)}" '
            f'height="{number(above + below)}" rx="5" fill="#f6f6f4" stroke="#9a9a94" stroke-width="0.8"/>'
            for offset in ((2 * PILE, PILE, 0) if frame.times > 1 else (0,))  # a pile: it is there several times
        ]
        parts = [group("".join(sheets), name="frame")]
        for index, words in enumerate(frame.lines):
            size, colour = (TITLES, INK) if index == 0 else (NUMBERS, FAINT)
            y = -above + 14 + LEADING * index
            parts.append(text(words, ARROW + PADDING, y, size, anchor="start", colour=colour, bold=index == 0))
        left = ARROW + (width - inside.width) / 2
        parts.append(line([(0, 0), (ARROW, 0)], arrow=True) + line([(ARROW, 0), (left, 0)]))
        parts.append(group(inside.content, left))
        parts.append(line([(left + inside.width, 0), (ARROW + width, 0)]))
        extra = 2 * PILE if frame.times > 1 else 0
        return _Sketch(ARROW + width + extra + 2, above + extra, below, "".join(parts), ARROW + width)


def _lanes(lanes: Sequence[_Sketch]) -> list[float]:
    """Return the y of each lane: one long lane, or the longer of two, stays on the axis; more are centred on it."""
    places, y = [], 0.0
    for before, lane in pairwise([None, *lanes]):
        y += (before.below + LANE if before else 0) + (lane.above if lane else 0)
        places.append(y)
    widths = [lane.width for lane in lanes]
    filled = [index for index, width in enumerate(widths) if width]
    one_rules = len(lanes) == 2 or len(filled) == 1
    centre = places[widths.index(max(widths))] if one_rules else (places[0] + places[-1]) / 2
    return [place - centre for place in places]


def _join(join: Join, exits: Sequence[float]) -> _Sketch:
    """A circle where lines meet, and the line that leaves it with its words."""
    x = BUS + SIGN
    ends = {min(exits), max(exits)} - {0.0}
    parts = [line([(0, y), (x, y), (x, math.copysign(SIGN + 1, y))], arrow=True) for y in sorted(ends)]
    parts += [line([(0, y), (x, y)]) for y in exits if y and y not in ends]
    if 0.0 in exits:
        parts.append(line([(0, 0), (x - SIGN - 1, 0)], arrow=True))
    sign = join.sign if join.sign != "concat" else ""
    parts.append(f'<circle class="join" cx="{number(x)}" cy="0" r="{number(SIGN)}" fill="#ffffff" stroke="{INK}"/>')
    if sign:
        parts.append(text(sign, x, 4.5, 13, bold=True))
    else:
        parts += [line([(x - 4 + 4 * i, -4), (x - 4 + 4 * i, 4)]) for i in range(3)]
    words = max([text_width(words, WORDS) for words in (*join.above, *join.below)], default=0)
    width = x + SIGN + max(words + 8, 10)
    parts.append(_words(join.above, join.below, x + SIGN, width))
    parts.append(line([(x + SIGN, 0), (width, 0)]))
    above = max(SIGN + 2, LEADING * len(join.above) + 6)
    return _Sketch(width, above, max(SIGN + 2, LEADING * len(join.below) + 6), "".join(parts), width)


def _words(above: Sequence[str], below: Sequence[str], left: float, right: float) -> str:
    """Lines of words over and under a line."""
    middle = (left + right) / 2
    rows = [text(words, middle, -5 - LEADING * (len(above) - 1 - i), WORDS) for i, words in enumerate(above)]
    rows += [text(words, middle, 12 + LEADING * i, WORDS, colour=FAINT) for i, words in enumerate(below)]
    return "".join(rows)


def _volume(x: float, top: float, front: tuple[float, float], back: tuple[float, float], kind: Kind) -> str:
    """A box: its front at the lower left, its back shifted by ``back`` to the right and upwards."""
    (right, up), (dx, dy) = front, back
    colour = COLOURS[kind]
    y, bottom, edge = top + dy, top + dy + up, x + right
    faces = polygon([(x, y), (x + dx, top), (edge + dx, top), (edge, y)], mixed(colour, "#ffffff", 0.45))
    faces += polygon([(edge, y), (edge + dx, top), (edge + dx, bottom - dy), (edge, bottom)], _shade(colour))
    faces += polygon([(x, y), (edge, y), (edge, bottom), (x, bottom)], colour)
    if kind == "picture":
        faces += _landscape(edge, y, dx, dy, up)
    return group(faces, name="volume")


def _shade(colour: str) -> str:
    return mixed(colour, "#000000", 0.16)


def _landscape(x: float, y: float, dx: float, dy: float, up: float) -> str:
    """Hills under a sun on the side of the box that faces the reader: it stands for a photograph."""

    def at(across: float, down: float) -> tuple[float, float]:
        return x + across * dx, y - across * dy + down * up

    outline = [(0.0, 0.95), (0.0, 0.7), (0.3, 0.45), (0.5, 0.65), (0.75, 0.35), (1.0, 0.6), (1.0, 0.95)]
    sun = [at(0.28 + 0.13 * math.cos(a / 8 * math.tau), 0.22 + 0.1 * math.sin(a / 8 * math.tau)) for a in range(8)]
    face = polygon([at(0, 0), at(1, 0), at(1, 1), at(0, 1)], "#f4f8fb")
    return face + polygon([at(*p) for p in outline], "#8a9a8a", stroke="none") + polygon(sun, "#e0a020", stroke="none")


def _rows(units: list[tuple[int, _Sketch]], together: set[int]) -> list[list[tuple[int, _Sketch]]]:
    """Break units into as few rows as fit the page, the widest of them as narrow as possible.

    Args:
        units: each with the number of its stage.
        together: the stages that are not broken where they fit.
    """
    pieces: list[list[tuple[int, _Sketch]]] = []
    for stage, held in groupby(units, key=lambda pair: pair[0]):
        whole = list(held)
        fits = stage in together and sum(unit.width for _, unit in whole) <= PAGE
        pieces += [whole] if fits else [[pair] for pair in whole]
    widths = [sum(unit.width for _, unit in piece) for piece in pieces]
    low = max(widths)
    high = max(low, PAGE)
    count = len(_greedy(widths, high))
    while high - low > 1:
        middle = (low + high) / 2
        low, high = (low, middle) if len(_greedy(widths, middle)) <= count else (middle, high)
    return [[pair for piece in pieces[first:last] for pair in piece] for first, last in _greedy(widths, high)]


def _greedy(widths: Sequence[float], most: float) -> list[tuple[int, int]]:
    ends, first, total = [], 0, 0.0
    for index, width in enumerate(widths):
        if index > first and total + width > most:
            ends.append((first, index))
            first, total = index, 0.0
        total += width
    return [*ends, (first, len(widths))]


def _row(row: list[tuple[int, _Sketch]], names: Sequence[str], *, last: bool) -> _Sketch:
    """Units side by side under the brackets of their stages.

    Args:
        last: whether nothing follows.
    """
    x, content = 0.0, []
    top = -max(unit.above for _, unit in row) - 14
    for stage, units in groupby(row, key=lambda pair: pair[0]):
        left, words = x, names[stage]
        for _, unit in units:
            ends = last and unit is row[-1][1]
            content.append(group(unit.content + ("" if ends else unit.going_on), x))
            x += unit.width
        if words:
            right = max(x - 5, left + 5 + text_width(words, TITLES, bold=True))  # a name is never cut
            if right + 5 > x and not (last and stage == row[-1][0]):
                content.append(line([(x, 0), (right + 5, 0)]))
            x = max(x, right + 5)
            content.append(line([(left + 5, top + 6), (left + 5, top), (right, top), (right, top + 6)], colour=FAINT))
            content.append(text(words, (left + 5 + right) / 2, top - 5, TITLES, bold=True))
    above = -top + 18 if any(names[stage] for stage, _ in row) else -top - 10
    return _Sketch(x, above, max(unit.below for _, unit in row), "".join(content), x)


def _stacked(rows: Sequence[_Sketch], y: float) -> tuple[str, float]:
    """Put rows under each other, joined by lines from the end of one to the beginning of the next."""
    content, end = [], None
    for row in rows:
        axis = y + row.above
        if end is not None:
            x, before = end
            between = y - 9
            path = [(x, before), (x + 10, before), (x + 10, between), (-12, between), (-12, axis), (0, axis)]
            content.append(line(path, colour=FAINT))
        content.append(group(row.content, 0, axis, name="row"))
        end = (row.width, axis)
        y = axis + row.below + 26
    return "\n".join(content), y - 26


def _legend(kinds: set[Kind], vectors: bool, key: Sequence[str], width: float) -> tuple[str, float]:
    """Return the key to colours and scales, and its height."""
    parts, x, y = [], 0.0, 10.0
    for kind, colour in COLOURS.items():
        if kind not in kinds:
            continue
        wide = 20 + text_width(kind, WORDS) + 14
        if x and x + wide > width:
            x, y = 0.0, y + 16
        parts.append(polygon([(x, y - 9), (x + 14, y - 9), (x + 14, y + 1), (x, y + 1)], colour))
        parts.append(text(kind, x + 20, y, WORDS, anchor="start"))
        x += wide
    sentences = "Boxes are channels × height × width: height and width ∝ √pixels, channels ∝ log₂(1 + channels)."
    if vectors:
        sentences += " Bars are vectors: height ∝ log₂(1 + units)."
    for words in _wrapped([" ".join([sentences, *key])], width, NUMBERS + 0.5):
        y += 15
        parts.append(text(words, 0, y, NUMBERS + 0.5, anchor="start", colour=FAINT))
    return "".join(parts), y


def _wrapped(sentences: Iterable[str], width: float, size: float) -> list[str]:
    """Break sentences into lines that fit."""
    lines: list[str] = []
    for sentence in sentences:
        current = ""
        for word in sentence.split():
            longer = f"{current} {word}".strip()
            if current and text_width(longer, size, bold=True) > width:
                lines.append(current)
                longer = word
            current = longer
        lines.append(current)
    return lines
