"""``striate models``: the zoo."""

from __future__ import annotations

from striate.cli.output import Json, print_json, print_table
from striate.core.spec import InputSpec, Spec, TaskSpec
from striate.networks.build import build_on_meta
from striate.networks.summary import summary
from striate.networks.zoo import ZOO, ZooEntry


def models(*, json: Json = False) -> int:
    """List the networks of the zoo.

    Example: `striate models`

    JSON keys: models, each with name, year, title, parameters, input, classes and paper.

    """
    entries = {name: ZOO.get(name) for name in ZOO}
    parameters = {
        name: summary(build_on_meta(name, paper_spec(entry)), paper_spec(entry)).parameters
        for name, entry in entries.items()
    }
    if json:
        print_json({"models": [_as_json(name, entries[name], parameters[name]) for name in entries]})
        return 0
    rows = [
        [name, str(entry.year), entry.title, f"{parameters[name]:,}", "×".join(map(str, entry.shape))]
        for name, entry in entries.items()
    ]
    print_table(["name", "year", "what", "parameters", "at"], rows, numbers=["parameters"])
    return 0


def paper_spec(entry: ZooEntry) -> Spec:
    """Return the Spec of the pictures that the network's paper used, not normalised."""
    channels, height, width = entry.shape
    pictures = InputSpec(channels=channels, height=height, width=width, mean=(0.0,) * channels, std=(1.0,) * channels)
    return Spec(input=pictures, task=TaskSpec(class_names=tuple(str(number) for number in range(entry.classes))))


def _as_json(name: str, entry: ZooEntry, parameters: int) -> dict[str, object]:
    return {
        "name": name,
        "year": entry.year,
        "title": entry.title,
        "parameters": parameters,
        "input": list(entry.shape),
        "classes": entry.classes,
        "paper": entry.paper,
    }
