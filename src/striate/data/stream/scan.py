"""Shards that come without an index: counted once, from their headers and labels, and remembered."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from pydantic import ValidationError

from striate.core import files
from striate.core.errors import DataError, FileError, listed
from striate.data.splits import SPLIT_NAMES, SplitName
from striate.data.stream.index import MOST_BLOCK_BYTES, Block, Shard, ShardIndex, parse_index
from striate.data.stream.members import Extent, Label, scan_samples

# A block is read at once: large enough that a server's answer is worth the asking, small enough to shuffle by.
BLOCK_BYTES = 4 << 20
BLOCK_SAMPLES = 256
MOST_CLASSES = 100_000


@final
@dataclass
class Counted:
    """What has been counted of a shard."""

    blocks: list[Block] = field(default_factory=list)
    labels: Counter[int | str] = field(default_factory=Counter)
    several: bool = False

    def add(self, start: int, end: int, label: Label, *, block_samples: int = BLOCK_SAMPLES) -> None:
        """Count the sample that lies from byte ``start`` to ``end``; it begins a block where the last one is full.

        Raises:
            DataError: it takes more than a block may.
        """
        if end - start > MOST_BLOCK_BYTES:
            raise DataError(
                f"A sample of a shard must take at most {MOST_BLOCK_BYTES:,} bytes with all its members, got one of "
                f"{end - start:,} from byte {start:,} on. Leave out what is no picture."
            )
        self.several |= isinstance(label, tuple)
        self.labels.update(label if isinstance(label, tuple) else (label,))
        last = self.blocks[-1] if self.blocks else None
        if last is not None and last.samples < block_samples and end - last.offset <= BLOCK_BYTES:
            self.blocks[-1] = Block(last.offset, end - last.offset, last.samples + 1)
        else:
            self.blocks.append(Block(start, end - start, 1))


def index_shards(paths: Sequence[Path], name: str, class_names: Sequence[str] | None = None) -> ShardIndex:
    """Return the index of local shards that have none; it is remembered while the files stay as they are.

    The split is the first word of a file's name (``val-0003.tar``), and train where it is none of the three.

    Args:
        name: of the data set.
        class_names: in the order of the numbers in the shards; None for the numbers, or the names that are in them.

    Raises:
        DataError: a shard is damaged, or its labels are neither all numbers nor all names.
    """
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = hashlib.sha256(repr((stats, name, class_names)).encode()).hexdigest()[:16]
    remembered = files.cache_folder() / "shards" / f"{key}.json"
    try:
        return parse_index(remembered.read_bytes(), str(remembered))
    except (OSError, DataError):
        index = count_shards(paths, name, class_names)
    try:
        files.write_text(remembered, index.to_json())
    except FileError as error:
        print(f"The shards will be counted again the next time: {error}", file=sys.stderr)
    return index


def count_shards(paths: Sequence[Path], name: str, class_names: Sequence[str] | None = None) -> ShardIndex:
    """Return the index of local shards, counted; see `index_shards`."""
    print(f"Counting the pictures of {len(paths):,} shards of {name}.", file=sys.stderr, flush=True)
    counted = {path: _counted(scan_samples(path)) for path in paths}
    empty = [path for path, one in counted.items() if not one.blocks]
    if empty:
        raise DataError(f"{empty[0]} must hold pictures with labels (KEY.jpg, KEY.cls), got none.")
    total = Counter[int | str]()
    for one in counted.values():
        total.update(one.labels)
    names = _class_names(total, name, class_names)
    several = any(one.several for one in counted.values())
    shards = [_shard(path, one, names) for path, one in counted.items()]
    try:
        return ShardIndex(name=name, class_names=names, labels="multi" if several else "single", shards=tuple(shards))
    except ValidationError as error:
        raise DataError(f"The shards of {name} cannot be used: {error.errors()[0]['msg']}.") from error


def split_of(name: str) -> SplitName:
    """Return the split that a shard's name begins with; train where it names none."""
    found = re.match(r"[A-Za-z]+", name)
    return SPLIT_NAMES.get(found[0].lower(), "train") if found else "train"


def _counted(extents: Iterable[Extent] | Iterator[Extent]) -> Counted:
    counted = Counted()
    for extent in extents:
        counted.add(*extent)
        if len(counted.labels) > MOST_CLASSES:
            raise DataError(
                f"The labels of shards must be at most {MOST_CLASSES:,} classes, got more. Are they captions?"
            )
    return counted


def _class_names(labels: Mapping[int | str, int], name: str, given: Sequence[str] | None) -> tuple[str, ...]:
    numbers = [label for label in labels if isinstance(label, int)]
    words = sorted(label for label in labels if isinstance(label, str))
    if numbers and words:
        raise DataError(
            f"The labels in the shards of {name} must be all numbers or all names, got {numbers[0]} and {words[0]!r}."
        )
    if words:
        names = tuple(given or words)
        unknown = sorted(set(words) - set(names))
        if unknown:
            raise DataError(
                f"class_names must hold every label in the shards of {name}, got none for {listed(unknown)}."
            )
        return names
    least = max(numbers, default=0) + 1
    if least > MOST_CLASSES or (given is not None and len(given) < least):
        most = len(given) if given else MOST_CLASSES
        raise DataError(f"The labels in the shards of {name} must be from 0 to {most - 1}, got {least - 1}.")
    return tuple(given) if given else tuple(map(str, range(least)))


def _shard(path: Path, counted: Counted, names: tuple[str, ...]) -> Shard:
    number_of = {class_name: number for number, class_name in enumerate(names)}
    pictures = [0] * len(names)
    for label, count in counted.labels.items():
        pictures[label if isinstance(label, int) else number_of[label]] += count
    try:
        return Shard(
            name=path.name,
            split=split_of(path.name),
            size=path.stat().st_size,
            pictures_per_class=tuple(pictures),
            blocks=tuple(counted.blocks),
        )
    except ValidationError as error:
        raise DataError(
            f"A shard must have a name of letters, digits and .-_+=@ that ends in .tar, got {path.name!r}. Rename it."
        ) from error
