"""One entry of the cache: a folder with the pictures, a journal of what is in them, and the record of a whole one."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from pydantic import BaseModel, ConfigDict, ValidationError

from striate.core import files, machine
from striate.core.errors import FileError
from striate.core.spec import InputSpec
from striate.data.cache.build import Block
from striate.data.cache.layout import FileStore, Layout

_LOGGER = logging.getLogger(__name__)
# Raised whenever the same file may become other pixels: what was decoded by other rules is decoded again.
_RULES = 2


@final
class Note(NamedTuple):
    """A line of the journal: a block whose pictures are on disk.

    Args:
        first: the number of its first picture.
        checksum: CRC-32 of its pictures, region by region.
        unreadable: why a picture cannot be read, by number.
    """

    first: int
    checksum: int
    unreadable: dict[int, str]

    @classmethod
    def of(cls, block: Block) -> Note:
        """Return the line for a block."""
        return cls(block.numbers.start, _checksum(rows.data for _, rows in block.rows), block.unreadable)


@final
class Record(BaseModel):
    """What is known of a whole entry.

    Args:
        pictures: how many there are.
        modified_ns: when the file of pictures was last written to; another time means that somebody else did.
        unreadable: why a picture was left out, by its number.
        mean, std: of ``train``.
        fingerprints: of the set, by the digest of its labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: int
    modified_ns: int
    unreadable: dict[int, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprints: dict[str, str] = {}


def entry_key(paths: Sequence[str], layout: Layout) -> str:
    """Return what an entry is called: a digest of the files, as they are now, and of what becomes of them.

    A file that is not there counts as such, so that the entry is another one when it comes back.
    """
    digest = hashlib.sha256(f"{_RULES}".encode())
    for region in layout.regions:
        digest.update(f"\0{region.split} {region.count} {_policy(region.spec)}".encode())
    for path in paths:
        size, modified = _state(path)
        whole = path if os.path.isabs(path) else os.path.abspath(path)  # which takes longer than all the rest
        digest.update(f"\0{whole}\0{size} {modified}".encode())
    return digest.hexdigest()[:32]


def _policy(spec: InputSpec) -> str:
    return f"{spec.shape} {spec.resize} {spec.interpolation}"


def _state(path: str) -> tuple[int, int]:
    try:
        now = os.stat(path)
    except OSError:
        return -1, -1
    return now.st_size, now.st_mtime_ns


@final
class Entry:
    """An entry's folder. Who uses its pictures shares a lock on them; who writes or removes them has it alone.

    Args:
        folder: of the entry, there or not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures_file = folder / "pictures"
        self._journal_file = folder / "journal"
        self._record_file = folder / "record.json"
        self._name_file = folder / "name"

    @contextlib.contextmanager
    def locked(self, *, alone: bool, wait: bool = True) -> Iterator[int]:
        """Yield the descriptor of the pictures, locked; a mapping made of it keeps the lock after that.

        Raises:
            BlockingIOError: somebody else has it, and ``wait`` is False.
            OSError: the folder or its files cannot be made.
        """
        descriptor = self._open_locked(fcntl.LOCK_EX if alone else fcntl.LOCK_SH, wait)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_locked(self, kind: int, wait: bool) -> int:
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                # Who only reads them needs no permission to write: a cache may be somebody else's.
                access = os.O_RDWR if kind == fcntl.LOCK_EX else os.O_RDONLY
                descriptor = os.open(self.pictures_file, access | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue  # somebody removed the folder in between
            try:
                self._lock(descriptor, kind, wait)
                # Whoever had the lock may have removed the file that it was on.
                if self.pictures_file.exists() and os.path.samestat(os.fstat(descriptor), self.pictures_file.stat()):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _lock(self, descriptor: int, kind: int, wait: bool) -> None:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            _LOGGER.warning("Waiting for another process that is decoding these pictures.")
            fcntl.flock(descriptor, kind)

    def share(self, descriptor: int) -> None:
        """Let others in: what was locked alone is shared from now on."""
        fcntl.flock(descriptor, fcntl.LOCK_SH)

    def record(self) -> Record | None:
        """Return what is known of the entry, None where it is not whole."""
        try:
            return Record.model_validate_json(self._record_file.read_bytes())
        except (OSError, ValidationError):
            return None

    def write_record(self, record: Record) -> None:
        """Write down that the entry is whole."""
        files.write_text(self._record_file, record.model_dump_json())

    def remember(self, record: Record) -> None:
        """Write down what else became known of a whole entry, where that is possible."""
        with contextlib.suppress(FileError):
            self.write_record(record)

    def whole(self, descriptor: int, layout: Layout) -> Record | None:
        """Return the record where the pictures are what was written; None where they are not or not yet.

        A file that was written to since is read once, to see whether its pictures are still the same.
        """
        record, now = self.record(), os.fstat(descriptor)
        if record is None or now.st_size != layout.size:
            return None
        if now.st_mtime_ns != record.modified_ns:
            if len(self.intact(FileStore(descriptor), layout)) < len(layout.blocks()):
                return None
            record = record.model_copy(update={"modified_ns": now.st_mtime_ns})
            self.remember(record)
        return record

    def begin(self, name: str, descriptor: int, layout: Layout) -> None:
        """Make room for all pictures of a data set. The entry is not whole until its next record.

        Raises:
            OSError: the disk has no room.
        """
        self._record_file.unlink(missing_ok=True)
        self._name_file.write_text(name, encoding="utf-8")
        if os.fstat(descriptor).st_size > layout.size:
            os.ftruncate(descriptor, layout.size)
        os.posix_fallocate(descriptor, 0, layout.size)

    @contextlib.contextmanager
    def filled(self, name: str, descriptor: int, layout: Layout) -> Iterator[None]:
        """Begin, let the caller write all pictures, and say what went wrong; of a full disk nothing is left.

        Raises:
            FileError: they cannot be written, or somebody removed them.
        """
        try:
            self.begin(name, descriptor, layout)
            yield
        except FileNotFoundError as error:
            raise FileError(
                f"The pictures of {name} were removed from {self.folder.parent} while they were decoded. Start again."
            ) from error
        except OSError as error:
            self.remove_alone()
            raise FileError(
                f"Cannot write the pictures of {name} to {self.folder.parent}: {error.strerror}; they take "
                f"{machine.in_words(layout.size)}. Free some space, or name another folder with STRIATE_CACHE."
            ) from error

    def note(self, notes: Sequence[Note]) -> None:
        """Add blocks to the journal, whose bytes are synced."""
        self._append(notes)

    def note_changed(self, store: FileStore, layout: Layout, rows: set[int]) -> None:
        """Note again the blocks that hold rows which were written to since."""
        known = self._noted()
        changed = [block for block in layout.blocks() if not rows.isdisjoint(block)]
        self._append(
            [known[block.start]._replace(checksum=_checksum(_stored(store, layout, block))) for block in changed]
        )

    def intact(self, store: FileStore, layout: Layout) -> dict[int, dict[int, str]]:
        """Return the blocks that are in the file as the journal says: the unreadable pictures by the first number."""
        noted = self._noted()
        return {
            block.start: noted[block.start].unreadable
            for block in layout.blocks()
            if block.start in noted and noted[block.start].checksum == _checksum(_stored(store, layout, block))
        }

    def _append(self, notes: Sequence[Note]) -> None:
        """Add lines at once. A line that a kill cut short is ended first, so that it spoils no other."""
        with open(self._journal_file, "ab") as journal:
            journal.write("".join(f"\n{json.dumps(note)}\n" for note in notes).encode())

    def _noted(self) -> dict[int, Note]:
        """Return what the journal's last line about each block says, by its first number."""
        noted = {}
        with contextlib.suppress(OSError):
            for line in self._journal_file.read_bytes().splitlines():
                with contextlib.suppress(ValueError, TypeError, AttributeError):
                    first, checksum, unreadable = json.loads(line)
                    noted[first] = Note(first, checksum, {int(key): reason for key, reason in unreadable.items()})
        return noted

    def name(self) -> str:
        """Return the name of the data set; empty where not even its first picture was decoded."""
        with contextlib.suppress(OSError, ValueError):
            return self._name_file.read_text(encoding="utf-8")
        return ""

    def used_at(self) -> float:
        """Return when the entry was last used, in seconds since 1970."""
        with contextlib.suppress(OSError):
            return max(path.stat().st_mtime for path in (self.folder, self._record_file) if path.exists())
        return 0.0

    def touch(self) -> None:
        """Remember that the entry is used now."""
        with contextlib.suppress(OSError):
            os.utime(self.folder)

    def size(self) -> int:
        """Return the bytes that the entry takes on disk."""
        with contextlib.suppress(OSError):
            return sum(path.stat().st_blocks * 512 for path in self.folder.iterdir())
        return 0

    def remove_alone(self) -> None:
        """Remove the entry, whose lock the caller has alone."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def leave_to_others(self) -> None:
        """Take away the names of a damaged entry that others still use: theirs stays until they end, ours is new."""
        for path in (self._record_file, self._journal_file, self.pictures_file):
            path.unlink(missing_ok=True)

    def remove(self) -> bool:
        """Remove the entry, unless somebody uses it or is making it; return whether it went."""
        if not self.folder.is_dir():
            return False
        try:
            with self.locked(alone=True, wait=False):
                self.remove_alone()
        except OSError:
            return False
        return True


def _stored(store: FileStore, layout: Layout, block: range) -> Iterator[Any]:
    for region in layout.regions_of(block.start):
        yield store.read(len(block) * region.picture_bytes, region.place(block.start))


def _checksum(parts: Iterator[Any]) -> int:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return checksum
