from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.core import machine
from striate.core.errors import DataError, StriateError
from striate.core.spec import InputSpec
from striate.data.decode import EXTENSIONS, decode_picture, pixels_of, read_header, read_pictures


def spec(channels: int = 3, side: int = 32) -> InputSpec:
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    return InputSpec(channels=channels, height=side, width=side, mean=zeros, std=ones)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def gradient(height: int = 12, width: int = 20) -> Image.Image:
    """A smooth RGB picture in which every place differs."""
    down, right = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * right / width, 255 * down / height, 255 - 255 * right / width], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


LOSSLESS = [
    ("PNG", {}),
    ("BMP", {}),
    ("PPM", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("WEBP", {"lossless": True}),
]


@pytest.mark.parametrize(("format", "options"), LOSSLESS)
def test_a_lossless_picture_comes_back_as_it_was(format, options, tmp_path):
    image = gradient()
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    data = encoded(image, format, **options)
    assert torch.equal(decode_picture(data, spec()), expected)
    (tmp_path / "picture").write_bytes(data)
    assert torch.equal(decode_picture(tmp_path / "picture", spec()), expected)
    assert torch.equal(decode_picture(str(tmp_path / "picture"), spec()), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_read_as_grey_or_rgb(mode, channels):
    grey = gradient().convert("L")
    format = "TIFF" if mode == "CMYK" else "PNG"
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        image = (gradient() if mode in ("P", "RGB", "RGBA", "CMYK") else grey).convert(mode)
    pixels = decode_picture(encoded(image, format), spec(channels))
    assert pixels.shape == (channels, 12, 20)
    expected = torch.from_numpy(np.array(image.convert("L" if channels == 1 else "RGB") if mode != "I;16" else grey))
    expected = expected.unsqueeze(0) if expected.ndim == 2 else expected.permute(2, 0, 1)
    assert torch.equal(pixels, expected.expand(channels, -1, -1))


@pytest.mark.parametrize(("mode", "grey"), [("1", True), ("L", True), ("LA", True), ("P", False), ("RGB", False)])
def test_the_header_says_size_and_grey(mode, grey):
    header = read_header(encoded(gradient().convert(mode)))
    assert header == (12, 20, grey)


def test_transparent_parts_are_shown_on_white():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    assert decode_picture(encoded(image), spec()).permute(1, 2, 0).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    pixels = decode_picture(encoded(palette, transparency=0), spec())
    assert pixels.permute(1, 2, 0).tolist() == [[[255, 255, 255], [200, 0, 0]]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation, format):
    upright = np.array([[0, 80], [160, 240], [40, 120]], dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if format == "JPEG" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), format, exif=exif, **options)
    pixels = decode_picture(data, spec(1, side=500))
    assert pixels.shape == (1, 24, 16)
    assert int((pixels[0].int() - torch.from_numpy(upright).int()).abs().max()) <= 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pillow_image_has_the_pixels_of_its_file(mode, channels):
    grey = gradient().convert("L")
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    image = sixteen if mode == "I;16" else (gradient() if mode in ("P", "RGB", "RGBA") else grey).convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(128)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(image, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        pixels = pixels_of(opened, spec(channels))
        assert (opened.mode, opened.size) == (mode, (20, 12))
    assert pixels.shape == (channels, 20, 12)
    assert torch.equal(pixels, decode_picture(data, spec(channels)))
    assert torch.equal(pixels_of(image, spec(channels)), decode_picture(encoded(image), spec(channels)))


def test_a_pillow_image_that_cannot_be_used_is_refused_in_a_sentence():
    floats = Image.fromarray(np.zeros((3, 3), dtype=np.float32))
    with pytest.raises(
        DataError,
        match=r"^The picture cannot be used: pictures of floating-point numbers \(mode 'F'\) are not supported; save it as 8-bit .*RGB\.$",
    ):
        pixels_of(floats, spec())
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    with (
        Image.open(io.BytesIO(encoded(Image.fromarray(noise))[:2000])) as cut,
        pytest.raises(DataError, match=r"^shoe is (truncated|damaged)"),
    ):
        pixels_of(cut, spec(), "shoe")


def test_of_an_animation_the_first_frame_is_taken():
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert decode_picture(data, spec())[:, 0, 0].tolist() == [255, 0, 0]


def test_a_large_jpeg_is_decoded_at_a_reduced_size_of_at_least_twice_the_wanted_one():
    data = encoded(gradient(600, 800), "JPEG")
    assert decode_picture(data, spec(side=32)).shape == (3, 75, 100)
    assert decode_picture(data, spec(side=64)).shape == (3, 150, 200)
    assert decode_picture(data, spec(side=224)).shape == (3, 600, 800)


def test_a_reduced_jpeg_shows_the_same_as_a_whole_one():
    data = encoded(gradient(600, 800), "JPEG", quality=95)
    reduced = decode_picture(data, spec(side=64)).double()
    whole = decode_picture(data, spec(side=500)).double()
    averaged = whole.view(3, 150, 4, 200, 4).mean(dim=(2, 4))
    assert float((reduced - averaged).abs().mean()) < 1.0


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_picture_is_refused_and_never_filled(format, kept):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format)
    with pytest.raises(DataError, match=r"The picture (is truncated|is damaged|must be a picture)"):
        decode_picture(data[: int(len(data) * kept)], spec())


def test_what_is_not_a_picture_is_named(tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture")
    with pytest.raises(
        DataError, match=r"notes\.jpg must be a picture \(JPEG, PNG, .*\); its content is something else"
    ):
        decode_picture(path, spec())
    with pytest.raises(DataError, match=r"Cannot read .*gone\.png: No such file or directory"):
        decode_picture(tmp_path / "gone.png", spec())


def test_formats_outside_the_list_are_refused():
    for format in ("ICO", "TGA", "PCX"):
        with pytest.raises(DataError, match="must be a picture"):
            decode_picture(encoded(gradient(), format), spec())


def test_modes_without_a_plain_meaning_are_refused_by_name():
    data = encoded(Image.fromarray(np.zeros((3, 3), dtype=np.float32)), "TIFF")
    with pytest.raises(DataError, match=r"floating-point numbers \(mode 'F'\) are not supported; save it as 8-bit grey or RGB"):
        decode_picture(data, spec())


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_picture_bomb_is_refused_by_its_header(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    data += (
        struct.pack(">I", zlib.crc32(b"IHDR" + header))
        + struct.pack(">I", 0)
        + b"IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
    )
    with pytest.raises(DataError, match="at most 89,000,000 pixels are read"):
        decode_picture(data, spec())


def test_only_grey_and_rgb_can_be_asked_for():
    with pytest.raises(DataError, match=r"1 channel \(grey\) or 3 \(RGB\); 4 were asked for"):
        decode_picture(encoded(gradient()), spec(4))


SEEDS = [
    encoded(gradient().convert("P" if format == "GIF" else "RGB"), format)
    for format in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    end=st.integers(0, 4000),
)
def test_damaged_pictures_are_a_typed_error_or_a_picture(seed, changes, end):
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    try:
        pixels = decode_picture(bytes(data[:end]), spec())
    except StriateError:
        return
    assert pixels.dtype == torch.uint8
    assert pixels.shape[0] == 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(70):
        Image.new("RGB", (20, 20), (number, 0, 255 - number)).save(tmp_path / f"{number:02}.png")
    return tmp_path


@pytest.mark.parametrize("threads", [1, 3, None])
def test_pictures_are_read_in_order(folder, threads):
    images = read_pictures(sorted(folder.iterdir()), spec(side=8), threads)
    assert images.shape == (70, 3, 8, 8)
    assert images[:, 0, 0, 0].tolist() == list(range(70))


def test_reading_leaves_the_threads_of_pytorch_as_they_were(folder):
    before = torch.get_num_threads()
    read_pictures(sorted(folder.iterdir()), spec(side=8), 2)
    assert torch.get_num_threads() == before


def test_more_pictures_than_memory_are_refused_before_any_is_read(monkeypatch):
    monkeypatch.setattr(machine, "available_system_memory", lambda: 100)
    with pytest.raises(DataError, match=r"The 2 pictures to be read take 384 bytes at 8×8; .* Read fewer at once"):
        read_pictures(["never", "read"], spec(side=8))


def test_one_unreadable_picture_is_named(folder):
    (folder / "33.png").write_bytes((folder / "33.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"^[^\n]*33\.png is (truncated|damaged)[^\n]*$"):
        read_pictures(sorted(folder.iterdir()), spec(side=8))


def test_of_many_unreadable_pictures_five_are_named(folder):
    for number in range(0, 70, 10):
        (folder / f"{number:02}.png").write_text("no picture")
    with pytest.raises(DataError) as caught:
        read_pictures(sorted(folder.iterdir()), spec(side=8))
    lines = str(caught.value).splitlines()
    assert lines[0] == "7 of 70 pictures cannot be read:"
    assert [line.split(os.sep)[-1][:6] for line in lines[1:6]] == [f"{number:02}.png" for number in range(0, 50, 10)]
    assert lines[6] == "  … and 2 more"


def test_endings_are_lower_case_and_those_of_the_formats():
    assert all(ending.startswith(".") and ending == ending.lower() for ending in EXTENSIONS)
    assert all(
        Image.registered_extensions()[ending] in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
        for ending in EXTENSIONS
    )
