"""``striate datasets``: the data sets that are known by name."""

from __future__ import annotations

from striate.cli.output import Json, print_json, print_table
from striate.data.sources.builtin import BUILTIN


def datasets(*, json: Json = False) -> int:
    """List the data sets that are known by name.

    Example: `striate datasets`

    JSON keys: datasets, each with name, description, train, test, classes, shape and licence.

    """
    entries = {name: BUILTIN.get(name) for name in BUILTIN}
    fields = ("description", "train", "test", "classes", "shape", "licence")
    if json:
        print_json({"datasets": [{"name": n, **{f: getattr(e, f) for f in fields}} for n, e in entries.items()]})
        return 0
    rows = [
        [n, e.description, f"{e.train:,}", f"{e.test:,}" if e.test else "held out", str(e.classes),
         "×".join(map(str, e.shape)), e.licence]
        for n, e in entries.items()
    ]  # fmt: skip
    headers = ["name", "what", "train", "test", "classes", "pictures", "licence"]
    print_table(headers, rows, numbers=["train", "test", "classes"])
    return 0
