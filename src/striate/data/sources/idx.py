"""The MNIST family: IDX files, plain or gzipped, from a folder or downloaded once."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, final

import numpy as np
import torch
from torch import Tensor

from striate.core.downloads import download
from striate.core.errors import DataError
from striate.core.files import cache_folder
from striate.data.assemble import Labelled
from striate.data.sources.builtin import BUILTIN, Builtin

_UNSIGNED_BYTE = 0x08
# Deflate cannot do better than this, so that a header cannot make a small file take a large memory.
_MOST_COMPRESSION = 1_032


@final
@dataclass(frozen=True)
class Release:
    """The four files of one set and where they are published.

    Args:
        title: as people write it.
        folders: the names that the folder of the files may have, under ``data_dir``.
        address: where they are published: of the folder, or of an archive of them.
        files: images and labels of train, then of test, all gzipped.
        class_names: K names; the labels count from ``first_label``.
        md5: of each file, where they are published one by one.
        upright: False where the pictures are stored transposed.
    """

    title: str
    folders: tuple[str, ...]
    address: str
    files: tuple[str, ...]
    class_names: tuple[str, ...]
    md5: tuple[str, ...] = ()
    first_label: int = 0
    upright: bool = True


def read_release(release: Release, data_dir: Path | None) -> Labelled:
    """Return train and test of a release.

    Raises:
        DataError: a file is missing, or is not what it should be.
        FileError: a download failed.
    """
    paths = _downloaded(release) if data_dir is None else [_find(release, name, data_dir) for name in release.files]
    train_images, train_labels = _read_pair(release, *paths[:2])
    test_images, test_labels = _read_pair(release, *paths[2:])
    return Labelled(
        images={"train": train_images, "test": test_images},
        labels={"train": train_labels, "test": test_labels},
        class_names=release.class_names,
    )


def _read_pair(release: Release, images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
    images = read_idx(images_path, dimensions=3).unsqueeze(1)  # (N, H, W) → (N, 1, H, W)
    labels = read_idx(labels_path, dimensions=1).to(torch.int64) - release.first_label
    if len(images) != len(labels) or len(images) == 0:
        raise DataError(
            f"{images_path.name} and {labels_path.name} must have one label per image, "
            f"got {len(images):,} images and {len(labels):,} labels."
        )
    low, high = (int(label) + release.first_label for label in labels.aminmax())
    last = release.first_label + len(release.class_names) - 1
    if low < release.first_label or high > last:
        raise DataError(
            f"{labels_path} must hold labels from {release.first_label} to {last}, got {low} to {high}. "
            "Download it again."
        )
    return images if release.upright else images.transpose(2, 3).contiguous(), labels


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Return the uint8 tensor in an IDX file.

    The format (http://yann.lecun.com/exdb/mnist): two zero bytes, the type, the number of dimensions, each
    size as a big-endian 32-bit integer, the values.

    Args:
        path: gzipped where its first two bytes say so, whatever its name.
        dimensions: how many it must have.

    Raises:
        DataError: not an IDX file of bytes with these dimensions, or shorter or longer than its header says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as plain:
            gzipped = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            if gzipped:
                with gzip.GzipFile(fileobj=plain) as stream:
                    return _read_values(stream, path, dimensions, size * _MOST_COMPRESSION)
            return _read_values(plain, path, dimensions, size)
    except EOFError:
        raise DataError(f"{path} must be a whole gzip file; it ends too early. Download it again.") from None
    except (OSError, zlib.error) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error


def _read_values(stream: BinaryIO | gzip.GzipFile, path: Path, dimensions: int, at_most: int) -> Tensor:
    header = stream.read(4 + 4 * dimensions)
    magic = bytes((0, 0, _UNSIGNED_BYTE, dimensions))
    if len(header) < 4 + 4 * dimensions or header[:4] != magic:
        raise DataError(
            f"{path} must be an IDX file of bytes in {dimensions} dimensions (it starts with {magic.hex()}), "
            f"got {header[:4].hex() or 'an empty file'}."
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    count = math.prod(shape)
    if count > at_most:
        raise DataError(f"{path} must hold {count:,} values, as its header says; it is too short. Download it again.")
    values = np.empty(count, dtype=np.uint8)
    filled = _fill(stream, values.data)
    if filled < count or stream.read(1):
        got = f"{filled:,}" if filled < count else "more"
        raise DataError(f"{path} must hold {count:,} values, as its header says, got {got}. Download it again.")
    return torch.from_numpy(values).reshape(shape)


def _fill(stream: BinaryIO | gzip.GzipFile, values: memoryview) -> int:
    """Read into ``values`` until they are full or the stream ends; return how many were read."""
    filled = 0
    while filled < len(values):
        count = stream.readinto(values[filled:])  # type: ignore[union-attr]
        if not count:
            break
        filled += count
    return filled


def _downloaded(release: Release) -> list[Path]:
    folder = cache_folder() / release.folders[0]
    for name, md5 in zip(release.files, release.md5, strict=True):
        if not (folder / name).exists():
            download(release.address + name, folder / name, md5=md5)
    return [folder / name for name in release.files]


def _find(release: Release, name: str, data_dir: Path) -> Path:
    """Return a local file, gzipped or plain, in ``data_dir`` or a folder of one of the usual names in it."""
    plain = name.removesuffix(".gz")
    folders = [data_dir, *(data_dir / folder / raw for folder in release.folders for raw in ("", "raw"))]
    for folder in folders:
        for candidate in (folder / plain, folder / name):
            if candidate.is_file():
                return candidate
    raise DataError(
        f"{release.title} needs {plain} or {name} in {data_dir} or its folder {release.folders[0]}. "
        f"It is published at {release.address}."
    )


_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)

MNIST = Release(
    title="MNIST",
    folders=("mnist", "MNIST"),
    address="https://ossci-datasets.s3.amazonaws.com/mnist/",
    files=_FILES,
    md5=(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    class_names=tuple("0123456789"),
)
FASHION_MNIST = Release(
    title="Fashion-MNIST",
    folders=("fashion_mnist", "fashion-mnist", "FashionMNIST"),
    address="https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    files=_FILES,
    md5=(
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)
KMNIST = Release(
    title="KMNIST",
    folders=("kmnist", "KMNIST"),
    address="https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    files=_FILES,
    md5=(
        "bdb82020997e1d708af4cf47b453dcf7",
        "e144d726b3acfaa3e44228e80efcd344",
        "5c965bf0a639b31b8f53240b1b52f4d7",
        "7320c461ea6c1c855c0b718fb2a4b134",
    ),
    class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
)

for _name, _release, _description, _licence in (
    ("mnist", MNIST, "handwritten digits", "CC BY-SA 3.0"),
    ("fashion_mnist", FASHION_MNIST, "pictures of clothes, as hard a size and count as MNIST's", "MIT"),
    ("kmnist", KMNIST, "handwritten cursive Japanese, ten syllables", "CC BY-SA 4.0"),
):
    BUILTIN.add(_name)(
        Builtin(
            description=_description,
            train=60_000,
            test=10_000,
            classes=10,
            shape=(1, 28, 28),
            licence=_licence,
            read=partial(read_release, _release),
        )
    )
