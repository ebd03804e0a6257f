"""How long the report of a run takes, section by section: `python benchmarks/report.py RUN [RUN …]`.

Each run is reported in a process of its own, as `striate report` would, with all threads that PyTorch takes.
"""

from __future__ import annotations

import json
import subprocess
import sys

import torch

from striate.core.machine import describe

REPEATS = 3


def main() -> None:
    """Print for each run the least seconds of `REPEATS`, and the sections that take most."""
    facts = describe()
    print(", ".join(f"{name} {value}" for name, value in facts.items()), f"threads {torch.get_num_threads()}", sep=", ")
    for run in sys.argv[1:]:
        command = [sys.executable, "-m", "striate", "report", run, "--json"]
        done = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(REPEATS)]
        best = min(done, key=lambda one: one["seconds"])
        slowest = sorted(best["sections"], key=lambda one: -one["seconds"])[:5]
        spread = ", ".join(f"{one['seconds']:.1f}" for one in done)
        print(f"{run}: {best['seconds']:.1f} s (all: {spread}), {best['bytes'] / 1e6:.2f} MB")
        print("  " + ", ".join(f"{one['heading']} {one['seconds']:.1f} s" for one in slowest))


if __name__ == "__main__":
    main()
