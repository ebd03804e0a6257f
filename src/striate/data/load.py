"""``load_data``: whatever a person has, a name, a folder, an archive or arrays, becomes an ImageSet."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from striate.core.archives import extract
from striate.core.errors import DataError, suggest
from striate.core.files import cache_folder
from striate.core.spec import InputSpec, Resize
from striate.data.assemble import from_tensors
from striate.data.imageset import ImageSet
from striate.data.sources.arrays import Pair, read_arrays
from striate.data.sources.builtin import BUILTIN
from striate.data.sources.folder import check_name, list_folder
from striate.data.sources.listing import read_listing

_LOGGER = logging.getLogger(__name__)
_ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MOST_SIDE = 65_535  # what an InputSpec allows

Size = int | tuple[int, int]
Arrays = Pair | tuple[Pair, ...] | Mapping[str, Pair]


def load_data(
    data: str | Path | Arrays,
    *,
    data_dir: str | Path | None = None,
    size: Size | None = None,
    seed: int = 0,
    channels: int | None = None,
    class_names: Sequence[str] | None = None,
    resize: Resize | None = None,
    like: InputSpec | Mapping[str, Any] | None = None,
    stored_size: float = 1.0,
) -> ImageSet:
    """Return pictures as an ImageSet: uint8 tensors of one size with labels, in train, val and test.

    A split that the source lacks is held out of train, seeded and stratified by class: ``val`` 10 % (at most
    5,000), ``test`` 15 % (``digits``: 20 %). ``held_out`` and ``test_held_out`` of the result say so.

    Args:
        data: the name of a built-in set (``striate datasets`` lists them); a folder ``ROOT/CLASS/*`` or
            ``ROOT/{train,val,test}/CLASS/*``; a .zip or .tar of one; or arrays (images, labels), see
            ``read_arrays``. A word that is both a built-in set and a folder means the set; ``./name`` is the
            folder.
        data_dir: where the files of a built-in set are; None for the cache, downloading them once.
        size: height and width in pixels. None keeps that of built-in sets and arrays; photographs become
            96×96.
        seed: of what is held out. Score a network only with the seed that it was trained with.
        channels: 1 for grey, 3 for RGB; None keeps what the pictures have.
        class_names: of arrays, in the order of their labels; of a folder, in another order than the sorted
            one.
        resize: ``crop`` (where None), ``stretch`` or ``pad``, where proportions differ.
        like: ``spec.input`` of a network, or a dict of its fields: read the pictures as that network takes
            them. Instead of size, channels and resize; its mean and std are kept and not measured.
        stored_size: keep training pictures from files this many times as large besides, for crops to be cut from.

    Raises:
        DataError: no such data, or data that cannot be used; one sentence says which and what to do.
        FileError: a download failed, or nothing can be written to the cache.
    """
    size = (size, size) if isinstance(size, int) else size
    request: dict[str, Any] = {"size": size, "channels": channels, "resize": resize}
    again = {**request, "seed": seed, "stored_size": stored_size}
    if like is not None:
        _check_alone(request)
        like = InputSpec.model_validate(like)
        again["like"] = like.model_dump(mode="json")
        channels = like.channels
    _check_request(size, channels, grey_or_rgb=isinstance(data, str | Path))
    options: dict[str, Any] = {**request, "resize": resize or "crop", "like": like, "seed": seed}
    if not isinstance(data, str | Path):
        arrays = read_arrays(data, channels=channels, class_names=class_names)
        return from_tensors(arrays, name="arrays", **options)
    if (name := _builtin_name(data)) is not None:
        builtin = BUILTIN.get(name)
        labelled = builtin.read(Path(data_dir) if data_dir is not None else None)
        origin = {"data": name, "data_dir": data_dir and str(Path(data_dir).resolve()), **again}
        return from_tensors(labelled, name=name, test_share=builtin.test_share, origin=origin, **options)
    path = Path(data)
    check_name(path.resolve())
    origin = {"data": str(path.resolve()), "class_names": class_names and list(class_names), **again}
    listing = list_folder(_folder_of(path), class_names)
    return read_listing(listing, name=_stem(path), stored_size=stored_size, origin=origin, **options)


def _builtin_name(data: str | Path) -> str | None:
    """Return the built-in set that is meant, hyphens and underscores being equal; None for a path."""
    name = str(data).lower().replace("-", "_")
    if isinstance(data, Path) or name not in BUILTIN:
        return None
    if Path(data).is_dir():
        _LOGGER.warning("%r is the built-in data set; for the folder of that name say './%s'.", data, data)
    return name


def _folder_of(path: Path) -> Path:
    """Return the folder of pictures: the path itself, or where the archive was extracted to."""
    if path.is_dir():
        return path
    if path.is_file() and path.name.lower().endswith(_ARCHIVE_ENDINGS):
        return _extracted(path)
    if path.is_file():
        raise DataError(f"{path} must be a folder or an archive ({', '.join(_ARCHIVE_ENDINGS)}), got another file.")
    near = suggest(str(path), BUILTIN)
    raise DataError(f"No data set, folder or archive {str(path)!r}.{near} `striate datasets` lists the built-in ones.")


def _extracted(archive: Path) -> Path:
    """Return the archive's content in the cache, extracting it when it is new or has changed."""
    now = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()} {now.st_size} {now.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_folder() / "archives" / f"{_stem(archive)}-{key}"
    if not folder.is_dir():
        extract(archive, folder)
    return folder


def _stem(path: Path) -> str:
    """Return the name of a folder, or that of an archive without its ending."""
    name = path.resolve().name
    endings = [ending for ending in _ARCHIVE_ENDINGS if path.is_file() and name.lower().endswith(ending)]
    return name[: -len(endings[0])] if endings else name


def _check_alone(request: Mapping[str, object]) -> None:
    given = [name for name, value in request.items() if value is not None]
    if given:
        raise DataError(f"like must be given without {' and '.join(given)}, which it decides. Leave one of them out.")


def _check_request(size: tuple[int, int] | None, channels: int | None, grey_or_rgb: bool) -> None:
    """Refuse what no picture can be; those in files and built-in sets are read as grey or RGB."""
    if size is not None and min(size) < 1:
        raise DataError(f"size must be at least 1 pixel, got {min(size)}.")
    if size is not None and max(size) > _MOST_SIDE:
        raise DataError(f"size must be at most {_MOST_SIDE:,} pixels, got {max(size):,}. Try a smaller --size.")
    if channels is not None and (channels < 1 or (grey_or_rgb and channels not in (1, 3))):
        raise DataError(f"channels must be 1 for grey or 3 for RGB, got {channels}.")
