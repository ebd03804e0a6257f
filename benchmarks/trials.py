"""Repeated trainings from the command line, and what every result says about where it was measured."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def data_folder(name: str) -> Path:
    """Return the folder of a real data set: in ``$STRIATE_TEST_DATA``, else in ``../shared/data``."""
    folder = Path(os.environ.get("STRIATE_TEST_DATA") or ROOT.parent / "shared" / "data") / name
    if not folder.is_dir():
        sys.exit(f"There is no {folder}. Set STRIATE_TEST_DATA to the folder that holds {name}.")
    return folder


def train(*words: object) -> dict[str, Any]:
    """Run ``striate train WORDS --json`` in a new process and return its JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "striate", "train", *map(str, words), "--output", f"{folder}/run", "--no-report", "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return {key: value for key, value in result.items() if key != "run"}


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return n, mean, standard deviation, least, median and most."""
    known = list(values)
    return {
        "n": len(known),
        "mean": statistics.fmean(known),
        "deviation": statistics.stdev(known) if len(known) > 1 else 0.0,
        "min": min(known),
        "median": statistics.median(known),
        "max": max(known),
    }


def report(name: str, claim: str, holds: bool, trials: list[dict[str, Any]], **figures: object) -> None:
    """Print the figures and write them, with the machine and versions, to ``benchmarks/results/NAME.json``."""
    from striate.core import machine

    result = {"claim": claim, "holds": holds, **figures, "machine": machine.describe(), "trials": trials}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "trials"}, indent=1, ensure_ascii=False))
    sys.exit(0 if holds else 1)
