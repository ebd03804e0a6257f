"""A folder of pictures: ``ROOT/CLASS/*``, or ``ROOT/{train,val|validation,test}/CLASS/*``."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, final

import torch
from torch import Tensor

from striate.core import machine
from striate.core.errors import DataError, suggest
from striate.core.spec import InputSpec, Resize
from striate.data.assemble import from_parts, unmeasured
from striate.data.decode import EXTENSIONS, Header, read_header, read_pictures
from striate.data.imageset import ImageSet, Origins
from striate.data.sources.classes import check_classes
from striate.data.splits import divide

DEFAULT_SIDE = 96

_SPLIT_NAMES = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
_LAYOUT = "ROOT/CLASS/* or ROOT/{train,val,test}/CLASS/*"


@final
@dataclass(frozen=True)
class Listing:
    """The picture files of a folder, before any is opened.

    Args:
        files: by split, the paths.
        labels: by split, (N,) int64.
        class_names: the names of the class folders, sorted.
    """

    files: dict[str, list[str]]
    labels: dict[str, Tensor]
    class_names: tuple[str, ...]


def read_folder(
    root: Path,
    *,
    name: str,
    seed: int,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
    origin: dict[str, object] | None = None,
) -> ImageSet:
    """Return the pictures of a folder as an ImageSet.

    Args:
        size: (height, width) in pixels. None: the size of the pictures where they share one of at most 96,
            else 96×96, or the longest side where that is less.
        channels: 1 or 3. None: 1 where every picture is grey, else 3.
        class_names: the classes in another order than the sorted one; every class folder must be among them.
        seed, name, origin: see ``from_tensors``.

    Raises:
        DataError: no classes or pictures, a class too small, pictures that cannot be read, or more of them
            than memory.
    """
    listing = list_folder(root, class_names)
    wanted = _wanted(listing, size, channels, resize)
    _check_memory(sum(map(len, listing.files.values())), wanted, root)
    return from_parts(
        name,
        divide(listing.labels, seed),
        listing.labels,
        listing.class_names,
        wanted,
        images_of=lambda part: read_pictures(
            [listing.files[part.source][number] for number in part.index.tolist()], wanted
        ),
        origins_of=lambda part: Origins(listing.files[part.source].__getitem__, part.index),
        origin=origin,
    )


def list_folder(root: Path, class_names: Sequence[str] | None = None) -> Listing:
    """Find the picture files of a folder, by class and path; hidden ones and other endings are left out.

    Raises:
        DataError: not one of the two layouts, no pictures, or a class too small or unknown.
    """
    root = _unwrapped(root)
    splits = _split_folders(root)
    folders = {split: {path.name: path for path in _folders_in(path)} for split, path in splits.items()}
    names = tuple(class_names) if class_names is not None else tuple(sorted(folders["train"]))
    if not names:
        raise DataError(_no_classes(splits["train"]))
    files: dict[str, list[str]] = {}
    labels: dict[str, Tensor] = {}
    for split, by_class in folders.items():
        _check_known(by_class, names, splits[split])
        found = [_pictures_in(by_class[one]) if one in by_class else [] for one in names]
        files[split] = [file for pictures in found for file in pictures]
        labels[split] = torch.repeat_interleave(torch.tensor([len(pictures) for pictures in found]))
    if not files["train"]:
        raise DataError(f"{splits['train']} must hold pictures ({', '.join(sorted(EXTENSIONS))}), got none.")
    check_classes(labels["train"], names, str(splits["train"]))
    return Listing(files, labels, names)


def _unwrapped(root: Path) -> Path:
    """Step into a folder that holds nothing but one folder of folders, as archives often do."""
    folders = _folders_in(root)
    while len(folders) == 1 and _folders_in(folders[0]) and not _pictures_in(root, deep=False):
        root = folders[0]
        folders = _folders_in(root)
    return root


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split; where the folders of ``root`` are classes, all is ``train``."""
    folders = _folders_in(root)
    if not folders or any(path.name.lower() not in _SPLIT_NAMES for path in folders):
        return {"train": root}
    splits: dict[str, Path] = {}
    for path in folders:
        split = _SPLIT_NAMES[path.name.lower()]
        if split in splits:
            raise DataError(f"{root} must have one {split} folder, got {splits[split].name!r} and {path.name!r}.")
        splits[split] = path
    if "train" not in splits:
        raise DataError(f"{root} must have a folder 'train' beside {folders[0].name!r}.")
    return splits


def _folders_in(folder: Path) -> list[Path]:
    """Return the visible folders, sorted by name."""
    with _readable(folder), os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.is_dir() and not _is_hidden(entry.name)]
    return sorted(found)


def _pictures_in(folder: Path, deep: bool = True) -> list[str]:
    """Return the visible files with a picture's ending, those of folders inside included, sorted."""
    found: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if deep and not _is_hidden(name)]
        found += [
            os.path.join(parent, name)
            for name in names
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not _is_hidden(name)
        ]
    return sorted(found)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    raise DataError(
        f"Cannot read the folder {error.filename}: {error.strerror}. Check its permissions, or name another."
    ) from error


def _check_known(found: Iterable[str], names: Sequence[str], folder: Path) -> None:
    unknown = sorted(set(found) - set(names))
    if unknown:
        raise DataError(
            f"{folder} must have class folders among the {len(names)} of train, got {unknown[0]!r}."
            f"{suggest(unknown[0], names)}"
        )


def _no_classes(folder: Path) -> str:
    pictures = len(_pictures_in(folder))
    if pictures:
        return f"{folder} must have one folder per class ({_LAYOUT}), got {pictures:,} pictures and no folder."
    return f"{folder} must hold pictures in one folder per class ({_LAYOUT}), got an empty folder."


def _wanted(listing: Listing, size: tuple[int, int] | None, channels: int | None, resize: Resize) -> InputSpec:
    """Return the InputSpec; what was not asked for is decided by the headers of all pictures."""
    if size is None or channels is None:
        headers = _decisive_headers(listing, size is None, channels is None)
        size = size or _default_size(headers)
        channels = channels or (1 if headers and all(header.grey for header in headers) else 3)
    return unmeasured(channels, *size, resize)


def _decisive_headers(listing: Listing, for_size: bool, for_channels: bool) -> list[Header]:
    """Read headers until they decide: a large colour picture is enough. Unreadable ones wait for later."""
    headers: list[Header] = []
    large, colour = not for_size, not for_channels
    for file in (file for files in listing.files.values() for file in files):
        with contextlib.suppress(DataError):
            header = read_header(file)
            headers.append(header)
            large = large or max(header.height, header.width) > DEFAULT_SIDE
            colour = colour or not header.grey
        if large and colour:
            break
    return headers


def _default_size(headers: Sequence[Header]) -> tuple[int, int]:
    sizes = {(header.height, header.width) for header in headers}
    longest = max((max(size) for size in sizes), default=DEFAULT_SIDE)
    if len(sizes) == 1 and longest <= DEFAULT_SIDE:
        return next(iter(sizes))
    return (min(longest, DEFAULT_SIDE),) * 2


def _check_memory(pictures: int, wanted: InputSpec, root: Path) -> None:
    needed, free = pictures * math.prod(wanted.shape), machine.available_memory()
    if needed > free:
        raise DataError(
            f"The {pictures:,} pictures of {root} take {machine.in_words(needed)} "
            f"at {wanted.height}×{wanted.width}; {machine.in_words(free)} of memory are free. "
            "Try a smaller --size."
        )
