"""How much the cache may hold, what it holds, and what goes when there is not room for more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from striate.core import machine
from striate.core.errors import FileError
from striate.core.files import cache_folder
from striate.data.cache.entry import Entry

_VARIABLE = "STRIATE_CACHE_LIMIT"
_DEFAULT_LIMIT = 20 * 10**9
_DISK_SHARE = 0.5  # of what is free or the cache's already; the default is no more than that


@final
@dataclass(frozen=True)
class CachedSet:
    """What the cache holds of one data set.

    Args:
        key: what it is called in the cache.
        name: of the data set; empty where not one of its pictures is decoded yet.
        pictures: how many there are, 0 where they are not all decoded yet.
        size_bytes: on disk.
        used_at: when it was last used, in seconds since 1970.
    """

    key: str
    name: str
    pictures: int
    size_bytes: int
    used_at: float


def pictures_folder() -> Path:
    """Return the folder of all entries.

    Raises:
        FileError: the cache folder cannot be made.
    """
    return cache_folder() / "pictures"


def cached_sets() -> list[CachedSet]:
    """Return what the cache holds, the least recently used first."""
    return sorted((_described(entry) for entry in _entries()), key=lambda one: one.used_at)


def remove_cached(keys: Sequence[str] | None = None) -> list[CachedSet]:
    """Remove entries by their keys, or all of them; those in use stay.

    Returns:
        What was removed.
    """
    chosen = [one for one in cached_sets() if keys is None or one.key in keys]
    return [one for one in chosen if Entry(pictures_folder() / one.key).remove()]


def cache_limit() -> int:
    """Return the bytes that decoded pictures may take: ``$STRIATE_CACHE_LIMIT``, such as ``50GB``.

    Else 20 GB, or half of what the disk has for them where that is less.

    Raises:
        FileError: the variable is not a size.
    """
    said = os.environ.get(_VARIABLE)
    if not said:
        free = shutil.disk_usage(cache_folder()).free + sum(entry.size() for entry in _entries())
        return min(_DEFAULT_LIMIT, int(_DISK_SHARE * free))
    limit = machine.bytes_in(said)
    if limit is None:
        raise FileError(f"{_VARIABLE} must be a size such as 50GB or 500MB, got {said!r}.")
    return limit


def make_room(needed: int, entry: Entry) -> bool:
    """Remove the least recently used entries until so many bytes more are within the limit.

    Args:
        needed: the bytes of the entry when it is whole.
        entry: the one that room is made for; it stays.

    Returns:
        Whether there is room; there is none where it needs more than the limit, or where too much is in use.
    """
    limit = cache_limit()
    if needed > limit:
        return False
    others = [one for one in cached_sets() if one.key != entry.folder.name]
    total = needed + sum(one.size_bytes for one in others)
    for one in others:
        if total <= limit:
            break
        if Entry(pictures_folder() / one.key).remove():
            total -= one.size_bytes
    return total <= limit


def _entries() -> list[Entry]:
    folder = pictures_folder()
    return [Entry(path) for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _described(entry: Entry) -> CachedSet:
    record = entry.record()
    return CachedSet(entry.folder.name, entry.name(), record.pictures if record else 0, entry.size(), entry.used_at())
