"""The samples of a shard: consecutive members of a tar file that share a key, as WebDataset lays them out.

``KEY.jpg`` is the picture and ``KEY.cls`` its class. The package webdataset is not used: it runs whatever follows
``pipe:`` in the name of a shard, and cannot go on at an exact step of an epoch. Nothing is extracted to disk.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, cast, final

from striate.core.errors import DataError
from striate.data.decode import EXTENSIONS

LABEL_ENDINGS = (".cls", ".json", ".txt")  # the first that a sample has is taken
MOST_PICTURE_BYTES = 256 << 20
MOST_LABEL_BYTES = 1 << 20
_MOST_HEADER_BYTES = 1 << 16  # of a header with a long name
_JSON_KEYS = ("labels", "label", "cls", "class")

# A class by its number or its name; several where a picture may have several.
Label = int | str | tuple[int | str, ...]


@final
class Sample(NamedTuple):
    """A picture of a shard, still encoded, with its label; ``name`` is that of its member."""

    name: str
    picture: bytes
    label: Label


@final
class Extent(NamedTuple):
    """Where a sample lies in its shard, in bytes, and its label."""

    start: int
    end: int
    label: Label


@final
@dataclass
class _Members:
    """The members of one sample that matter."""

    key: str
    start: int
    end: int = 0
    endings: set[str] = field(default_factory=set)
    picture: tarfile.TarInfo | None = None
    label: tarfile.TarInfo | None = None


@final
class _Headers:
    """What tarfile reads its headers from: none that says it is longer than any header is."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        if not 0 <= size <= _MOST_HEADER_BYTES:
            raise ValueError(f"a header of {size:,} bytes")
        return self._stream.read(size)


def read_samples(block: bytes, where: str) -> list[Sample]:
    """Return the samples in some bytes of a shard, which begin and end between two samples.

    Args:
        where: what the shard is called in an error.

    Raises:
        DataError: damaged, a member that is neither a file nor a folder, or a sample without picture or label.
    """
    samples, stream = [], io.BytesIO(block)
    for one in _samples_in(stream, where, len(block)):
        picture, label = _complete(one, where)
        label_of = parse_label(label.name, _content(stream, label, MOST_LABEL_BYTES, where), where)
        content = _content(stream, picture, MOST_PICTURE_BYTES, where)
        samples.append(Sample(_printable(picture.name), content, label_of))
    return samples


def scan_samples(shard: Path) -> Iterator[Extent]:
    """Yield where the samples of a local shard lie, reading headers and labels only.

    Raises:
        DataError: see `read_samples`; or it cannot be opened.
    """
    where = str(shard)
    try:
        with shard.open("rb") as stream:
            for one in _samples_in(stream, where, shard.stat().st_size):
                _, label = _complete(one, where)
                content = _content(stream, label, MOST_LABEL_BYTES, where)
                yield Extent(one.start, one.end, parse_label(label.name, content, where))
    except OSError as error:
        raise DataError(f"Cannot read {where}: {error.strerror}.") from error


def parse_label(name: str, content: bytes, where: str) -> Label:
    """Return what a label member says: text, or JSON of a number, a name, a list of them, or an object with one.

    Raises:
        DataError: it says nothing of the kind.
    """
    try:
        text = content.decode("utf-8-sig").strip()
        said = json.loads(text) if name.lower().endswith(".json") else text
        if isinstance(said, dict):
            said = next((said[key] for key in _JSON_KEYS if key in said), None)
        if isinstance(said, list):
            return tuple(_one_class(each, name, where) for each in said)
        return _one_class(said, name, where)
    except (ValueError, RecursionError) as error:  # int takes no more than 4,300 digits
        raise _bad_label(name, where) from error


def _one_class(said: object, name: str, where: str) -> int | str:
    if isinstance(said, str) and said.strip():
        return int(said) if said.isascii() and said.isdigit() else said
    if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
        return said
    raise _bad_label(name, where)


def _bad_label(name: str, where: str) -> DataError:
    return DataError(f"{name!r} in {where} must say a class: its number from 0 on, or its name.")


def _samples_in(stream: IO[bytes], where: str, size: int) -> Iterator[_Members]:
    """Yield the samples; of members with other endings only the place is taken notice of."""
    sample: _Members | None = None
    for member, end in _files_in(stream, where, size):
        folder, _, base = member.name.rpartition("/")
        stem, dot, endings = base.partition(".")
        key = f"{folder}/{stem}"
        if not dot or not stem:  # no ending, or a hidden file: no part of a sample
            continue
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = _Members(key, member.offset)
        if endings in sample.endings:
            raise DataError(f"Each sample of {where} must have a key of its own, got {member.name!r} twice.")
        sample.endings.add(endings)
        _take(sample, member)
        sample.end = end
    if sample is not None:
        yield sample


def _take(sample: _Members, member: tarfile.TarInfo) -> None:
    ending = Path(member.name).suffix.lower()
    if ending in EXTENSIONS and sample.picture is None:
        sample.picture = member
    elif ending in LABEL_ENDINGS:
        before = LABEL_ENDINGS.index(Path(sample.label.name).suffix.lower()) if sample.label else len(LABEL_ENDINGS)
        if LABEL_ENDINGS.index(ending) < before:
            sample.label = member


def _files_in(stream: IO[bytes], where: str, size: int) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield the members that are files, and where each ends."""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Headers(stream)), mode="r:") as container:
            while (member := container.next()) is not None:
                container.members = []  # type: ignore[attr-defined]  # or it keeps every header in memory
                # A header may say a negative size, and lead back.
                if member.size < 0 or not member.offset < container.offset <= size:
                    raise _damaged(where)
                if member.isreg() and not member.issparse():
                    yield member, container.offset
                elif not member.isdir():
                    raise DataError(
                        f"{where} must hold files only, got a link, a device or a file with holes: {member.name!r}."
                    )
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise _damaged(where) from error
    # tarfile takes a damaged header for the end; the end is a block of zeros, or nothing.
    stream.seek(container.offset)
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise _damaged(where)


def _content(stream: IO[bytes], member: tarfile.TarInfo, most_bytes: int, where: str) -> bytes:
    if member.size > most_bytes:
        raise DataError(f"{member.name!r} in {where} must have at most {most_bytes:,} bytes, got {member.size:,}.")
    stream.seek(member.offset_data)
    content = stream.read(member.size)
    if len(content) < member.size:
        raise _damaged(where)
    return content


def _complete(sample: _Members, where: str) -> tuple[tarfile.TarInfo, tarfile.TarInfo]:
    if sample.picture is None or sample.label is None:
        lacking = f"a picture ({_words(sorted(EXTENSIONS))})" if sample.picture is None else "a label"
        raise DataError(
            f"Each sample of {where} must have a picture and a label ({_words(LABEL_ENDINGS)}), one after the other; "
            f"{sample.key.removeprefix('/')!r} has not {lacking}."
        )
    return sample.picture, sample.label


def _printable(name: str) -> str:
    """Return a name without what could not be written to a terminal or a file."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)


def _words(endings: Sequence[str]) -> str:
    return ", ".join(endings)


def _damaged(where: str) -> DataError:
    return DataError(f"{where} must be a whole tar file; it is damaged or something else. Copy it again.")
