"""``striate models``: the zoo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from striate.cli.output import Json, print_json, print_table, say
from striate.core.errors import NetworkError
from striate.drawing.plot import Point, plot_points
from striate.networks.facts import Facts, read_facts
from striate.networks.pretrained import SOURCES, Pretrained, default_pretrained
from striate.networks.summary import in_words
from striate.networks.zoo import ZOO, ZooEntry

IMAGENET = "ImageNet-1k"

Column = Literal["name", "year", "parameters", "multiply_adds", "field", "top1"]


@dataclass(frozen=True)
class Row:
    """A network with what is known of it; ``weights`` are the default ones, None where nobody publishes any."""

    name: str
    entry: ZooEntry
    facts: Facts
    weights: Pretrained | None


_ORDER: dict[str, Callable[[Row], Any]] = {
    "name": lambda row: row.name,
    "year": lambda row: row.entry.year,
    "parameters": lambda row: row.facts.parameters,
    "multiply_adds": lambda row: row.facts.multiply_adds,
    "field": lambda row: row.facts.field,
    "top1": lambda row: row.weights.top1 if row.weights else -1.0,
}


def models(
    words: str = "",
    /,
    *,
    sort: Column = "year",
    pretrained: bool = False,
    plot: Path | None = None,
    json: Json = False,
) -> int:
    """List the networks of the zoo.

    Example: `striate models resnet --sort multiply_adds`, or `striate models --plot accuracy.svg`

    JSON keys: models, each with name, year, title, parameters, auxiliary (parameters of auxiliary heads),
    multiply_adds, field (pixels, height and width, that a unit of the last feature map sees), input, classes, paper,
    weights (name, library, licence, data, top1; null where there are none).

    Args:
        words: Only networks whose name, title or paper holds these words.
        sort: The column to sort by; accuracy from the best, everything else from the smallest.
        pretrained: Only networks with published weights.
        plot: A .svg file to draw: the published accuracy on ImageNet against multiply-adds.
    """
    rows = [row for row in _rows() if _matches(row, words) and (row.weights or not pretrained)]
    if not rows:
        raise NetworkError(f"No network of the zoo is like {words!r}. `striate models` lists all.")
    rows.sort(key=_ORDER[sort], reverse=sort == "top1")
    if plot:
        _plot(rows, plot)
    if json:
        print_json({"models": [_as_json(row) for row in rows]})
        return 0
    numbers = ["parameters", "multiply-adds", "sees", "top-1"]
    print_table(["name", "year", *numbers, "at", "weights, licence"], map(_words, rows), numbers=numbers)
    return 0


def _rows() -> list[Row]:
    facts, published = read_facts(), {source.network for source in SOURCES}
    return [
        Row(name, ZOO.get(name), facts[name], default_pretrained(name) if name in published else None) for name in ZOO
    ]


def _matches(row: Row, words: str) -> bool:
    text = f"{row.name} {row.entry.title} {row.entry.paper}".lower()
    return all(word in text for word in words.lower().split())


def _plot(rows: list[Row], path: Path) -> None:
    """Draw the networks with weights of ImageNet.

    Raises:
        NetworkError: there are none among these.
        FileError: the file cannot be written.
    """
    points = [
        Point(row.facts.multiply_adds / 1e9, 100 * row.weights.top1, row.name, family=_family(row))
        for row in rows
        if row.weights and row.weights.data == IMAGENET
    ]
    if not points:
        raise NetworkError("None of these networks has published weights of ImageNet, so there is nothing to plot.")
    drawing = plot_points(
        points,
        title="Accuracy against cost",
        x_title="multiply-adds for one picture, 10⁹",
        y_title="top-1 accuracy on ImageNet, %",
        notes=["As published with each network's weights (one centre crop); recipes and picture sizes differ."],
    )
    drawing.write(path)
    say(f"drawn     {path}", json_wanted=True)


def _family(row: Row) -> str:
    """The file of the zoo that it is in."""
    return row.entry.factory.__module__.rpartition(".")[2]


def _words(row: Row) -> list[str]:
    entry, facts, weights = row.entry, row.facts, row.weights
    return [
        row.name,
        str(entry.year),
        f"{facts.parameters:,}",
        f"{facts.multiply_adds:,}",
        in_words(facts.field),
        f"{weights.top1:.2%}" if weights else "",
        in_words(entry.shape),
        f"{weights.library}, {weights.licence}" if weights else "",
    ]


def _as_json(row: Row) -> dict[str, object]:
    weights = row.weights
    return {
        "name": row.name,
        "year": row.entry.year,
        "title": row.entry.title,
        "parameters": row.facts.parameters,
        "auxiliary": row.facts.auxiliary,
        "multiply_adds": row.facts.multiply_adds,
        "field": list(row.facts.field),
        "input": list(row.entry.shape),
        "classes": row.entry.classes,
        "paper": row.entry.paper,
        "weights": weights
        and {
            "name": weights.name,
            "library": weights.library,
            "licence": weights.licence,
            "data": weights.data,
            "top1": weights.top1,
        },
    }
