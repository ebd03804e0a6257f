"""A folder of pictures: ``ROOT/CLASS/*``, or ``ROOT/{train,val|validation,test}/CLASS/*``."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from striate.core.errors import DataError, listed, suggest
from striate.data.decode import EXTENSIONS, UNREAD_EXTENSIONS
from striate.data.sources.classes import check_classes
from striate.data.sources.listing import Listing
from striate.data.splits import SPLIT_NAMES

_LOGGER = logging.getLogger(__name__)
_MOST_LISTED = 5
_LAYOUT = "ROOT/CLASS/* or ROOT/{train,val,test}/CLASS/*"


def list_folder(root: Path, class_names: Sequence[str] | None = None) -> Listing:
    """Find the picture files of a folder, by class and path; hidden ones and other endings are left out.

    Pictures of formats that are not read are among them: who has them should hear of it.

    So are folders without pictures, with a notice.

    Raises:
        DataError: not one of the two layouts, no pictures, a class too small or unknown, or a name that is
            not text.
    """
    root = _unwrapped(root)
    splits = _split_folders(root)
    left_out: Counter[str] = Counter()
    found = {
        split: {one.name: _pictures_in(one, left_out=left_out) for one in _folders_in(path)}
        for split, path in splits.items()
    }
    filled = {split: sorted(name for name, files in by_class.items() if files) for split, by_class in found.items()}
    if not found["train"]:
        raise DataError(_no_classes(splits["train"]))
    if not filled["train"]:
        raise DataError(f"{splits['train']} must hold pictures ({', '.join(sorted(EXTENSIONS))}), got none.")
    names = tuple(class_names) if class_names is not None else tuple(filled["train"])
    files: dict[str, list[str]] = {}
    labels: dict[str, Tensor] = {}
    for split, by_class in found.items():
        _check_known(filled[split], names, splits[split])
        files[split] = [file for name in names for file in by_class.get(name, [])]
        labels[split] = torch.repeat_interleave(torch.tensor([len(by_class.get(name, [])) for name in names]))
    empty = sorted(set(found["train"]) - set(names))
    check_classes(labels["train"], names, str(splits["train"]), empty)
    if empty:
        _LOGGER.warning("No pictures are in %s of %s: left out.", listed(empty), splits["train"])
    _tell_left_out(left_out, root)
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
    named = [path for path in folders if path.name.lower() in SPLIT_NAMES]
    others = [path for path in folders if path not in named]
    if not named or (others and not _are_splits(named)):
        return {"train": root}
    _check_no_pictures(others, root)
    splits: dict[str, Path] = {}
    for path in named:
        split = SPLIT_NAMES[path.name.lower()]
        if split in splits:
            raise DataError(f"{root} must have one {split} folder, got {splits[split].name!r} and {path.name!r}.")
        splits[split] = path
    if "train" not in splits:
        raise DataError(f"{root} must have a folder 'train' beside {named[0].name!r}.")
    return splits


def _are_splits(named: Sequence[Path]) -> bool:
    """Return whether folders with the names of splits are meant as such, though others stand beside them.

    ``train`` alone may be a class (beside ``car`` and ``plane``): its pictures are then directly in it.
    """
    train = [path for path in named if SPLIT_NAMES[path.name.lower()] == "train"]
    if not train or len(named) > 1:
        return bool(train)
    return bool(_folders_in(train[0])) and not _pictures_in(train[0], deep=False)


def _check_no_pictures(others: Sequence[Path], root: Path) -> None:
    """Refuse pictures beside the split folders; a folder without any is left out."""
    for path in others:
        if _pictures_in(path):
            raise DataError(
                f"{root} must have either split folders or class folders, got {path.name!r} beside 'train'. "
                "Move it elsewhere, or rename 'train' if it is a class."
            )
    if others:
        _LOGGER.warning("No pictures are in %s of %s: left out.", listed([path.name for path in others]), root)


def _folders_in(folder: Path) -> list[Path]:
    """Return the visible folders, sorted by name."""
    with _readable(folder), os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.is_dir() and not _is_hidden(entry.name)]
    for path in found:
        check_name(path)
        _check_link(path)
    return sorted(found)


def _pictures_in(folder: Path, deep: bool = True, left_out: Counter[str] | None = None) -> list[str]:
    """Return the visible files with a picture's ending, those of folders inside included, sorted.

    Args:
        left_out: counts the other endings, where there are pictures.
    """
    found, others = [], []
    for path in _files_in(folder, deep):
        ending = os.path.splitext(path)[1].lower()
        if ending in EXTENSIONS or ending in UNREAD_EXTENSIONS:
            found.append(path)
        else:
            others.append(ending)
    if found and left_out is not None:
        left_out.update(others)
    for path in found:
        check_name(path)
    return sorted(found)


def _files_in(folder: Path, deep: bool) -> Iterator[str]:
    """Give the visible files of a folder, and of those inside it; the system tells their kind with their names."""
    pending = [str(folder)]
    while pending:
        with _readable(folder), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    pending += [entry.path] if deep and not entry.is_symlink() else []
                # A pipe would wait for ever. A link to nothing stays, so that it is named and not silently missing.
                elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                    yield entry.path


def _tell_left_out(left_out: Counter[str], root: Path) -> None:
    if left_out:
        told = ", ".join(f"{count:,} {ending or 'without one'}" for ending, count in left_out.most_common(_MOST_LISTED))
        more = ", …" if len(left_out) > _MOST_LISTED else ""
        _LOGGER.warning(
            "%s files in %s are left out by their endings: %s%s.", f"{left_out.total():,}", root, told, more
        )


def check_name(path: str | Path) -> None:
    """Refuse a path that is not text: it could be neither printed nor saved.

    Raises:
        DataError: its bytes are not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(f"The name of a file or folder must be valid UTF-8, got {str(path)!r}. Rename it.") from None


def _check_link(path: Path) -> None:
    """Refuse a link to a folder around it: every picture would be in it again."""
    if path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
        raise DataError(
            f"{path} must not be a link to a folder that it is in, got one to {path.resolve()}. Remove the link."
        )


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
