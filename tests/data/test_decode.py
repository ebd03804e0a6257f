from __future__ import annotations

import io
import os
import struct
import threading
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
from striate.data.decode import EXTENSIONS, decode_into, decode_picture, pixels_of, read_header, read_pictures
from striate.data.preprocess import resize_to_uint8


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
        match=r"^The picture cannot be used: pictures of floating-point numbers \(mode 'F'\) are not .*RGB\.$",
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
    path.write_bytes(b"")
    for empty in (path, b""):
        with pytest.raises(DataError, match=r" is empty\. Copy it again or remove it\.$"):
            decode_picture(empty, spec())
    with pytest.raises(DataError, match=r"Cannot read .*gone\.png: No such file or directory"):
        decode_picture(tmp_path / "gone.png", spec())


def test_formats_outside_the_list_are_refused():
    for format in ("ICO", "TGA", "PCX"):
        with pytest.raises(DataError, match="must be a picture"):
            decode_picture(encoded(gradient(), format), spec())


def test_modes_without_a_plain_meaning_are_refused_by_name():
    data = encoded(Image.fromarray(np.zeros((3, 3), dtype=np.float32)), "TIFF")
    with pytest.raises(
        DataError, match=r"floating-point numbers \(mode 'F'\) are not supported; save it as 8-bit grey or RGB"
    ):
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


def photograph(height: int = 200, width: int = 260, seed: int = 0) -> Image.Image:
    """A picture with edges and noise, so that decoders that differ would show it."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 5, width // 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def as_pillow_decodes(data: bytes, channels: int, side: int) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        image.draft("L" if channels == 1 else "RGB", (2 * side, 2 * side))
        return pixels_of(image, spec(channels))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from([1, 2, 8, 16, 64]),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
    st.sampled_from(["RGB", "L"]),
    st.sampled_from([1, 3]),
)
def test_a_jpeg_has_the_pixels_that_pillow_decodes(height, width, side, subsampling, progressive, mode, channels):
    image = photograph(height + 5, width + 5).crop((0, 0, width, height)).convert(mode)
    options = {"subsampling": subsampling} if mode == "RGB" else {}
    data = encoded(image, "JPEG", quality=80, progressive=progressive, **options)
    expected = as_pillow_decodes(data, channels, side)
    assert torch.equal(decode_picture(data, spec(channels, side)), expected)


@pytest.mark.parametrize("options", [{"keep_rgb": True}, {"restart_marker_blocks": 2}, {"qtables": "web_high"}])
def test_an_unusual_jpeg_has_the_pixels_that_pillow_decodes(options):
    data = encoded(photograph(), "JPEG", **options)
    assert torch.equal(decode_picture(data, spec(3, 40)), as_pillow_decodes(data, 3, 40))


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_read_with_the_polarity_of_its_format(format):
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan: red. A JPEG stores it inverted, as Adobe's do.
    red, green, blue = decode_picture(encoded(inks, format), spec())[:, 8, 8].tolist()
    assert red > 240
    assert green < 20
    assert blue < 20


def test_sixteen_bits_of_rgb_are_read_by_their_upper_eight():
    levels = np.arange(4 * 3, dtype=np.uint16).reshape(1, 4, 3) * 5000 + 200
    rows = b"\0" + levels.astype(">u2").tobytes()

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 4, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert decode_picture(data, spec()).permute(1, 2, 0).tolist() == (levels >> 8).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_format_that_has_an_orientation_is_turned_once(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photograph(60, 90)
    options = {"lossless": True} if format == "WEBP" else {}
    plain = decode_picture(encoded(stored, format, **options), spec(side=200))
    turned = decode_picture(encoded(stored, format, exif=exif, **options), spec(side=200))
    turns = {
        1: plain,
        2: plain.flip(-1),
        3: plain.flip(-1, -2),
        4: plain.flip(-2),
        5: plain.mT,
        6: plain.rot90(-1, (-2, -1)),
        7: plain.mT.flip(-1, -2),
        8: plain.rot90(1, (-2, -1)),
    }
    assert torch.equal(turned, turns[orientation])


def test_the_first_picture_of_a_phones_several_is_taken():
    first, second = photograph(seed=1), photograph(seed=2)
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert torch.equal(decode_picture(data, spec(side=200)), decode_picture(encoded(first, "JPEG"), spec(side=200)))


def test_the_first_page_is_taken_and_that_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr("striate.data.decode.picture._animation_noted", False)
    first, second = gradient(), gradient(20, 30)
    data = encoded(first, "TIFF", save_all=True, append_images=[second])
    assert decode_picture(data, spec()).shape == (3, 12, 20)
    decode_picture(encoded(first, "GIF", save_all=True, append_images=[second]), spec())
    assert caplog.messages == ["The picture has several frames or pages; of such files the first is used."]


def test_a_colour_profile_changes_nothing():
    plain, with_profile = encoded(photograph(), "JPEG"), encoded(photograph(), "JPEG", icc_profile=b"\0" * 200)
    assert torch.equal(decode_picture(plain, spec()), decode_picture(with_profile, spec()))


@pytest.mark.parametrize(("brand", "kind"), [(b"heic", "HEIC"), (b"mif1", "HEIC"), (b"avif", "AVIF")])
def test_phone_formats_are_refused_with_the_way_to_convert_them(brand, kind, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0" * 100)
    with pytest.raises(DataError, match=rf"photo\.jpg is {kind}, which is not read; convert it to JPEG, as `magick"):
        decode_picture(path, spec())


def test_pixels_that_the_decoder_would_make_up_are_refused():
    data = encoded(photograph(), "JPEG")
    with pytest.raises(DataError, match=r"is damaged: Corrupt JPEG data: premature end of data segment\. Copy it"):
        decode_picture(data[: len(data) // 2] + b"\xff\xd9", spec())


def test_bytes_after_the_picture_do_no_harm():
    data = encoded(photograph(), "JPEG")
    assert torch.equal(decode_picture(data + b"and more" * 99, spec()), decode_picture(data, spec()))


def test_a_jpeg_of_endless_scans_is_refused():
    data = encoded(photograph(), "JPEG", progressive=True)
    with pytest.raises(DataError, match=r"at most 200 scans of a JPEG are decoded, it has 5\d\d\."):
        decode_picture(data + b"\xff\xda" * 500, spec())


def test_a_pipe_and_a_folder_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path):
        with pytest.raises(DataError, match=r"^Cannot read .*: it is not a regular file\.$"):
            decode_picture(path, spec())


def test_a_tiff_that_cannot_be_identified_is_not_called_something_else():
    with pytest.raises(DataError, match=r"is damaged, or a TIFF of a kind that is not read\. Save it as 8-bit"):
        decode_picture(b"II*\0\x08" + bytes(9), spec())


def test_several_sizes_are_filled_and_failures_are_told_by_position():
    sources = [encoded(photograph(seed=number), "JPEG" if number % 2 else "PNG") for number in range(40)]
    sources[7] = b"no picture"
    sources[30] = sources[31][:900]
    specs = [spec(side=16), spec(side=20), spec(1, side=70)]
    targets = [(one, np.full((40, *one.shape), 9, dtype=np.uint8)) for one in specs]
    failures = decode_into(sources, targets, threads=2)
    assert sorted(failures) == [7, 30]
    assert failures[7].startswith("The picture must be a picture")
    for wanted, rows in targets:
        for number, source in enumerate(sources):
            expected = torch.zeros(wanted.shape, dtype=torch.uint8)
            if number not in failures:
                expected = resize_to_uint8(decode_picture(source, wanted), wanted)
            assert torch.equal(torch.from_numpy(rows[number]), expected)


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"must be uint8 of shape \(1, 3, 8, 8\), got uint8 of shape \(2, 3, 8, 8\)"):
        decode_into([b""], [(spec(side=8), np.zeros((2, 3, 8, 8), dtype=np.uint8))])


def test_no_pictures_are_no_work():
    assert decode_into([], [(spec(side=8), np.zeros((0, 3, 8, 8), dtype=np.uint8))]) == {}
    assert read_pictures([], spec(side=8)).shape == (0, 3, 8, 8)


def test_threads_that_start_later_have_as_many_threads_of_pytorch_as_before(folder):
    found: list[int] = []
    read_pictures(sorted(folder.iterdir()), spec(side=8), 2)
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [torch.get_num_threads()]
