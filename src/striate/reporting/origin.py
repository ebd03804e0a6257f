"""The sections on where a network comes from: its layers, what was found, its recipe and how to repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from striate.core import machine
from striate.core.errors import FileError
from striate.core.finding import Finding
from striate.drawing.page import Code, Content, Details, Figure, Findings, Paragraph, Row, Table
from striate.networks.advice import advise
from striate.networks.build import Blueprint
from striate.networks.picture import draw
from striate.networks.summary import Summary, summary
from striate.reporting.material import Material
from striate.training.recipe import Recipe
from striate.training.run import RECIPE_FILE

FINDINGS_FILES = ("findings.json", "audit.json")


def network(material: Material) -> Sequence[Content]:
    """The diagram, the layers, and advice."""
    layers = summary(material.network, material.spec)
    advice = advise(material.network, material.spec, geometry=layers.geometry)
    drawing = draw(material.network, material.spec)
    return [
        Paragraph(
            f"{layers.parameters:,} parameters, {layers.multiply_adds:,} multiply-adds and "
            f"{machine.in_words(layers.activation_bytes)} of activations for one picture."
        ),
        Figure(drawing, f"The network {material.header.blueprint.short_name}: its layers from left to right."),
        *([Findings(advice)] if advice else []),
        Details(f"All {len(layers.rows)} layers", [_layer_table(layers)]),
        *(Paragraph(note, faint=True) for note in layers.notes),
    ]


def _layer_table(layers: Summary) -> Table:
    numbers = ["output", "sees", "parameters", "multiply-adds"]
    return Table(["layer", "kind", *numbers], [row.in_words for row in layers.rows], numbers)


def findings(material: Material) -> Sequence[Content]:
    """What the audit of the pictures and the doctor of training found; nothing where neither was asked."""
    found = [one for name in FINDINGS_FILES for one in _read_findings(material, name)]
    return [Findings(found)] if found else []


def _read_findings(material: Material, name: str) -> list[Finding]:
    path = material.folder / name
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [Finding(**one) for one in (content["findings"] if isinstance(content, dict) else content)]
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"{path} must hold a list of findings, got something else ({error}). Delete it.") from error


def recipe(material: Material) -> Sequence[Content]:
    """Every hyper-parameter, and the command that trains this network again."""
    chosen, usual = material.header.recipe, Recipe().model_dump(mode="json")
    changed = {name: value for name, value in chosen.items() if usual.get(name) != value}
    rest = {name: value for name, value in chosen.items() if name not in changed}
    others = [Details(f"The other {len(rest)} fields of the recipe", [Table(["field", "value"], _rows(rest))])]
    data, versions = material.header.data, material.header.versions
    facts: list[Row] = [
        ["pictures", data.get("name", "unknown")],
        ["fingerprint of train and val", data.get("fingerprint", "unknown")],
        ["seed", str(chosen.get("seed", "unknown"))],
        *([name, version] for name, version in versions.items()),
        *([["licence of the weights", material.header.licence]] if material.header.licence else []),
    ]
    return [
        *_again(material),
        Table(["what", "which"], facts, caption="What it was made from"),
        Table(["field", "value"], _rows(changed), caption="The recipe, where it differs from the general one"),
        *(others if rest else []),
    ]


def _rows(fields: Mapping[str, Any]) -> list[Row]:
    return [[name.replace("_", " "), str(value)] for name, value in fields.items()]


def _again(material: Material) -> list[Content]:
    """Return how to train it again."""
    source = material.trained.data.source if material.trained else None
    words = _command(material.header.blueprint, source, str(material.folder / RECIPE_FILE)) if source else None
    if words is None:
        return [Paragraph("No command line repeats this run: its pictures or its network were made in Python.")]
    return [
        Paragraph("The same weights, bit for bit, on a machine, with versions and threads like those below:"),
        Code(words),
    ]


def _command(blueprint: Blueprint, source: Mapping[str, Any], recipe_file: str) -> str | None:
    """Return the command line; None where none can say what the pictures or the network are."""
    size, like = source.get("size"), source.get("like")
    if blueprint.kind == "foreign" or source.get("class_names") or source.get("resize"):
        return None
    if isinstance(size, Sequence) and len(set(size)) > 1:
        return None
    side = like["height"] if like else size[0] if isinstance(size, Sequence) else size
    words = ["striate", "train", str(source["data"])]
    words += ["--data-dir", source["data_dir"]] if source.get("data_dir") else []
    words += ["--group-by", source["group_by"]] if source.get("group_by") else []
    words += ["--skip-unreadable"] if source.get("skip_unreadable") else []
    words += ["--model", blueprint.call]
    words += ["--pretrained"] if like else []
    words += ["--size", str(side)] if side else []
    channels = like["channels"] if like else source.get("channels")
    words += ["--channels", str(channels)] if channels else []
    return shlex.join([*words, "--config", recipe_file])
