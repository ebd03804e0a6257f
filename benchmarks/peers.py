"""Peers to compare with, installed apart from the project's own environment."""

from __future__ import annotations

import functools
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

PEERS = Path(sys.prefix) / "peers"


@functools.cache
def torchvision() -> ModuleType:
    """Return torchvision, installed without its dependencies: its models need none but torch."""
    import torch

    if not (PEERS / "torchvision").is_dir():
        words = ["install", "--quiet", "--no-deps", "--target", str(PEERS), "torchvision==0.28.0"]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    sys.path.append(str(PEERS))
    # Its compiled operators belong to another build of torch; their declarations are enough for its models.
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    return import_module("torchvision")
