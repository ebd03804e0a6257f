"""The same picture is the same tensor, whichever way it comes in."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image

import striate as st
from striate.core.spec import Resize
from striate.data.cache.limit import cached_sets
from striate.data.decode import decode_picture, read_pictures
from striate.data.preprocess import resize_to_uint8
from striate.data.stream.pack import pack
from striate.prediction.predictor import as_images

Save = Callable[[Image.Image, io.BytesIO], None]


def saved(format: str, mode: str = "RGB", **options: object) -> Save:
    return lambda image, stream: image.convert(mode).save(stream, format, **options)


def sideways(image: Image.Image, stream: io.BytesIO) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(stream, "JPEG", exif=exif)


def transparent(image: Image.Image, stream: io.BytesIO) -> None:
    image.putalpha(image.convert("L"))
    image.save(stream, "PNG")


def sixteen_bits(image: Image.Image, stream: io.BytesIO) -> None:
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(stream, "PNG")


KINDS: dict[str, tuple[str, Save]] = {
    "photograph": ("jpg", saved("JPEG")),
    "progressive": ("jpeg", saved("JPEG", progressive=True, subsampling=0)),
    "grey photograph": ("jpg", saved("JPEG", "L")),
    "inks": ("jpg", saved("JPEG", "CMYK")),
    "on its side": ("jpg", sideways),
    "png": ("png", saved("PNG")),
    "palette": ("png", saved("PNG", "P")),
    "transparent": ("png", transparent),
    "16 bits": ("png", sixteen_bits),
    "1 bit": ("png", saved("PNG", "1")),
    "gif": ("gif", saved("GIF")),
    "webp": ("webp", saved("WEBP")),
    "tiff": ("tif", saved("TIFF")),
    "bmp": ("bmp", saved("BMP")),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind in several sizes, small ones and such as are decoded at a reduced scale, in two classes."""
    root, random = tmp_path_factory.mktemp("same") / "kinds", np.random.default_rng(0)
    for number in range(6):
        for kind, (ending, save) in KINDS.items():
            height, width = random.integers(9, 50 if number < 3 else 300, 2).tolist()
            noise = random.integers(0, 256, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8)
            stream = io.BytesIO()
            save(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), stream)
            path = root / ("even", "odd")[number % 2] / f"{kind} {number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stream.getvalue())
    return root


@pytest.fixture(scope="module")
def table(folder: Path) -> Path:
    path = folder.parent / "kinds.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label"))
        rows.writerows((one.relative_to(path.parent), one.parent.name) for one in sorted(folder.rglob("*.*")))
    return path


def tensors_of(images: st.ImageSet) -> dict[str, torch.Tensor]:
    """Return the pictures by the names of their files, which keep them apart in every source."""
    splits = (images.train, images.val, images.test)
    return {
        Path(origin).name: image for split in splits for origin, image in zip(split.origins, split.images, strict=True)
    }


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=some.sampled_from([(1, 1), (8, 8), (17, 17), (24, 10)]),
    channels=some.sampled_from([1, 3]),
    resize=some.sampled_from(["crop", "pad", "stretch"]),
)
def test_a_picture_is_one_tensor_from_every_source(
    folder: Path,
    table: Path,
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int],
    channels: int,
    resize: Resize,
) -> None:
    options = {"size": size, "channels": channels, "resize": resize}
    aside = tmp_path_factory.mktemp("sources")
    read = st.load_data(folder, **options)
    spec = read.spec.input
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    expected = {path.name: resize_to_uint8(decode_picture(path, spec), spec) for path in paths}
    archive = shutil.make_archive(str(aside / "kinds"), "zip", folder)
    pack(read, aside / "shards", shard_bytes=100_000)
    shards = st.load_data(aside / "shards", like=spec)
    sources = {
        "folder": tensors_of(read),
        "cache": tensors_of(st.load_data(folder, **options)),
        "archive": tensors_of(st.load_data(archive, **options)),
        "table": tensors_of(st.load_data(table, **options)),
        "bytes": {path.name: resize_to_uint8(decode_picture(path.read_bytes(), spec), spec) for path in paths},
        "files": dict(zip(expected, read_pictures(paths, spec), strict=True)),
        "prediction": dict(zip(expected, as_images(paths, spec), strict=True)),
    }
    assert cached_sets()
    for source, tensors in sources.items():
        assert tensors.keys() == expected.keys(), source
        wrong = [name for name, tensor in tensors.items() if not torch.equal(tensor, expected[name])]
        assert wrong == [], source
    for own, theirs in (
        (shards.val, read.val),
        (shards.test, read.test),
        (shards.learned.some(len(read.train)), read.train),
    ):
        assert in_order(own.images) == in_order(theirs.images)


def in_order(images: torch.Tensor) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images)
