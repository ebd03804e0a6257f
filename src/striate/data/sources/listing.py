"""Picture files with their labels, however they were listed, become an ImageSet."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from striate.core.errors import DataError, listed
from striate.core.spec import InputSpec, Resize
from striate.data.assemble import DEFAULT_SIDE, enlarged, join_parts, unmeasured
from striate.data.balance import class_counts
from striate.data.cache.pictures import prepare_pictures
from striate.data.decode import Header, read_header
from striate.data.imageset import ImageSet, Origins, Split, fingerprint_of
from striate.data.splits import SPLITS, Part, check_held_out, divide


@final
@dataclass(frozen=True)
class Listing:
    """The picture files of a folder or a table, before any is opened.

    Args:
        files: by split, the paths; ``train`` is among them.
        labels: by split, (N,) int64, or (N, K) uint8 where a picture may have several classes.
        class_names: K names, in the order of the labels.
        groups: by split, (N,) int64; None where nobody says which pictures belong together.
        stays: (N,) bool, the pictures of ``train`` that are never held out; None where every one may be.
    """

    files: dict[str, list[str]]
    labels: dict[str, Tensor]
    class_names: tuple[str, ...]
    groups: dict[str, Tensor] | None = None
    stays: Tensor | None = None

    def files_of(self, part: Part) -> list[str]:
        """Return the paths of a part of a split."""
        return [self.files[part.source][number] for number in part.index.tolist()]


def read_listing(
    listing: Listing,
    *,
    name: str,
    seed: int,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize = "crop",
    like: InputSpec | None = None,
    stored_size: float = 1.0,
    skip_unreadable: bool = False,
    origin: Mapping[str, object] | None = None,
) -> ImageSet:
    """Return listed pictures as an ImageSet, decoded once and memory-mapped from the cache.

    Args:
        size: (height, width) in pixels. None: the most height and the most width of the pictures where all are of at
            most 96, which is their size where they share one; else 96×96. Those of test are not asked.
        channels: 1 or 3. None: 1 where every picture of train and val is grey, else 3.
        stored_size: how many times as large the training pictures are kept besides, for crops; 1 for not at all.
        skip_unreadable: leave out pictures that cannot be read, with a warning, and do not refuse them.
        like, seed, name, origin: see ``from_tensors``.

    Raises:
        DataError: pictures that cannot be read, or more of them than memory where they cannot be cached.
        FileError: the disk of the cache is full.
    """
    parts = divide(listing.labels, seed, groups=listing.groups, stays=listing.stays)
    chosen_with = listing.files_of(parts["train"]) + listing.files_of(parts["val"])
    wanted = like or _wanted(chosen_with, size, channels, resize)
    check_held_out(parts, listing.labels, listing.class_names, listing.groups, name)
    files: dict[str, list[str]] = {split: listing.files_of(parts[split]) for split in SPLITS}
    pictures = prepare_pictures(name, files, wanted, enlarged(wanted, stored_size), skip_unreadable=skip_unreadable)
    parts = {split: Part(part.source, part.index[pictures.kept[split]]) for split, part in parts.items()}
    _check_still_there(listing, parts["train"], name)

    def fingerprint(train: Split, val: Split) -> str:
        labels = {"train": train.labels, "val": val.labels}
        return pictures.fingerprint(labels, listing.class_names, lambda: fingerprint_of(train, val))

    return join_parts(
        name,
        parts,
        pictures.images,
        listing.labels,
        listing.class_names,
        like or wanted.model_copy(update={"mean": pictures.mean, "std": pictures.std}),
        origins_of=lambda part: Origins(listing.files[part.source].__getitem__, part.index),
        groups=listing.groups,
        stored=pictures.stored,
        fingerprint=fingerprint,
        origin=origin,
    )


def _check_still_there(listing: Listing, train: Part, name: str) -> None:
    """Refuse to train on a class whose every picture was left out."""
    labels, classes = listing.labels["train"], len(listing.class_names)
    gone = (class_counts(labels, classes) > 0) & (class_counts(labels[train.index], classes) == 0)
    if gone.any():
        names = listed([listing.class_names[number] for number in gone.nonzero().flatten().tolist()])
        raise DataError(
            f"Each class of {name} must have a picture to train on that can be read, and {names} has none. "
            "Copy its pictures again, or remove the class."
        )


def _wanted(files: Sequence[str], size: tuple[int, int] | None, channels: int | None, resize: Resize) -> InputSpec:
    """Return the InputSpec; what was not asked for is decided by the headers of these pictures."""
    if size is None or channels is None:
        headers = _decisive_headers(files, size is None, channels is None)
        size = size or default_size([(header.height, header.width) for header in headers])
        channels = channels or (1 if headers and all(header.grey for header in headers) else 3)
    return unmeasured(channels, *size, resize)


def _decisive_headers(files: Sequence[str], for_size: bool, for_channels: bool) -> list[Header]:
    """Read headers until they decide: a large colour picture is enough. Unreadable ones wait for later."""
    headers: list[Header] = []
    large, colour = not for_size, not for_channels
    for file in files:
        with contextlib.suppress(DataError):
            header = read_header(file)
            headers.append(header)
            large = large or max(header.height, header.width) > DEFAULT_SIDE
            colour = colour or not header.grey
        if large and colour:
            break
    return headers


def default_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the (height, width) for pictures of these sizes, where none was asked for: see ``read_listing``."""
    height, width = map(max, zip(*sizes or [(DEFAULT_SIDE,) * 2], strict=True))
    # A square of the longest side would cut the halves off small pictures that are all wide, such as pairs of digits.
    return (height, width) if max(height, width) <= DEFAULT_SIDE else (DEFAULT_SIDE,) * 2
