"""A folder with one of every defect, and the same folder without."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.ndimage import zoom

SIZE = (96, 72)
CLASSES = ("boat", "car", "tree")
PER_CLASS = {"train": 24, "val": 6, "test": 6}


def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return a picture of smooth colours with detail, like no other."""
    draws = np.random.default_rng(seed)
    layers = [draws.normal(0, 40 / n, (n * 3, n * 4, 3)) for n in (1, 2, 4, 8)]
    whole = sum(zoom(layer, (72 / layer.shape[0], 96 / layer.shape[1], 1), order=1) for layer in layers)
    return Image.fromarray((128 + whole).clip(0, 255).astype(np.uint8)).resize(size)


def save(image: Image.Image, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def make_clean(root: Path) -> Path:
    """Write 108 different JPEGs, in three classes and three splits."""
    seed = 0
    for split, count in PER_CLASS.items():
        for name in CLASSES:
            for number in range(count):
                save(scene(seed), root / split / name / f"{number:02}.jpg", quality=90)
                seed += 1
    return root


def plant(root: Path) -> None:
    """Add one of every defect; the names say which."""
    whole = io.BytesIO()
    scene(900, (640, 480)).save(whole, "JPEG")
    (root / "train/boat/truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (root / "train/boat/huge.png").write_bytes(huge_png(60_000))
    (root / "train/car/text.jpg").write_text("this is no picture")
    (root / "train/car/empty.jpg").touch()
    (root / "train/car/gone.jpg").symlink_to(root / "nowhere.jpg")
    save(scene(901).convert("CMYK"), root / "train/car/cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(scene(902), root / "train/tree/lying.jpg", exif=exif)
    save(scene(903).convert("L"), root / "train/tree/grey.jpg")
    save(scene(904).convert("P"), root / "train/tree/palette.png")
    save(scene(905).convert("RGBA"), root / "train/tree/alpha.png")
    save(scene(906, (20, 16)), root / "train/tree/icon.png")
    save(scene(907, (400, 50)), root / "train/tree/strip.jpg")
    save(Image.new("RGB", SIZE, "white"), root / "train/tree/white.png")
    (root / "test/boat/same_bytes.jpg").write_bytes((root / "train/boat/00.jpg").read_bytes())
    save(Image.open(root / "train/boat/01.jpg"), root / "test/boat/same_pixels.png")
    for name, change in near_copies().items():
        save(change(Image.open(root / f"train/boat/{name_number(name):02}.jpg")), root / f"test/boat/{name}.jpg")
    (root / "train/car/relabelled.jpg").write_bytes((root / "train/tree/05.jpg").read_bytes())
    (root / "train/car/again.jpg").write_bytes((root / "train/car/06.jpg").read_bytes())
    save(scene(10_007, SIZE), root / "train/tree/twin.png")
    save(scene(10_007, SIZE), root / "train/tree/twin_recompressed.jpg", quality=30)
    for path in (root / "val/car").iterdir():
        path.unlink()


def near_copies() -> dict[str, Callable[[Image.Image], Image.Image]]:
    """Return by name what is done to a picture and leaves it nearly the same."""

    def cropped(image: Image.Image) -> Image.Image:
        return image.crop((3, 2, image.width - 3, image.height - 2))

    return {
        "recompressed": lambda image: Image.open(compressed(image, 35)),
        "resized": lambda image: image.resize((60, 45)),
        "cropped": cropped,
        "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
        "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    }


def name_number(name: str) -> int:
    """Return the number of the picture in train that a near copy is of."""
    return 10 + list(near_copies()).index(name)


def compressed(image: Image.Image, quality: int) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream


def huge_png(side: int) -> bytes:
    """Return a PNG whose header says side × side pixels, and that has none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clean(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_clean(tmp_path_factory.mktemp("planted"))
    plant(root)
    return root
