"""Reads an SVG drawing back: where its boxes, signs, frames and words are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from striate.drawing.svg import text_width

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Mark:
    """Something in the drawing: ``volume``, ``join``, ``frame`` or ``text``, and the rectangle that it takes."""

    kind: str
    words: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Mark) -> bool:
        return (
            self.left < other.right - 0.2
            and other.left < self.right - 0.2
            and self.top < other.bottom - 0.2
            and other.top < self.bottom - 0.2
        )

    def holds(self, other: Mark) -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )


def marks(drawing: str) -> list[Mark]:
    """Return all marks of a drawing, which must be well-formed."""
    return list(_walk(ElementTree.fromstring(drawing), 0.0, 0.0))


def overlaps(found: list[Mark]) -> list[tuple[Mark, Mark]]:
    """Return the pairs of boxes, signs and words that overlap, and the frames that cross each other."""
    solid = [mark for mark in found if mark.kind != "frame"]
    frames = [mark for mark in found if mark.kind == "frame"]
    bad = [(a, b) for i, a in enumerate(solid) for b in solid[i + 1 :] if a.meets(b)]
    crossing = [(a, b) for i, a in enumerate(frames) for b in frames[i + 1 :] if a.meets(b)]
    return bad + [(a, b) for a, b in crossing if not a.holds(b) and not b.holds(a)]


def size(drawing: str) -> tuple[float, float]:
    root = ElementTree.fromstring(drawing)
    return float(root.attrib["width"]), float(root.attrib["height"])


def _walk(element: ElementTree.Element, x: float, y: float) -> Iterator[Mark]:
    move = re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", ""))
    if move:
        x, y = x + float(move[1]), y + float(move[2])
    name = element.get("class", "")
    if element.tag == f"{SVG}text":
        yield _text(element, x, y)
    elif name == "join":
        radius, cx, cy = (float(element.attrib[key]) for key in ("r", "cx", "cy"))
        yield Mark("join", "", x + cx - radius, y + cy - radius, x + cx + radius, y + cy + radius)
    elif name == "volume":
        points = [tuple(map(float, pair.split(","))) for one in element for pair in one.attrib["points"].split()]
        xs, ys = [x + point[0] for point in points], [y + point[1] for point in points]
        yield Mark("volume", "", min(xs), min(ys), max(xs), max(ys))
    elif name == "frame":
        boxes = [[float(one.attrib[key]) for key in ("x", "y", "width", "height")] for one in element]
        left, top = x + min(box[0] for box in boxes), y + min(box[1] for box in boxes)
        right, bottom = x + max(b[0] + b[2] for b in boxes), y + max(b[1] + b[3] for b in boxes)
        yield Mark("frame", "", left, top, right, bottom)
    else:
        for child in element:
            yield from _walk(child, x, y)


def _text(element: ElementTree.Element, x: float, y: float) -> Mark:
    words = element.text or ""
    high = float(element.attrib["font-size"])
    wide = text_width(words, high, bold=element.get("font-weight") == "bold")
    at = (
        x + float(element.attrib["x"]) - {"start": 0.0, "middle": 0.5, "end": 1.0}[element.attrib["text-anchor"]] * wide
    )
    base = y + float(element.attrib["y"])
    # A sign of a join is inside its circle, which stands for both.
    return Mark("text", words, at, base - 0.78 * high, at + wide, base + 0.2 * high)
