"""Where each picture lies in a file of decoded pictures, and where such a file is kept: on disk or in memory."""

from __future__ import annotations

import math
import mmap
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.spec import InputSpec

# A block is decoded, synced and counted as a whole: what a kill costs at most, twice over.
_BLOCK_PICTURES = 64
_BLOCK_BYTES = 8 << 20
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0  # <sys/mman.h>; Python names it from 3.13


@final
@dataclass(frozen=True)
class Region:
    """Pictures of one split at one size, one after another.

    Args:
        split: its name.
        spec: the size and channels of each.
        first: the number of the first picture, counted over all splits; ``count`` pictures follow.
        offset: where the first one begins, in bytes.
    """

    split: str
    spec: InputSpec
    first: int
    count: int
    offset: int

    @property
    def picture_bytes(self) -> int:
        """The bytes of one picture."""
        return math.prod(self.spec.shape)

    @property
    def end(self) -> int:
        """Where the next region may begin, in bytes."""
        return self.offset + self.count * self.picture_bytes

    def place(self, number: int) -> int:
        """Return where a picture begins, in bytes."""
        return self.offset + (number - self.first) * self.picture_bytes


@final
@dataclass(frozen=True)
class Layout:
    """All regions of a file: every split at the network's size, then ``train`` larger where it is wanted so."""

    regions: tuple[Region, ...]

    @classmethod
    def of(cls, counts: Mapping[str, int], wanted: InputSpec, stored: InputSpec | None) -> Layout:
        """Return the layout for so many pictures of each split."""
        regions: list[Region] = []
        first = 0
        for split, count in counts.items():
            regions.append(Region(split, wanted, first, count, _page_after(regions)))
            first += count
        if stored is not None:
            train = next(region for region in regions if region.split == "train")
            regions.append(Region("train", stored, train.first, train.count, _page_after(regions)))
        return cls(tuple(regions))

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return self.regions[-1].end

    @property
    def pictures(self) -> int:
        """How many pictures there are, each counted once."""
        return sum(len(block) for block in self.blocks())

    def blocks(self) -> list[range]:
        """Return the numbers of the pictures that are decoded together; none of them crosses the end of a split."""
        found = []
        for region in {region.first: region for region in reversed(self.regions) if region.count}.values():
            each = sum(one.picture_bytes for one in self.regions_of(region.first))
            step = max(1, min(_BLOCK_PICTURES, _BLOCK_BYTES // each))
            end = region.first + region.count
            found += [range(start, min(start + step, end)) for start in range(region.first, end, step)]
        return sorted(found, key=lambda block: block.start)

    def regions_of(self, number: int) -> list[Region]:
        """Return the regions that a picture is in."""
        return [region for region in self.regions if region.first <= number < region.first + region.count]


class Store(Protocol):
    """What decoded pictures are written to."""

    def write(self, rows: NDArray[np.uint8], offset: int) -> None:
        """Write pictures at a place."""

    def read(self, size: int, offset: int) -> bytes | memoryview:
        """Return what is at a place."""

    def mapped(self) -> mmap.mmap:
        """Return the whole as memory, which may be written to without the store changing."""


@final
class FileStore:
    """A file by its descriptor: writing never goes through a mapping, so that a full disk is an error and no signal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, rows: NDArray[np.uint8], offset: int) -> None:
        """Write pictures at a place."""
        left = np.ascontiguousarray(rows).data.cast("B")
        while left:
            written = os.pwrite(self._descriptor, left, offset)
            left, offset = left[written:], offset + written

    def read(self, size: int, offset: int) -> bytes:
        """Return what is at a place; less where the file ends before."""
        parts = []
        while size and (part := os.pread(self._descriptor, size, offset)):
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
        return b"".join(parts)

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        os.fdatasync(self._descriptor)

    def modified_ns(self) -> int:
        """Return when the file was last written to."""
        return os.fstat(self._descriptor).st_mtime_ns

    def mapped(self) -> mmap.mmap:
        """Return the whole file as private memory; the mapping keeps the file's lock as long as it lives.

        The kernel is not asked to reserve memory for it: the set may be larger than all there is.
        """
        flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
        return mmap.mmap(self._descriptor, 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


@final
class MemoryStore:
    """Memory, where nothing can be written to disk."""

    def __init__(self, size: int) -> None:
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def write(self, rows: NDArray[np.uint8], offset: int) -> None:
        """Write pictures at a place."""
        self._memory[offset : offset + rows.nbytes] = np.ascontiguousarray(rows).data.cast("B")

    def read(self, size: int, offset: int) -> memoryview:
        """Return what is at a place."""
        return memoryview(self._memory)[offset : offset + size]

    def mapped(self) -> mmap.mmap:
        """Return the memory."""
        return self._memory


def view(memory: mmap.mmap, region: Region, count: int) -> Tensor:
    """Return the first ``count`` pictures of a region as (count, C, H, W) uint8; nothing is copied."""
    if count == 0:
        return torch.empty((0, *region.spec.shape), dtype=torch.uint8)
    flat = torch.frombuffer(memory, dtype=torch.uint8, count=count * region.picture_bytes, offset=region.offset)
    return flat.view(count, *region.spec.shape)


def _page_after(regions: list[Region]) -> int:
    return -(-regions[-1].end // mmap.PAGESIZE) * mmap.PAGESIZE if regions else 0
