"""The samples of a shard: consecutive members of a tar file that share a key, as WebDataset lays them out.

``KEY.jpg`` is the picture and ``KEY.cls`` its class. The package webdataset is not used: it runs whatever follows
``pipe:`` in the name of a shard, and cannot go on at an exact step of an epoch. Nothing is extracted to disk.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, final

from striate.core.errors import DataError
from striate.data.decode import EXTENSIONS

LABEL_ENDINGS = (".cls", ".json", ".txt")  # the first that a sample has is taken
MOST_PICTURE_BYTES = 256 << 20
MOST_LABEL_BYTES = 1 << 20
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
    picture: tarfile.TarInfo | None = None
    label: tarfile.TarInfo | None = None


def read_samples(block: bytes, where: str) -> list[Sample]:
    """Return the samples in some bytes of a shard, which begin and end between two samples.

    Args:
        where: what the shard is called in an error.

    Raises:
        DataError: damaged, a member that is neither a file nor a folder, or a sample without picture or label.
    """
    samples = []
    with _opened(io.BytesIO(block), where) as container:
        for one in _samples_in(container, where, len(block)):
            picture, label = _complete(one, where)
            label_of = parse_label(label.name, _content(container, label, MOST_LABEL_BYTES, where), where)
            samples.append(Sample(picture.name, _content(container, picture, MOST_PICTURE_BYTES, where), label_of))
    return samples


def scan_samples(shard: Path) -> Iterator[Extent]:
    """Yield where the samples of a local shard lie, reading headers and labels only.

    Raises:
        DataError: see `read_samples`; or it cannot be opened.
    """
    where = str(shard)
    try:
        with shard.open("rb") as stream, _opened(stream, where) as container:
            for one in _samples_in(container, where, shard.stat().st_size):
                _, label = _complete(one, where)
                content = _content(container, label, MOST_LABEL_BYTES, where)
                yield Extent(one.start, one.end, parse_label(label.name, content, where))
    except OSError as error:
        raise DataError(f"Cannot read {where}: {error.strerror}.") from error


def parse_label(name: str, content: bytes, where: str) -> Label:
    """Return what a label member says: text, or JSON of a number, a name, a list of them, or an object with one.

    Raises:
        DataError: it says nothing of the kind.
    """
    try:
        text = content.decode().strip()
        said = json.loads(text) if name.lower().endswith(".json") else text
    except (ValueError, RecursionError) as error:
        raise _bad_label(name, where) from error
    if isinstance(said, dict):
        said = next((said[key] for key in _JSON_KEYS if key in said), None)
    if isinstance(said, list):
        return tuple(_one_class(each, name, where) for each in said)
    return _one_class(said, name, where)


def _one_class(said: object, name: str, where: str) -> int | str:
    if isinstance(said, str) and said.strip():
        return int(said) if said.isascii() and said.isdigit() else said
    if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
        return said
    raise _bad_label(name, where)


def _bad_label(name: str, where: str) -> DataError:
    return DataError(f"{name!r} in {where} must say a class: its number from 0 on, or its name.")


def _opened(stream: IO[bytes], where: str) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r:")
    except tarfile.TarError as error:
        raise _damaged(where) from error


def _samples_in(container: tarfile.TarFile, where: str, size: int) -> Iterator[_Members]:
    """Yield the samples; of members with other endings only the place is taken notice of."""
    sample: _Members | None = None
    for member in _files_in(container, where, size):
        folder, _, base = member.name.rpartition("/")
        stem, dot, _ = base.partition(".")
        key = f"{folder}/{stem}"
        if not dot or not stem:  # no ending, or a hidden file: no part of a sample
            continue
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = _Members(key, member.offset)
        _take(sample, member)
        sample.end = container.offset
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


def _files_in(container: tarfile.TarFile, where: str, size: int) -> Iterator[tarfile.TarInfo]:
    try:
        while (member := container.next()) is not None:
            container.members = []  # type: ignore[attr-defined]  # or it keeps every header in memory
            if container.offset > size:
                raise _damaged(where)
            if member.isreg() and not member.issparse():
                yield member
            elif not member.isdir():
                raise DataError(f"{where} must hold files only, got a link or device: {member.name!r}.")
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise _damaged(where) from error
    # tarfile takes a damaged header for the end; the end is a block of zeros, or nothing.
    assert container.fileobj is not None
    container.fileobj.seek(container.offset)
    if container.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise _damaged(where)


def _content(container: tarfile.TarFile, member: tarfile.TarInfo, most_bytes: int, where: str) -> bytes:
    if member.size > most_bytes:
        raise DataError(f"{member.name!r} in {where} must have at most {most_bytes:,} bytes, got {member.size:,}.")
    assert container.fileobj is not None
    container.fileobj.seek(member.offset_data)
    content: bytes = container.fileobj.read(member.size)
    if len(content) < member.size:
        raise _damaged(where)
    return content


def _complete(sample: _Members, where: str) -> tuple[tarfile.TarInfo, tarfile.TarInfo]:
    if sample.picture is None or sample.label is None:
        lacking = f"a picture ({_words(sorted(EXTENSIONS))})" if sample.picture is None else "a label"
        raise DataError(
            f"Each sample of {where} must have a picture and a label ({_words(LABEL_ENDINGS)}); "
            f"{sample.key.removeprefix('/')!r} has not {lacking}."
        )
    return sample.picture, sample.label


def _words(endings: Sequence[str]) -> str:
    return ", ".join(endings)


def _damaged(where: str) -> DataError:
    return DataError(f"{where} must be a whole tar file; it is damaged or something else. Copy it again.")
