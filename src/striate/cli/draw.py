"""``striate draw``: the network as a picture."""

from __future__ import annotations

import re
from pathlib import Path

from striate.cli.network import read_network
from striate.cli.output import Json, print_json, say
from striate.drawing.diagram import draw_diagram
from striate.networks.picture import picture


def draw(
    model: str,
    /,
    *,
    input: str | None = None,
    classes: int | None = None,
    output: Path | None = None,
    json: Json = False,
) -> int:
    """Draw a network as an SVG picture: volumes to scale, branches and joins, repeated blocks once.

    Example: `striate draw resnet50`, or
    `striate draw "conv 8@3x3 relu | gap | fc 10" --input 3x64x64 --output small.svg`

    JSON keys: file, width, height (px), stages (name, blocks; of the bracketed ones), notes.

    Args:
        model: A zoo name, a network text, a .txt file that holds one, a run's folder, a saved network, or
            module:factory for a network of your own.
        input: Channels x height x width of the pictures. Default: what the network's paper used; 1x28x28 for a text,
            3x224x224 for module:factory.
        classes: How many. Default: what the network's paper used.
        output: The .svg file to write. Default: the network's name, here.
    """
    network, spec = read_network(model, input, classes)
    diagram = picture(network, spec)
    drawing = draw_diagram(diagram)
    path = output or Path(f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', diagram.title).strip('_')}.svg")
    drawing.write(path)
    if json:
        width, height = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)"', drawing)[:2])
        stages = [{"name": stage.name, "blocks": stage.blocks} for stage in diagram.stages if stage.name]
        sizes = {"width": width, "height": height}
        print_json({"file": str(path), **sizes, "stages": stages, "notes": list(diagram.notes)})
        return 0
    say(f"{path}: {diagram.subtitle}")
    for note in diagram.notes:
        say(f"note: {note}")
    return 0
