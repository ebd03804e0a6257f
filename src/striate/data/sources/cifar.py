"""CIFAR-10 and CIFAR-100: the official binary version, from a folder or downloaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from striate.core.archives import extract
from striate.core.downloads import download
from striate.core.errors import DataError
from striate.core.files import cache_folder
from striate.data.assemble import Labelled
from striate.data.sources.builtin import BUILTIN, Builtin

_PIXEL_BYTES = 3 * 32 * 32


@final
@dataclass(frozen=True)
class Release:
    """One of the two sets.

    Args:
        title: as people write it.
        archive: the official file name; ``folder`` is what it holds.
        md5: of the archive, as https://www.cs.toronto.edu/~kriz/cifar.html states it.
        train_files, test_file: in the folder; a shorter training set may have only some of the files.
        label_bytes: in front of each picture; the last one is the class.
        class_names: in the order of the labels.
    """

    title: str
    archive: str
    folder: str
    md5: str
    train_files: tuple[str, ...]
    test_file: str
    label_bytes: int
    class_names: tuple[str, ...]


def read_release(release: Release, data_dir: Path | None) -> Labelled:
    """Return train and test of a release.

    Raises:
        DataError: a file is missing, or is not whole records.
        FileError: the download failed.
    """
    folder = _downloaded(release) if data_dir is None else _find(release, data_dir)
    train = [folder / name for name in release.train_files if (folder / name).is_file()]
    images, labels = {}, {}
    for split, paths in (("train", train), ("test", [folder / release.test_file])):
        images[split], labels[split] = read_records(paths, release.label_bytes, len(release.class_names))
    return Labelled(images, labels, release.class_names)


def read_records(paths: Sequence[Path], label_bytes: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return the pictures and labels of binary files: (N, 3, 32, 32) uint8 and (N,) int64.

    Each record is ``label_bytes`` bytes of labels, the last being the class, and 3,072 bytes: the red, green
    and blue planes of 32 rows.

    Raises:
        DataError: not whole records, or a label of no class.
    """
    record = label_bytes + _PIXEL_BYTES
    for path in paths:
        size = path.stat().st_size
        if size == 0 or size % record:
            raise DataError(
                f"{path} must hold whole records of {record:,} bytes, got {size:,} bytes. Download it again."
            )
    try:
        records = np.concatenate([np.fromfile(path, dtype=np.uint8) for path in paths]).reshape(-1, record)
    except OSError as error:
        raise DataError(f"Cannot read {error.filename}: {error.strerror}.") from error
    labels = torch.from_numpy(records[:, label_bytes - 1].astype(np.int64))
    if int(labels.max()) >= classes:
        raise DataError(f"{paths[0]} must hold labels from 0 to {classes - 1}, got {int(labels.max())}.")
    pixels = torch.from_numpy(np.ascontiguousarray(records[:, label_bytes:]))
    return pixels.view(-1, 3, 32, 32), labels


def _find(release: Release, data_dir: Path) -> Path:
    for folder in (data_dir, data_dir / release.folder):
        if (folder / release.train_files[0]).is_file() and (folder / release.test_file).is_file():
            return folder
    raise DataError(
        f"{release.title} needs {release.train_files[0]} and {release.test_file} of its binary version "
        f"in {data_dir} or its folder {release.folder}. They are in {_address(release)}."
    )


def _downloaded(release: Release) -> Path:
    folder = cache_folder() / release.folder
    if not folder.is_dir():
        archive = cache_folder() / release.archive
        if not archive.exists():
            download(_address(release), archive, md5=release.md5)
        extract(archive, folder)
    return folder / release.folder


def _address(release: Release) -> str:
    return f"https://www.cs.toronto.edu/~kriz/{release.archive}"


_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal
    shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
    telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR10 = Release(
    title="CIFAR-10",
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    train_files=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test_file="test_batch.bin",
    label_bytes=1,
    class_names=tuple(_CIFAR10_CLASSES.split()),
)
CIFAR100 = Release(
    title="CIFAR-100",
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    train_files=("train.bin",),
    test_file="test.bin",
    label_bytes=2,  # one of 20 superclasses, then one of 100 classes
    class_names=tuple(_CIFAR100_CLASSES.split()),
)

for _name, _release, _description in (
    ("cifar10", CIFAR10, "small photographs of vehicles and animals"),
    ("cifar100", CIFAR100, "small photographs of a hundred kinds of things"),
):
    BUILTIN.add(_name)(
        Builtin(
            description=_description,
            train=50_000,
            test=10_000,
            classes=len(_release.class_names),
            shape=(3, 32, 32),
            licence="none stated; cite Krizhevsky, 2009",
            read=partial(read_release, _release),
        )
    )
