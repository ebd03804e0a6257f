"""What the tests of the command line share."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.cli.app import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        result: dict[str, Any] = json.loads(self.out)
        return result


Striate = Callable[..., Done]


def call(*words: str | Path) -> Done:
    """Run ``striate`` with these words in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture
def striate() -> Striate:
    """The command line, run in this process."""
    return call


def write_pictures(root: Path, classes: tuple[str, ...] = ("dark", "light"), count: int = 24, side: int = 20) -> Path:
    """Write PNG files of two or more classes that differ in brightness, of several sizes."""
    random = np.random.default_rng(0)
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            shape = (side + number % 3, side + number % 5)
            level = 40 + 170 * k // max(1, len(classes) - 1)
            pixels = np.clip(random.normal(level, 25, shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).convert("RGB").save(root / name / f"{number:02}.png")
    return root


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small photographs: dark/ and light/."""
    return write_pictures(tmp_path_factory.mktemp("pictures") / "photos")


@pytest.fixture(scope="session")
def trained(picture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on `picture_folder`."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ["train", picture_folder, "--size", 16, "--model", "conv 4 relu | gap | fc 2", "--epochs", 8, "-b", 8]
    done = call(*map(str, words), "--lr", "0.03", "--output", folder, "--json")
    assert done.status == 0, done.err
    return folder
