"""The pictures that an audit is about, of all splits in one row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from striate.data.audit.examine import SIDE, Record, examine
from striate.data.audit.likeness import LEAST_CONTRAST, contrast
from striate.data.balance import class_counts
from striate.data.imageset import ImageSet
from striate.data.sources.listing import Listing

_AT_ONCE = 1024  # pictures


@final
@dataclass(frozen=True, eq=False)
class Material:
    """N pictures with what an audit looks at.

    Args:
        names: N, short.
        splits: the names of the splits, in the order train, val, test.
        split: (N,) which of them each is in.
        labels: (N,) int64, or (N, K) uint8 where a picture may have several classes.
        class_names: K.
        groups: (N,) int64, or None where unknown.
        records: of N files; None where pictures are not files.
        thumbnails: (N, C, h, w) uint8, of at most 32×32.
    """

    names: Sequence[str]
    splits: tuple[str, ...]
    split: NDArray[np.int64]
    labels: Tensor
    class_names: tuple[str, ...]
    groups: Tensor | None
    records: Sequence[Record] | None
    thumbnails: Tensor

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """(N,) whether each picture can be read."""
        if self.records is None:
            return np.ones(len(self.names), dtype=bool)
        return np.array([not record.problem for record in self.records], dtype=bool)

    @cached_property
    def blank(self) -> NDArray[np.bool_]:
        """(N,) whether each picture can be read and is of one brightness nearly everywhere."""
        return np.asarray(self.usable & (contrast(self.thumbnails) < LEAST_CONTRAST))

    @cached_property
    def label(self) -> NDArray[np.int64]:
        """(N,) a number for the label of each, the same for the same label or set of labels."""
        if self.labels.ndim == 1:
            return np.asarray(self.labels.numpy())
        return np.asarray(np.unique(self.labels.numpy(), axis=0, return_inverse=True)[1]).reshape(-1)

    def label_name(self, picture: int) -> str:
        """Return the class, or the classes, of a picture."""
        row = self.labels[picture]
        if row.ndim == 0:
            return self.class_names[int(row)]
        return " + ".join(self.class_names[one] for one in row.nonzero().flatten().tolist()) or "none"

    def counts(self) -> NDArray[np.int64]:
        """Return (splits, K) how many pictures of each class each split has."""
        own = (self.labels[torch.from_numpy(self.split == number)] for number in range(len(self.splits)))
        return torch.stack([class_counts(labels, len(self.class_names)) for labels in own]).numpy()


def of_listing(listing: Listing) -> Material:
    """Read the files of a listing; its splits are those that the source has."""
    splits = tuple(split for split in ("train", "val", "test") if split in listing.files)
    files = [file for split in splits for file in listing.files[split]]
    records, thumbnails = examine(files)
    return Material(
        _short(files),
        splits,
        np.repeat(np.arange(len(splits)), [len(listing.files[split]) for split in splits]),
        torch.cat([listing.labels[split] for split in splits]),
        listing.class_names,
        None if listing.groups is None else torch.cat([listing.groups[split] for split in splits]),
        records,
        thumbnails,
    )


def of_images(images: ImageSet) -> Material:
    """Take the pictures of an ImageSet, test included, as they are in memory."""
    splits = (images.train, images.val, images.test)
    groups = [split.groups for split in splits if split.groups is not None]
    return Material(
        _short([origin for split in splits for origin in split.origins]),
        ("train", "val", "test"),
        np.repeat(np.arange(3), [len(split) for split in splits]),
        torch.cat([split.labels for split in splits]),
        images.spec.task.class_names,
        torch.cat(groups) if len(groups) == len(splits) else None,
        None,
        torch.cat([thumbnails_of(split.images) for split in splits]),
    )


def thumbnails_of(images: Tensor) -> Tensor:
    """Return pictures made smaller, antialiased: (N, C, h, w) uint8 with h and w of at most 32."""
    size = (min(SIDE, images.shape[-2]), min(SIDE, images.shape[-1]))
    if images.shape[-2:] == size:
        return images
    small = torch.empty((*images.shape[:2], *size), dtype=torch.uint8)
    for start in range(0, len(images), _AT_ONCE):  # of memory-mapped pictures, no more than these are in memory
        piece = images[start : start + _AT_ONCE]
        small[start : start + _AT_ONCE] = interpolate(piece, size, mode="bilinear", antialias=True)
    return small


def _short(files: Sequence[str]) -> list[str]:
    """Return names without the folder that all of them are in."""
    split = [os.path.split(file) for file in files]
    folders = {folder for folder, _ in split}
    shared = os.path.commonpath(folders) if folders and len(set(map(os.path.isabs, folders))) == 1 else ""
    if not shared:
        return list(files)
    inner = {folder: Path(os.path.relpath(folder, shared), "_").as_posix()[:-1] for folder in folders}
    return [inner[folder] + name for folder, name in split]
