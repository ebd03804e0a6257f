"""``--budget``: training ends at most 5 % over and 10 % under its budget, with a finished schedule, on three sets.

Run ``python benchmarks/budget.py [BUDGET…]``; 2m and 10m where none is named. The three sets are trained at the same
time, with one thread each, so that they meet a busy machine, whose speed changes as the others validate or end.
"""

from __future__ import annotations

import csv
import itertools
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from striate.training.budget import budget_seconds
from striate.training.recipe import read_recipe
from striate.training.run import RECIPE_FILE
from trials import data_folder, report

LEAST, MOST = 0.90, 1.05  # of the budget
FINISHED = 0.02  # of the top learning rate, at the last step


def one(words: list[str], budget: str) -> dict[str, Any]:
    """Train in a new process; return the time that it took of its budget, and where its schedule ended."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "striate", "train", *words, "--budget", budget, "--threads", "1"]
        subprocess.run([*command, "--output", str(run), "--no-report", "--no-audit"], check=True, capture_output=True)
        with open(run / "metrics.csv", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        changes = (run / "log.txt").read_text(encoding="utf-8").count("the budget allows")
        top = read_recipe(run / RECIPE_FILE).learning_rate
    seconds = budget_seconds(budget)
    assert seconds is not None
    return {
        "data": Path(words[0]).name,
        "budget": budget,
        "share": float(rows[-1]["seconds"]) / seconds,
        "learning_rate": float(rows[-1]["learning_rate"]),
        "top_learning_rate": top,
        "epochs": len(rows),
        "corrections": changes,
    }


def main() -> None:
    """Train with every budget on every set."""
    fashion = ["fashion_mnist", "--data-dir", str(data_folder("fashion-mnist"))]
    sets = [["digits"], fashion, [str(data_folder("") / "clothing.tar.gz"), "--size", "64"]]
    trials = []
    with ThreadPoolExecutor(len(sets)) as at_once:
        for budget in sys.argv[1:] or ["2m", "10m"]:
            for trial in at_once.map(one, sets, itertools.repeat(budget)):
                trials.append(trial)
                print(trial, flush=True)
    on_time = all(LEAST <= trial["share"] <= MOST for trial in trials)
    finished = all(trial["learning_rate"] <= FINISHED * trial["top_learning_rate"] for trial in trials)
    report("budget", "ends within −10 % and +5 % of its budget, its schedule finished", on_time and finished, trials)


if __name__ == "__main__":
    main()
