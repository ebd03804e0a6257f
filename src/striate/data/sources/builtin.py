"""The built-in sets: a registry of what they are and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from striate.core.errors import DataError
from striate.core.registry import Registry
from striate.data.assemble import Labelled
from striate.data.splits import TEST_SHARE


@final
@dataclass(frozen=True)
class Builtin:
    """One built-in set.

    Args:
        description: one line.
        train, test: how many pictures the source has; ``test`` is 0 where it has no such split.
        classes: K.
        shape: (C, H, W).
        licence: as its authors state it.
        read: takes ``data_dir``, or None for the cache and a download.
        test_share: held out of train where there is no test split, 0–1.
    """

    description: str
    train: int
    test: int
    classes: int
    shape: tuple[int, int, int]
    licence: str
    read: Callable[[Path | None], Labelled]
    test_share: float = TEST_SHARE


BUILTIN: Registry[Builtin] = Registry("data set", "striate datasets", DataError)


def builtin_of(source: Mapping[str, object] | None) -> str | None:
    """Return the built-in set that pictures were loaded from, by the ``source`` of their ImageSet; None for others."""
    name = source and source.get("data")
    return name if isinstance(name, str) and name in BUILTIN else None
