"""``prepare_pictures``: the pictures of files, decoded once and memory-mapped ever after."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from striate.core import machine
from striate.core.errors import DataError, FileError, first_lines
from striate.core.spec import InputSpec
from striate.data.cache.build import close_over, decode_blocks, decoding_bar, kept_numbers, write_block
from striate.data.cache.entry import Entry, Note, Record, entry_key
from striate.data.cache.layout import FileStore, Layout, MemoryStore, Store, view
from striate.data.cache.limit import cache_limit, make_room, pictures_folder
from striate.data.decode import decoding_threads
from striate.data.memory import check_memory
from striate.data.preprocess import statistics

_LOGGER = logging.getLogger(__name__)
_SYNC_SECONDS = 1.0  # of decoding, which a kill costs at most


@final
@dataclass(frozen=True, eq=False)
class Pictures:
    """Decoded pictures of every split.

    Args:
        images: by split, (N, C, H, W) uint8.
        stored: (N, C, H', W') uint8, those of ``train`` larger; None where not asked for.
        kept: by split, (N,) int64: the number of each picture in the list of files; ascending but for those that
            stand where an unreadable one was.
        mean, std: of ``train``, see ``statistics``.
        entry: where they are on disk; None where they are in memory.
    """

    images: dict[str, Tensor]
    stored: Tensor | None
    kept: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    entry: Entry | None

    def fingerprint(self, labels: Mapping[str, Tensor], class_names: Sequence[str], make: Callable[[], str]) -> str:
        """Return the fingerprint of these pictures with these labels; made once, then remembered with them.

        Args:
            labels: by split, those of the pictures that were kept.
            make: reads every picture for it.
        """
        record = self.entry.record() if self.entry is not None else None
        if self.entry is None or record is None:
            return make()
        digest = hashlib.sha256(repr(tuple(class_names)).encode())
        for split, own in sorted(labels.items()):
            digest.update(f"{split} {own.dtype} {tuple(own.shape)}".encode())
            digest.update(own.contiguous().numpy().data)
        key = digest.hexdigest()[:16]
        if key not in record.fingerprints:
            record = record.model_copy(update={"fingerprints": {**record.fingerprints, key: make()}})
            self.entry.remember(record)
        return record.fingerprints[key]


def prepare_pictures(
    name: str,
    files: Mapping[str, Sequence[str]],
    wanted: InputSpec,
    stored: InputSpec | None = None,
    *,
    skip_unreadable: bool = False,
) -> Pictures:
    """Return the pictures of files, each decoded and resized once and then read from the cache.

    Decoding goes on where it was stopped. Where the cache cannot be written, or may not grow so far, they are decoded
    into memory, with a warning.

    Args:
        name: of the data set.
        files: by split; ``train`` is among them.
        wanted: the size, channels and resize.
        stored: the same, larger, for the pictures of ``train`` to be kept larger besides.
        skip_unreadable: leave out what cannot be read, with a warning.

    Raises:
        DataError: pictures cannot be read: the first five are named, with the count. Or they take more memory than is
            free, where there is no cache.
        FileError: the disk is full.
    """
    paths = [path for own in files.values() for path in own]
    layout = Layout.of({split: len(own) for split, own in files.items()}, wanted, stored)
    try:
        folder = pictures_folder()
    except FileError as error:
        return _in_memory(name, paths, layout, skip_unreadable, str(error).rstrip("."))
    entry = Entry(folder / entry_key(paths, layout))
    try:
        while True:
            with entry.locked(alone=False) as descriptor:
                record = entry.whole(descriptor, layout)
                if record is not None and (skip_unreadable or not record.unreadable):
                    return _opened(entry, descriptor, layout, record, len(paths))
            # Whoever opens a whole entry shares it for as long as it trains, so nobody may wait to have it alone.
            with contextlib.suppress(BlockingIOError), entry.locked(alone=True, wait=False) as descriptor:
                if not make_room(layout.size, entry):
                    entry.remove_alone()
                    break
                record = _built(name, entry, descriptor, paths, layout, skip_unreadable)
                entry.share(descriptor)
                return _opened(entry, descriptor, layout, record, len(paths))
            if record is not None:
                _check_readable(record.unreadable, len(paths), skip=False)
            elif entry.record() is not None:
                entry.leave_to_others()
    except OSError as error:
        return _in_memory(name, paths, layout, skip_unreadable, error.strerror or str(error))
    return _in_memory(name, paths, layout, skip_unreadable, _over_limit(layout))


def _built(
    name: str, entry: Entry, descriptor: int, paths: Sequence[str], layout: Layout, skip_unreadable: bool
) -> Record:
    """Decode what is not in the entry yet, and write the record of the whole."""
    store = FileStore(descriptor)
    with entry.filled(name, descriptor, layout):
        unreadable = _decode_missing(name, entry, store, paths, layout)
        if not skip_unreadable:
            _check_readable(unreadable, len(paths), skip=False)
        changed = close_over(store, layout, unreadable)
        store.sync()
        entry.note_changed(store, layout, changed)
    mean, std = _statistics(store, layout, unreadable)
    record = Record(
        pictures=len(paths) - len(unreadable),
        modified_ns=store.modified_ns(),
        unreadable=unreadable,
        mean=mean,
        std=std,
    )
    entry.write_record(record)
    return record


def _decode_missing(name: str, entry: Entry, store: FileStore, paths: Sequence[str], layout: Layout) -> dict[int, str]:
    """Decode every block that is not in the entry as its journal says, or that holds what could not be read before.

    Returns:
        Why pictures cannot be read, by number.
    """
    done = {start for start, failures in entry.intact(store, layout).items() if not failures}
    missing = [block for block in layout.blocks() if block.start not in done]
    unreadable: dict[int, str] = {}
    unsynced: list[Note] = []
    synced_at = time.monotonic()
    with decoding_bar(name, len(paths), len(paths) - sum(map(len, missing))) as advance:
        for block in decode_blocks(paths, layout, missing):
            write_block(store, block)
            unreadable |= block.unreadable
            unsynced.append(Note.of(block))
            advance(len(block.numbers))
            if time.monotonic() - synced_at > _SYNC_SECONDS:
                store.sync()
                entry.note(unsynced)
                unsynced, synced_at = [], time.monotonic()
    store.sync()
    entry.note(unsynced)
    return unreadable


def _in_memory(name: str, paths: Sequence[str], layout: Layout, skip_unreadable: bool, why: str) -> Pictures:
    """Return the pictures without a cache, where they fit."""
    spec = layout.regions[0].spec
    check_memory(
        len(paths), spec, f"of {name}", f"They cannot be cached: {why}. Try a smaller --size.", needed=layout.size
    )
    _LOGGER.warning("The pictures of %s are decoded into memory, each time anew: %s.", name, why)
    store = MemoryStore(layout.size)
    unreadable: dict[int, str] = {}
    with decoding_bar(name, len(paths)) as advance:
        for block in decode_blocks(paths, layout, layout.blocks()):
            write_block(store, block)
            unreadable |= block.unreadable
            advance(len(block.numbers))
    _check_readable(unreadable, len(paths), skip=skip_unreadable)
    close_over(store, layout, unreadable)
    mean, std = _statistics(store, layout, unreadable)
    return _pictures(store, layout, unreadable, mean, std, None)


def _opened(entry: Entry, descriptor: int, layout: Layout, record: Record, pictures: int) -> Pictures:
    _check_readable(record.unreadable, pictures, skip=True)
    entry.touch()
    return _pictures(FileStore(descriptor), layout, record.unreadable, record.mean, record.std, entry)


def _pictures(
    store: Store,
    layout: Layout,
    unreadable: Mapping[int, str],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    entry: Entry | None,
) -> Pictures:
    memory = store.mapped()
    images: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}
    stored = None
    for region in layout.regions:
        numbers = kept_numbers(region.first, region.count, unreadable)
        rows = view(memory, region, len(numbers))
        if region.split in images:
            stored = rows
        else:
            images[region.split], kept[region.split] = rows, torch.from_numpy(numbers - region.first)
    return Pictures(images, stored, kept, mean, std, entry)


def _statistics(
    store: Store, layout: Layout, unreadable: Mapping[int, str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    train = next(region for region in layout.regions if region.split == "train")
    count = len(kept_numbers(train.first, train.count, unreadable))
    if count == 0:
        raise DataError(f"train must have at least one picture, and none of its {train.count:,} can be read.")
    images = view(store.mapped(), train, count)
    with decoding_threads(min(images.shape[1], torch.get_num_threads())) as pool:  # a channel has figures of its own
        measured = list(pool.map(lambda channel: statistics(images[:, channel, None]), range(images.shape[1])))
    return tuple(mean for (mean,), _ in measured), tuple(std for _, (std,) in measured)


def _check_readable(unreadable: Mapping[int, str], pictures: int, *, skip: bool) -> None:
    """Name what cannot be read: in an error, or where it is to be skipped in a warning."""
    if not unreadable:
        return
    reasons = first_lines([unreadable[number] for number in sorted(unreadable)])
    named = f"{len(unreadable):,} of {pictures:,} pictures cannot be read"
    if skip:
        _LOGGER.warning("%s and are left out:\n%s", named, reasons)
        return
    raise DataError(f"{named}; leave them out with --skip-unreadable (skip_unreadable=True):\n{reasons}")


def _over_limit(layout: Layout) -> str:
    return (
        f"they take {machine.in_words(layout.size)}, and decoded pictures may take {machine.in_words(cache_limit())} "
        "together; STRIATE_CACHE_LIMIT sets how much"
    )
