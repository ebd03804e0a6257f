"""``load_data``: whatever a person has, a name, a folder, an archive, a table or arrays, becomes an ImageSet."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from striate.core.errors import DataError
from striate.core.spec import InputSpec, Resize
from striate.data.assemble import from_tensors
from striate.data.imageset import ImageSet
from striate.data.sources.arrays import Pair, read_arrays
from striate.data.sources.builtin import BUILTIN
from striate.data.sources.datasets import Dataset, are_datasets, read_datasets
from striate.data.sources.files import list_files, stem
from striate.data.sources.listing import read_listing
from striate.data.sources.table import Frame, is_frame, list_table, table_of
from striate.data.stream.shards import is_shards, load_shards, resolved

_LOGGER = logging.getLogger(__name__)
_MOST_SIDE = 65_535  # what an InputSpec allows
_MOST_TIMES = 4  # what a Recipe allows

Size = int | tuple[int, int]
Arrays = Pair | tuple[Pair, ...] | Mapping[str, Pair]
Datasets = Dataset | tuple[Dataset, ...] | Mapping[str, Dataset]


def load_data(
    data: str | Path | Frame | Datasets | Arrays,
    *,
    data_dir: str | Path | None = None,
    size: Size | None = None,
    seed: int = 0,
    channels: int | None = None,
    class_names: Sequence[str] | None = None,
    resize: Resize | None = None,
    like: InputSpec | Mapping[str, Any] | None = None,
    stored_size: float = 1.0,
    group_by: str | None = None,
    skip_unreadable: bool = False,
) -> ImageSet:
    r"""Return pictures as an ImageSet: uint8 tensors of one size with labels, in train, val and test.

    A split that the source lacks is held out of train, seeded and stratified by class: ``val`` 10 % (at most
    5,000), ``test`` 15 % (``digits``: 20 %). ``held_out`` and ``test_held_out`` of the result say so. Pictures of one
    group stay together.

    Args:
        data: the name of a built-in set (``striate datasets`` lists them); a folder ``ROOT/CLASS/*`` or
            ``ROOT/{train,val,test}/CLASS/*``; a .zip or .tar of one; a table ``path,label[,split,group]``, a .csv, a
            .tsv or a data frame, see ``list_table``; a data set in PyTorch's sense, (picture, label) by number, see
            ``read_datasets``; or arrays (images, labels), see ``read_arrays``. A word that is both a built-in set and
            a folder means the set; ``./name`` is the folder.
        data_dir: where the files of a built-in set are; None for the cache, downloading them once.
        size: height and width in pixels. None keeps that of built-in sets and arrays; photographs become
            96×96.
        seed: of what is held out. Score a network only with the seed that it was trained with.
        channels: 1 for grey, 3 for RGB; None keeps what the pictures have.
        class_names: of arrays and data sets, in the order of their labels; of a folder or a table, in another order
            than the sorted one.
        resize: ``crop`` (where None), ``stretch`` or ``pad``, where proportions differ.
        like: ``spec.input`` of a network, or a dict of its fields: read the pictures as that network takes
            them. Instead of size, channels and resize; its mean and std are kept and not measured.
        stored_size: keep training pictures from files this many times as large besides, for crops to be cut from.
        group_by: a regular expression that finds in the path of each file what the picture belongs to, such as
            ``(patient\d+)_``: the text of its first group, or all that it matches.
        skip_unreadable: leave out picture files that cannot be read, with a warning that names them, and do not refuse
            them.

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
    _check_numbers(seed, stored_size)
    options: dict[str, Any] = {**request, "resize": resize or "crop", "like": like, "seed": seed}
    files: dict[str, Any] = {**options, "stored_size": stored_size, "skip_unreadable": skip_unreadable}
    if isinstance(data, str | Path):
        if (name := _builtin_name(data)) is not None:
            _check_no_groups(group_by)
            builtin = BUILTIN.get(name)
            labelled = builtin.read(Path(data_dir) if data_dir is not None else None)
            origin = {"data": name, "data_dir": data_dir and str(Path(data_dir).resolve()), **again}
            return from_tensors(labelled, name=name, test_share=builtin.test_share, origin=origin, **options)
        if is_shards(data):
            _check_no_groups(group_by)
            check_no_data_dir(data_dir)
            origin = {"data": resolved(data), "class_names": class_names and list(class_names), **again}
            options |= {"resize": resize, "stored_size": stored_size}  # resize: None where their index is to say it
            return load_shards(data, class_names=class_names, origin=origin, **options)
        path = Path(data)
        listing = list_files(path, class_names, group_by)
        check_no_data_dir(data_dir)
        origin = {"data": str(path.resolve()), "class_names": class_names and list(class_names), **again}
        origin |= {"group_by": group_by} if group_by is not None else {}
        origin |= {"skip_unreadable": True} if skip_unreadable else {}
        return read_listing(listing, name=stem(path), origin=origin, **files)
    _check_no_groups(group_by)
    check_no_data_dir(data_dir)
    if is_frame(data):
        listing = list_table(table_of(data), class_names)
        return read_listing(listing, name="table", **files)
    if are_datasets(data):
        asked: dict[str, Any] = {"size": size, "channels": channels, "resize": resize or "crop", "like": like}
        return from_tensors(read_datasets(data, class_names=class_names, **asked), name="dataset", **options)
    return from_tensors(read_arrays(data, channels=channels, class_names=class_names), name="arrays", **options)


def _builtin_name(data: str | Path) -> str | None:
    """Return the built-in set that is meant, hyphens and underscores being equal; None for a path."""
    name = str(data).lower().replace("-", "_")
    if isinstance(data, Path) or name not in BUILTIN:
        return None
    if Path(data).is_dir():
        _LOGGER.warning("%r is the built-in data set; for the folder of that name say './%s'.", data, data)
    return name


def _check_no_groups(group_by: str | None) -> None:
    if group_by is not None:
        raise DataError("group_by must be left out unless the pictures are files whose paths say it. Leave it out.")


def check_no_data_dir(data_dir: str | Path | None) -> None:
    """Refuse a folder of a built-in set's files where there is no built-in set."""
    if data_dir is not None:
        raise DataError("data_dir must be left out where no built-in set is loaded, whose files it is for.")


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


def _check_numbers(seed: int, stored_size: float) -> None:
    if seed < 0:
        raise DataError(f"seed must be at least 0, got {seed}.")
    if not 1 <= stored_size <= _MOST_TIMES:
        raise DataError(f"stored_size must be from 1 to {_MOST_TIMES} times the size, got {stored_size}.")
