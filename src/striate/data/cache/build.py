"""Decoding block by block: what is decoded is written while the next block is being decoded."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.cache.layout import Layout, Region, Store
from striate.data.decode import decode_in_turn, decoding_threads

_REFRESH_SECONDS = 0.2


@final
@dataclass(frozen=True, eq=False)
class Block:
    """Decoded pictures.

    Args:
        numbers: of the pictures.
        rows: for each region that they are in, (B, C, H, W) uint8.
        unreadable: why, by number; their rows are zero.
    """

    numbers: range
    rows: list[tuple[Region, NDArray[np.uint8]]]
    unreadable: dict[int, str]


def decode_blocks(files: Sequence[str], layout: Layout, blocks: Iterable[range]) -> Iterator[Block]:
    """Yield the blocks in their order; as many are decoded at once as PyTorch uses threads, each by one of its own."""
    at_once = torch.get_num_threads()

    def decode(numbers: range) -> Block:
        rows = [
            (region, np.empty((len(numbers), *region.spec.shape), dtype=np.uint8))
            for region in layout.regions_of(numbers.start)
        ]
        targets = [(region.spec, array) for region, array in rows]
        failures = decode_in_turn([files[number] for number in numbers], targets)
        return Block(numbers, rows, {numbers[position]: reason for position, reason in failures.items()})

    waiting: deque[Future[Block]] = deque()
    with decoding_threads(at_once) as pool:
        try:
            for numbers in blocks:
                waiting.append(pool.submit(decode, numbers))
                if len(waiting) > 2 * at_once:  # what waits for its turn keeps the threads busy
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def write_block(store: Store, block: Block) -> None:
    """Write a block's pictures to their places."""
    for region, rows in block.rows:
        store.write(rows, region.place(block.numbers.start))


def kept_numbers(first: int, count: int, unreadable: Mapping[int, str]) -> NDArray[np.int64]:
    """Return which picture is in each row of a split once its unreadable ones are closed over by its last ones.

    Only as many pictures move as cannot be read, and every split stays one piece.

    Args:
        first, count: the split's pictures.
        unreadable: by number.
    """
    missing = [number for number in unreadable if first <= number < first + count]
    left = count - len(missing)
    kept = np.arange(first, first + left)
    movable = [number for number in range(first + left, first + count) if number not in unreadable]
    kept[[number - first for number in sorted(missing) if number < first + left]] = movable
    return kept


def close_over(store: Store, layout: Layout, unreadable: Mapping[int, str]) -> set[int]:
    """Move pictures into the rows of unreadable ones as ``kept_numbers`` says; return the rows written to."""
    changed = set()
    for region in layout.regions:
        for row, number in enumerate(kept_numbers(region.first, region.count, unreadable).tolist()):
            if number != region.first + row:
                picture = store.read(region.picture_bytes, region.place(number))
                store.write(np.frombuffer(picture, dtype=np.uint8), region.place(region.first + row))
                changed.add(region.first + row)
    return changed


@contextlib.contextmanager
def decoding_bar(name: str, pictures: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many pictures more are done; a terminal is shown a bar with the rate."""
    if not sys.stderr.isatty() or pictures == done:
        yield lambda count: None
        return
    from rich.console import Console  # rich takes 30 ms to import, and nobody else of this stage needs it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("decoding {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task(name, total=pictures, completed=done)
        drawn = 0.0

        def advance(count: int) -> None:
            nonlocal drawn
            now = time.monotonic()
            bar.update(task, advance=count, refresh=now - drawn > _REFRESH_SECONDS)
            drawn = now if now - drawn > _REFRESH_SECONDS else drawn

        yield advance
