"""Groups: pictures that belong together (of one person, one scene) and so in one split."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from striate.core.errors import DataError, listed
from striate.data.sources.listing import Listing


def grouped_by(listing: Listing, pattern: str, root: Path) -> Listing:
    r"""Return the listing with the groups that the paths of its files name.

    Args:
        pattern: a regular expression that is searched for in the path of each file relative to ``root``, with ``/``
            between the folders. Its first group is the name, or the whole match where it has none:
            ``(patient\d+)_``.

    Raises:
        DataError: no regular expression, a path without a match, or a listing that has groups already.
    """
    if listing.groups is not None:
        raise DataError("group_by must be left out where the table has a column of groups, got both. Keep one.")
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DataError(f"group_by must be a regular expression, got {pattern!r}: {error}.") from None
    unnamed: list[str] = []

    def group_of(file: str) -> str:
        path = os.path.relpath(file, root).replace(os.sep, "/")
        match = expression.search(path)
        name = (match[1] if expression.groups else match[0]) if match else None
        if not name:
            unnamed.append(path)
        return name or ""

    names = {split: [group_of(file) for file in files] for split, files in listing.files.items()}
    if unnamed:
        raise DataError(
            f"group_by must name a group in the path of every picture, got none by {pattern!r} in {len(unnamed):,} of "
            f"{sum(map(len, names.values())):,}: {listed(unnamed)}. Change the expression."
        )
    return replace(listing, groups=numbered_groups(names))


def numbered_groups(names: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Return the number of each picture's group, (N,) int64 by split; one name has one number in every split.

    A picture without a name, ``""``, is a group of its own.
    """
    known = sorted({name for own in names.values() for name in own if name})
    number_of = {name: number for number, name in enumerate(known)}
    numbers: dict[str, Tensor] = {}
    alone = len(known)
    for split, own in names.items():
        row = []
        for name in own:
            row.append(number_of[name] if name else alone)
            alone += not name
        numbers[split] = torch.tensor(row, dtype=torch.int64)
    return numbers
