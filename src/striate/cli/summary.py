"""``striate summary``: the layers of a network."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from torch import nn

from striate.cli.models import paper_spec
from striate.cli.output import Json, print_json, print_table, print_warnings, say
from striate.core.errors import NetworkError
from striate.core.spec import InputSpec, Spec, TaskSpec
from striate.networks import saved
from striate.networks.build import build_on_meta, read_model
from striate.networks.summary import summary as summarise
from striate.networks.zoo import ZOO

LARGEST = 65_535
TEXT_INPUT, TEXT_CLASSES = "1x28x28", 10  # what a text is laid out for when nobody says


def summary(model: str, /, *, input: str | None = None, classes: int | None = None, json: Json = False) -> int:
    """List the layers of a network: shapes and parameters.

    Example: `striate summary lenet5`, or `striate summary "conv 8@3x3 relu | gap | fc 10" --input 3x64x64`

    JSON keys: parameters, trainable, layers (name, kind, output, parameters), findings.

    Args:
        model: A zoo name, a network text, a .txt file that holds one, a run's folder or a saved network.
        input: Channels x height x width of the pictures. Default: what the network's paper used; 1x28x28 for a text.
        classes: How many. Default: what the network's paper used.
    """
    network, spec = _network(model, input, classes)
    result = summarise(network, spec)
    findings = getattr(network, "findings", ())
    if json:
        print_json(
            {
                "parameters": result.parameters,
                "trainable": result.trainable,
                "layers": [dataclasses.asdict(row) for row in result.rows],
                "findings": [dataclasses.asdict(one) for one in findings],
            }
        )
        return 0
    rows = [[row.name, row.kind, "×".join(map(str, row.output)), f"{row.parameters:,}"] for row in result.rows]
    print_table(["layer", "kind", "output", "parameters"], rows, numbers=["output", "parameters"])
    say(f"{result.parameters:,} parameters, {result.trainable:,} of them trainable")
    print_warnings(network)
    return 0


def _network(model: str, input_words: str | None, classes: int | None) -> tuple[nn.Module, Spec]:
    if Path(model).is_dir() or model.endswith(".safetensors"):
        if input_words or classes:
            raise NetworkError("A saved network has its own input and classes: leave --input and --classes out.")
        loaded = saved.load(model)
        return loaded.network, loaded.spec
    blueprint = read_model(model)
    entry = ZOO.get(blueprint.name) if blueprint.kind == "zoo" else None
    if input_words is None and classes is None and entry is not None:
        spec = paper_spec(entry)
    else:
        default = "x".join(map(str, entry.shape)) if entry else TEXT_INPUT
        usual = entry.classes if entry else TEXT_CLASSES
        spec = _spec(input_words or default, usual if classes is None else classes)
    return build_on_meta(model, spec), spec


def _spec(words: str, classes: int) -> Spec:
    match = re.fullmatch(r"(\d+)[x×](\d+)[x×](\d+)", words)
    sizes = [int(number) for number in match.groups()] if match else []
    if not sizes or not all(1 <= size <= LARGEST for size in sizes):
        raise NetworkError(f"--input must be channels x height x width, such as 3x224x224, got {words!r}.")
    if not 1 <= classes <= LARGEST:
        raise NetworkError(f"--classes must be from 1 to {LARGEST:,}, got {classes}.")
    channels, height, width = sizes
    pictures = InputSpec(channels=channels, height=height, width=width, mean=(0.0,) * channels, std=(1.0,) * channels)
    return Spec(input=pictures, task=TaskSpec(class_names=tuple(str(number) for number in range(classes))))
