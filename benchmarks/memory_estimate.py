"""The memory that ``striate train`` foretells, against what a process grows by, for networks of the zoo.

Run ``python benchmarks/memory_estimate.py``: each training is a process of its own with an empty cache, so that
precision and memory format are measured too. It grows by the peak of its resident memory (VmHWM) over what was resident
when torch was imported and the pictures were loaded. Needs Linux.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from trials import quick, report, say

BAR = 0.25
CASES = [  # network, pictures' side and channels, two batches
    ("lenet5", 28, 1, (64, 512)),
    ("speednet_small", 28, 1, (128, 512)),
    ("feedforward2", 28, 1, (64, 512)),
    ("resnet20_cifar10", 32, 3, (32, 64)),
    ("nin_cifar10", 32, 3, (32, 64)),
    ("resnet18", 64, 3, (16, 64)),
    ("densenet121", 64, 3, (16, 32)),
    ("googlenet", 64, 3, (16, 32)),
    ("resnet50", 64, 3, (8, 24)),
    ("vgg11_bn", 32, 3, (16, 64)),
]
_CHILD = """
import json, sys
import numpy as np
import torch
import striate as st

def resident(which):
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))

name, side, channels, batch = sys.argv[1], *map(int, sys.argv[2:5])
draw = np.random.default_rng(0)
splits = {
    split: (draw.integers(0, 256, (count, side, side, channels), np.uint8), np.arange(count) % 4)
    for split, count in (("train", 3 * batch), ("val", 64), ("test", 8))
}
images = st.load_data(splits)
with open("/proc/self/clear_refs", "w", encoding="ascii") as peak:
    peak.write("5")
before = resident("VmRSS")
network = st.build(name, images.spec)
run = st.fit(network, images, batch_size=batch, epochs=1, progress=False)
print(json.dumps({"foretold": run.expected_bytes, "grown": resident("VmHWM") - before}))
"""


def one(name: str, side: int, channels: int, batch: int) -> dict[str, Any]:
    """Train in a process of its own; return what was foretold and what it grew by, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", _CHILD, name, str(side), str(channels), str(batch)]
        environment = os.environ | {"STRIATE_CACHE": f"{folder}/cache"}
        done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=folder, env=environment)
    found = {key: value / 1e6 for key, value in json.loads(done.stdout).items()}
    trial = {"network": name, "side": side, "batch": batch, **found, "error": found["foretold"] / found["grown"] - 1}
    say(trial)
    return trial


def main() -> None:
    """Train every network with both batches, and report the largest error."""
    cases = CASES[:2] if quick() else CASES
    trials = [one(name, side, channels, batch) for name, side, channels, batches in cases for batch in batches]
    worst = max(abs(trial["error"]) for trial in trials)
    report("memory_estimate", f"within {BAR:.0%} of the peak of resident memory", worst <= BAR, trials, worst=worst)


if __name__ == "__main__":
    main()
