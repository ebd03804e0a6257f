"""``striate summary``: the layers of a network."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from striate.cli.network import read_network
from striate.cli.output import Json, print_findings, print_json, print_table, print_warnings, say
from striate.core import machine
from striate.networks.advice import advise
from striate.networks.geometry import ReceptiveField
from striate.networks.summary import LayerRow, Summary
from striate.networks.summary import summary as summarise


def summary(model: str, /, *, input: str | None = None, classes: int | None = None, json: Json = False) -> int:
    """List the layers of a network: shapes, receptive fields, parameters, multiply-adds, memory; and advice.

    Example: `striate summary lenet5`, or `striate summary "conv 8@3x3 relu | gap | fc 10" --input 3x64x64`, or
    `striate summary torchvision.models:resnet18`

    JSON keys: parameters, trainable, auxiliary (parameters of auxiliary heads), multiply_adds, activation_bytes,
    layers (name, kind, output, parameters, multiply_adds, activation_bytes, field (size, jump, offset, regular; null
    where unknown), sharing (weights, connections, fully_connected; null but for convolutions)), notes (what is not
    known), findings (code, severity, where, message, numbers, fix)).

    Args:
        model: A zoo name, a network text, a .txt file that holds one, a run's folder, a saved network, or
            module:factory for a network of your own.
        input: Channels x height x width of the pictures. Default: what the network's paper used; 1x28x28 for a text,
            3x224x224 for module:factory.
        classes: How many. Default: what the network's paper used.
    """
    network, spec = read_network(model, input, classes)
    result = summarise(network, spec)
    written = getattr(network, "findings", ())  # in a text, where carets can show them
    known = {finding.code for finding in written}
    advice = [one for one in advise(network, spec, geometry=result.geometry) if one.code not in known]
    if json:
        print_json(_as_json(result) | {"findings": [asdict(one) for one in (*written, *advice)]})
        return 0
    numbers = ["output", "sees", "parameters", "multiply-adds", "memory"]
    print_table(["layer", "kind", *numbers], map(_row, result.rows), numbers=numbers)
    say(_totals(result))
    for note in result.notes:
        say(f"note: {note}", json_wanted=True)
    print_warnings(network)
    print_findings(advice)
    return 0


def _row(row: LayerRow) -> list[str]:
    return [*row.in_words, machine.in_words(row.activation_bytes)]


def _totals(result: Summary) -> str:
    heads = f", {result.auxiliary:,} in auxiliary heads" if result.auxiliary else ""
    words = [
        f"{result.parameters:,} parameters, {result.trainable:,} of them trainable{heads}",
        f"{result.multiply_adds:,} multiply-adds and {machine.in_words(result.activation_bytes)} of activations "
        "for one picture",
    ]
    shared = [row.sharing for row in result.rows if row.sharing]
    if shared:
        used, without = sum(one.weights for one in shared), sum(one.fully_connected for one in shared)
        words.append(
            f"convolutions: {used:,} shared weights serve {sum(one.connections for one in shared):,} connections; "
            f"fully connected layers between the same maps would need {without:,}"
        )
    return "\n".join(words)


def _as_json(result: Summary) -> dict[str, Any]:
    return {
        "parameters": result.parameters,
        "trainable": result.trainable,
        "auxiliary": result.auxiliary,
        "multiply_adds": result.multiply_adds,
        "activation_bytes": result.activation_bytes,
        "layers": [_row_as_json(row) for row in result.rows],
        "notes": list(result.notes),
    }


def _row_as_json(row: LayerRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.kind,
        "output": list(row.output),
        "parameters": row.parameters,
        "multiply_adds": row.multiply_adds,
        "activation_bytes": row.activation_bytes,
        "field": None if row.field is None else _field_as_json(row.field),
        "sharing": None if row.sharing is None else asdict(row.sharing),
    }


def _field_as_json(field: ReceptiveField) -> dict[str, Any]:
    return {
        "size": list(field.size),
        "jump": [None if jump is None else float(jump) for jump in field.jump],
        "offset": list(field.offset),
        "regular": field.regular,
    }
