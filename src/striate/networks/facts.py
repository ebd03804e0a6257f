"""What `striate models` says of each network of the zoo, measured once: tracing them all takes a minute.

``python -m striate.networks.facts`` measures again and writes ``facts.json``; a test compares it with the networks.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.resources import files as resources
from pathlib import Path

from striate.networks.build import build_on_meta
from striate.networks.geometry import Geometry
from striate.networks.summary import summary
from striate.networks.zoo import ZOO

_FILE = "facts.json"


@dataclass(frozen=True)
class Facts:
    """A network at the input and classes of its paper.

    Args:
        parameters: auxiliary heads included.
        auxiliary: parameters of auxiliary heads.
        multiply_adds: for one picture.
        field: pixels (height, width) that a unit of the last feature map sees; empty where it has none.
    """

    parameters: int
    auxiliary: int
    multiply_adds: int
    field: tuple[int, ...]


def read_facts() -> dict[str, Facts]:
    """Return what was measured of each network, by name."""
    content = json.loads(resources("striate.networks").joinpath(_FILE).read_text(encoding="utf-8"))
    return {name: Facts(**{**row, "field": tuple(row["field"])}) for name, row in content.items()}


def measure(name: str) -> Facts:
    """Build a network on the meta device and measure it."""
    spec = ZOO.get(name).spec
    result = summary(build_on_meta(name, spec), spec)
    return Facts(result.parameters, result.auxiliary, result.multiply_adds, _field(result.geometry))


def _field(geometry: Geometry) -> tuple[int, ...]:
    last = geometry.feature_map
    field = geometry.receptive_field(last) if last else None
    return field.size if field and last != "picture" else ()


def main() -> None:
    """Measure every network of the zoo and write the file."""
    rows = [f"{json.dumps(name)}: {json.dumps(asdict(measure(name)))}" for name in ZOO]
    (Path(__file__).parent / _FILE).write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
