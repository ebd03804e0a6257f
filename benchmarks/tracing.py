"""Tracing: ResNet-152 is traced and summarised, receptive fields and all, in at most 5 s."""

from __future__ import annotations

import json
import subprocess
import sys

from trials import report, spread

RUNS = 9
SCRIPT = """
import json, time
import striate as st
from striate.networks.zoo import ZOO
from striate.networks.build import build_on_meta
spec = ZOO.get("resnet152").spec
network = build_on_meta("resnet152", spec)
start = time.perf_counter()
result = st.summary(network, spec)
first = time.perf_counter() - start
start = time.perf_counter()
st.summary(network, spec)
print(json.dumps({"first": first, "second": time.perf_counter() - start, "rows": len(result.rows)}))
"""


def main() -> None:
    """Summarise it twice in each of several new processes: the first time, PyTorch loads what it traces with."""
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True).stdout)
        for _ in range(RUNS)
    ]
    seconds = spread(run["first"] for run in runs)
    report(
        "tracing",
        "the summary of ResNet-152 takes at most 5 s in a new process (median)",
        seconds["median"] <= 5,
        runs,
        first_seconds=seconds,
        second_seconds=spread(run["second"] for run in runs),
    )


if __name__ == "__main__":
    main()
