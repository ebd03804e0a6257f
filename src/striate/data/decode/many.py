"""Many picture files become one uint8 array: decoded by threads, straight to where they stay."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.errors import DataError, first_lines
from striate.core.spec import InputSpec
from striate.data.decode.picture import decode_for
from striate.data.memory import check_memory
from striate.data.preprocess import part_seen, resize_part

_MOST_PER_TASK = 32
_MOST_WAITING = 2**23  # bytes of decoded pictures; resizing them takes five times as much for a moment
_SETTING_THREADS = threading.Lock()


def read_pictures(paths: Sequence[str | Path], spec: InputSpec, threads: int | None = None) -> Tensor:
    """Decode and resize pictures into one batch, in the order of ``paths``.

    Args:
        spec: the size, channels and policy of the resize.
        threads: how many decode at once; None for as many as PyTorch uses.

    Returns:
        (N, C, H, W) uint8.

    Raises:
        DataError: pictures that cannot be read: the first five are named, with the count; or more than
            memory takes.
    """
    check_memory(len(paths), spec, "to be read", "Read fewer at once.")
    images = np.empty((len(paths), *spec.shape), dtype=np.uint8)
    failures = decode_into(paths, [(spec, images)], threads=threads)
    _check_failures([failures[number] for number in sorted(failures)], len(paths))
    return torch.from_numpy(images)


def decode_into(
    sources: Sequence[str | Path | bytes],
    targets: Sequence[tuple[InputSpec, NDArray[np.uint8]]],
    *,
    threads: int | None = None,
) -> dict[int, str]:
    """Decode pictures by threads straight into arrays, each at one size or at several.

    Every target holds exactly what ``resize_to_uint8(decode_picture(source, spec), spec)`` is; a picture is decoded
    once for all targets that want the same pixels of it.

    Args:
        sources: N files, or the bytes of files.
        targets: for each wanted size, its spec and the array to fill, (N, C, H, W) uint8; it may be memory-mapped.
        threads: how many decode at once; None for as many as PyTorch uses.

    Returns:
        For every picture that cannot be read, its position and the sentence that says why; its rows are zero.

    Raises:
        DataError: an array of another shape than (N, C, H, W) of its spec, or of another type than uint8.
    """
    for spec, rows in targets:
        _check_target(len(sources), spec, rows)
    workers = threads or torch.get_num_threads()
    size = max(1, min(_MOST_PER_TASK, -(-len(sources) // (4 * workers))))
    starts = range(0, len(sources), size)

    def decode(start: int) -> dict[int, str]:
        part = slice(start, start + size)
        failures = decode_in_turn(sources[part], [(spec, rows[part]) for spec, rows in targets])
        return {start + position: reason for position, reason in failures.items()}

    pool = decoding_threads(min(workers, len(starts)))
    try:
        return {position: reason for part in pool.map(decode, starts) for position, reason in part.items()}
    finally:
        pool.shutdown(cancel_futures=True)  # after an interruption nobody waits for the rest


def decoding_threads(count: int) -> ThreadPoolExecutor:
    """Return threads to decode in; the decoders release the interpreter's lock."""
    with _SETTING_THREADS:
        usual = torch.get_num_threads()
    return ThreadPoolExecutor(max(1, count), initializer=_use_one_thread, initargs=(usual,))


@torch.inference_mode()
def decode_in_turn(
    sources: Sequence[str | Path | bytes], targets: Sequence[tuple[InputSpec, NDArray[np.uint8]]]
) -> dict[int, str]:
    """Decode pictures one after another in this thread, one of ``decoding_threads``; see ``decode_into``."""
    specs = [spec for spec, _ in targets]
    resizing = [_Resizing(spec, rows) for spec, rows in targets]
    failures: dict[int, str] = {}
    for number, source in enumerate(sources):
        try:
            pictures = decode_for(source, specs)
        except DataError as error:
            failures[number] = str(error)
            for _, rows in targets:
                rows[number] = 0
            continue
        for one, picture in zip(resizing, pictures, strict=True):
            one.add(number, picture)
    for one in resizing:
        one.finish()
    return failures


class _Resizing:
    """Resizes some pictures of the same size at once: a thread that calls less often waits less for the others."""

    def __init__(self, spec: InputSpec, rows: NDArray[np.uint8]) -> None:
        self._spec, self._rows = spec, rows
        self._waiting: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = {}
        self._bytes = 0

    def add(self, number: int, pixels: NDArray[np.uint8]) -> None:
        """Take the picture (h, w, C) for row ``number``."""
        height, width, _ = pixels.shape
        part = pixels[part_seen(height, width, self._spec)]
        self._waiting.setdefault(part.shape, []).append((number, part))
        self._bytes += pixels.size  # all of it stays for as long as a part does
        if self._bytes > _MOST_WAITING:
            self.finish()

    def finish(self) -> None:
        """Resize what waits, and forget it."""
        for same in self._waiting.values():
            numbers, parts = zip(*same, strict=True)
            together = np.stack(parts) if len(parts) > 1 else parts[0][None]  # of a large one there is no second copy
            self._rows[list(numbers)] = resize_part(torch.from_numpy(together).permute(0, 3, 1, 2), self._spec).numpy()
        self._waiting.clear()
        self._bytes = 0


def _use_one_thread(usual: int) -> None:
    """Keep PyTorch to this thread: a team of its own for every decoding thread would be in the others' way.

    PyTorch sets the number for the thread that asks and for all that are still to start. A thread that ends at once
    asks for what is usual again, for the latter. A thread starts, in this sense, when it first asks for the number.
    """
    with _SETTING_THREADS:
        torch.get_num_threads()
        torch.set_num_threads(1)
        again = threading.Thread(target=torch.set_num_threads, args=(usual,))
        again.start()
        again.join()


def _check_failures(failures: Sequence[str], pictures: int) -> None:
    if len(failures) == 1:
        raise DataError(failures[0])
    if failures:
        raise DataError(f"{len(failures):,} of {pictures:,} pictures cannot be read:\n{first_lines(failures)}")


def _check_target(pictures: int, spec: InputSpec, rows: NDArray[np.uint8]) -> None:
    if rows.dtype != np.uint8 or rows.shape != (pictures, *spec.shape):
        raise DataError(
            f"The array to decode into must be uint8 of shape {(pictures, *spec.shape)}, "
            f"got {rows.dtype} of shape {rows.shape}."
        )
