"""Real pictures for the tests of stage 1, where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("STRIATE_CACHE", str(folder))
    return folder


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Return the path of a file of real data, or skip where it is absent."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("STRIATE_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
        if not (folder / name).exists():
            pytest.skip(f"{name} is not in {folder}; set STRIATE_TEST_DATA to the folder that has it")
        return folder / name

    return find
