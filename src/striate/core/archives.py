"""Archives: extraction of what strangers packed, into a folder that is whole or not there."""

from __future__ import annotations

import bz2
import contextlib
import fcntl
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, final

from striate.core.errors import DataError, FileError

_CHUNK = 1 << 20
_BROKEN = (EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
_UNSUPPORTED = (NotImplementedError, RuntimeError, ValueError, OverflowError)


@final
@dataclass(frozen=True)
class ArchiveLimits:
    """The most that an archive may hold before it is refused.

    Args:
        members: files and folders.
        size_bytes: of all files together.
        ratio: of that to the size of the archive; any archive may become ``free_bytes``.
        depth: folders in folders.
    """

    members: int = 3_000_000
    size_bytes: int = 1 << 40
    ratio: int = 200
    free_bytes: int = 64 << 20
    depth: int = 32

    def most_bytes(self, archive: Path) -> int:
        """Return how many bytes the files of this archive may have together."""
        return min(self.size_bytes, max(self.free_bytes, self.ratio * archive.stat().st_size))


@final
class _Member(NamedTuple):
    """Something in an archive: ``content`` is None for a folder, ``refused`` says what else it is."""

    name: str
    content: IO[bytes] | None
    refused: str = ""


def extract(archive: Path, target: Path, limits: ArchiveLimits | None = None) -> None:
    """Extract the regular files and folders of a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz into a new folder.

    Everything is written to a folder aside, which takes the name ``target`` at the end. The content says what
    kind of archive it is, not the name.

    Raises:
        DataError: not an archive, damaged, too large, or holding anything else: links, devices, absolute
            paths, ``..``, a path twice, a name that is not UTF-8.
        FileError: ``archive`` cannot be read or ``target`` not be written.
    """
    limits = limits or ArchiveLimits()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _turn_in(target.parent):
            if not target.is_dir():  # another process may have been faster
                _extract_aside(archive, target, limits)
    except _BROKEN as error:
        raise _damaged(archive) from error
    except OSError as error:
        raise FileError(f"Cannot extract {archive} to {target}: {error.strerror or error}.") from error
    except _UNSUPPORTED as error:
        raise DataError(f"Cannot read the archive {archive}: {error}.") from error


@contextlib.contextmanager
def _turn_in(folder: Path) -> Iterator[None]:
    """Let one process after another extract into a folder; a kill ends its turn."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _extract_aside(archive: Path, target: Path, limits: ArchiveLimits) -> None:
    prefix = f".{target.name}."
    for left in target.parent.iterdir():
        if left.name.startswith(prefix):  # by a process that was killed: nobody else has a turn
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target.parent) as aside:
        folder = Path(aside, "content")
        folder.mkdir()
        _extract_members(archive, folder, limits)
        folder.rename(target)


def _extract_members(archive: Path, folder: Path, limits: ArchiveLimits) -> None:
    most_bytes = free_bytes = limits.most_bytes(archive)
    is_zip = zipfile.is_zipfile(archive)
    members = _zip_members(archive) if is_zip else _tar_members(archive, most_bytes)
    for count, member in enumerate(members, start=1):
        if count > limits.members:
            raise DataError(f"{archive} must hold at most {limits.members:,} files and folders, got more.")
        destination = _destination(archive, member, folder, limits)
        written = _created(archive, member, destination)
        if member.content is None or written is None:
            continue
        with member.content as source, written:
            while chunk := source.read(_CHUNK):
                free_bytes -= len(chunk)
                if free_bytes < 0:
                    raise _too_large(archive, most_bytes)
                written.write(chunk)


def _created(archive: Path, member: _Member, destination: Path) -> IO[bytes] | None:
    """Make a member's folder, or open its file to be written."""
    try:
        if member.content is None:
            destination.mkdir(parents=True, exist_ok=True)
            return None
        destination.parent.mkdir(parents=True, exist_ok=True)
        return destination.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(
            f"{archive} must hold each path once, as a file or as a folder, got {member.name!r} again."
        ) from error


def _destination(archive: Path, member: _Member, folder: Path, limits: ArchiveLimits) -> Path:
    """Return where a member goes, once its name and kind are known to be harmless."""
    if member.refused:
        raise DataError(f"{archive} must hold files and folders only, got {member.refused}: {member.name!r}.")
    try:
        member.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{archive} must hold names in UTF-8, got {member.name!r}. Pack it again.") from None
    path = Path(member.name)
    destination = (folder / path).resolve()
    if path.is_absolute() or ".." in path.parts or not destination.is_relative_to(folder.resolve()):
        raise DataError(f"{archive} must hold paths inside itself only, got {member.name!r}.")
    if len(path.parts) > limits.depth:
        raise DataError(f"{archive} must be at most {limits.depth} folders deep, got {member.name!r}.")
    return destination


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as container:
        for info in container.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # the Unix mode; 0 where the archive is not from Unix
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                yield _Member(info.filename, None, "a link or device")
            elif info.flag_bits & 0x1:
                yield _Member(info.filename, None, "an encrypted file")
            else:
                yield _Member(info.filename, None if info.is_dir() else container.open(info))


def _tar_members(archive: Path, most_bytes: int) -> Iterator[_Member]:
    with _decompressed(archive) as plain:
        # Headers and padding count too: twice the files and a megabyte is ample for them.
        stream = _Limited(plain, 2 * most_bytes + _CHUNK, archive)
        with tarfile.open(fileobj=stream, mode="r:") as container:
            while (info := container.next()) is not None:
                container.members = []  # type: ignore[attr-defined]  # or it keeps every header in memory
                if info.isdir():
                    yield _Member(info.name, None)
                elif info.isreg() and not info.issparse():
                    yield _Member(info.name, container.extractfile(info))
                else:
                    yield _Member(info.name, None, "a link or device")
            # tarfile takes a damaged header for the end, but the end is a block of zeros.
            stream.seek(container.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise _damaged(archive)


def _decompressed(archive: Path) -> io.BufferedIOBase:
    with archive.open("rb") as stream:
        start = stream.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(archive)
    if start.startswith(b"BZh"):
        return bz2.open(archive)
    if start == b"\xfd7zXZ\x00":
        return lzma.open(archive)
    return archive.open("rb")


@final
class _Limited(io.RawIOBase):
    """A stream that is an error to read further, or in larger pieces, than an honest header asks for."""

    def __init__(self, stream: io.BufferedIOBase, most_bytes: int, archive: Path) -> None:
        self._stream = stream
        self._most_bytes = most_bytes
        self._archive = archive

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > 16 * _CHUNK or self._stream.tell() + size > self._most_bytes:
            raise _too_large(self._archive, self._most_bytes)
        return self._stream.read(size)

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if position > self._most_bytes:
            raise _too_large(self._archive, self._most_bytes)
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _damaged(archive: Path) -> DataError:
    return DataError(
        f"{archive} must be a whole .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive; "
        "it is damaged or something else. Copy or download it again."
    )


def _too_large(archive: Path, most_bytes: int) -> DataError:
    return DataError(
        f"{archive} must hold at most {most_bytes:,} bytes, got more: "
        "extract it yourself if you trust it, and pass the folder."
    )
