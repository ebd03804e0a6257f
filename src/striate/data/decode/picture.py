"""One picture file becomes a uint8 tensor: checked before decoding, upright, grey or RGB, never half-read."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from striate.core.errors import DataError
from striate.core.spec import InputSpec
from striate.data.decode.jpeg import (
    JPEG_START,
    check_scans,
    decode_plain,
    has_notes,
    plain_size,
    scale_of,
)

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
)
# Pictures too, though of formats that are not read: listed with the others, so that they are refused by name.
UNREAD_EXTENSIONS = frozenset((".heic", ".heif", ".avif"))
MOST_PIXELS = 89_000_000

GREY_MODES = frozenset(("1", "L", "LA", "I;16", "I;16L", "I;16B", "I;16N"))
_COLOUR_MODES = frozenset(("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"))
ALPHA_MODES = frozenset(("LA", "PA", "RGBA"))
_REFUSED_MODES = {"F": "floating-point numbers", "I": "32-bit integers", "LAB": "CIELAB colours", "HSV": "HSV colours"}
_ANIMATED_FORMATS = frozenset(("GIF", "PNG", "WEBP", "TIFF"))
_MOST_JPEG_BYTES = 2**28

# What files start with that Pillow may still refuse; HEIC and AVIF are told by their brand (ISO/IEC 14496-12, 4.3).
_STARTS = {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"\x89PNG": "PNG", JPEG_START: "JPEG", b"GIF8": "GIF", b"RIFF": "WebP"}
_PHONE_FORMATS = dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC") | dict.fromkeys(
    (b"avif", b"avis"), "AVIF"
)
_LONGEST_START = 12

_LOGGER = logging.getLogger(__name__)
_animation_noted = False

# How a picture that was stored as the sensor saw it is turned upright (Exif 2.32, section 4.6.4).
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# A picture of more pixels than Pillow finds credible is refused, and not only remarked upon.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@final
class Header(NamedTuple):
    """What a picture file says about itself: size in pixels as stored, and whether it is grey."""

    height: int
    width: int
    grey: bool


def read_header(source: str | Path | bytes) -> Header:
    """Return the header of a picture without decoding it.

    Raises:
        DataError: not a picture of the FORMATS, or one that cannot be used.
    """
    name = _name_of(source)
    with _sentences(name), _opened(source, name) as image:
        return Header(image.height, image.width, image.mode in GREY_MODES)


def decode_picture(source: str | Path | bytes, spec: InputSpec) -> Tensor:
    """Decode one picture, to be resized by ``resize_to_uint8``.

    It is turned upright as its EXIF orientation says; transparent parts are shown on white; 16-bit grey is
    scaled to 8; of an animation or several pages the first is taken; a colour profile is not applied. A JPEG is
    decoded at ½, ¼ or ⅛ of its size where at least twice the network's size remains for the antialiased resize:
    about twice as fast for photographs.

    Args:
        source: a file, or the bytes of one.
        spec: 1 channel for grey or 3 for RGB, and the size in pixels that the picture is wanted for.

    Returns:
        (C, h, w) uint8.

    Raises:
        DataError: not a picture of the FORMATS, truncated, damaged, larger than MOST_PIXELS, or of a mode
            that is not supported.
    """
    return _channels_first(decode_for(source, [spec])[0])


def decode_for(source: str | Path | bytes, specs: Sequence[InputSpec]) -> list[NDArray[np.uint8]]:
    """Return what ``decode_picture`` does for each of ``specs``, as (h, w, C); what wants the same is decoded once."""
    name = _name_of(source)
    wanted = [(_mode_for(spec), 2 * max(spec.height, spec.width)) for spec in specs]
    with _sentences(name):
        content = _content(source)
        if isinstance(content, bytes) and content.startswith(JPEG_START):
            check_scans(content, name)
            size = plain_size(content)
            if size is not None:
                _check_size(*size, name)
                pixels = _decoded_jpeg(content, *size, wanted, name)
                if pixels is not None:
                    return pixels
        return _decoded(content, wanted, name)


def pixels_of(image: Image.Image, spec: InputSpec, name: str = "The picture") -> Tensor:
    """Return the pixels of a Pillow image as ``decode_picture`` does those of its file; the image stays as it is.

    Args:
        spec: 1 channel for grey or 3 for RGB.
        name: what the picture is called in an error.

    Returns:
        (C, h, w) uint8, of the size that the image has.

    Raises:
        DataError: see ``decode_picture``.
    """
    mode = _mode_for(spec)
    with _sentences(name):
        _check_usable(image, name)
        return _channels_first(_pixels(image, mode))


def _content(source: str | Path | bytes) -> str | Path | bytes:
    """Return the bytes of a JPEG, which are decoded from memory; of any other file the path."""
    if isinstance(source, bytes):
        return source
    state = os.stat(source)
    if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for, a device has no end
        raise DataError(f"Cannot read {source}: it is not a regular file.")
    file = os.open(source, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # half as many calls of the system as open()
    try:
        start = os.read(file, len(JPEG_START))
        if start != JPEG_START:
            return source
        if state.st_size > _MOST_JPEG_BYTES:
            raise DataError(f"{source} cannot be used: a JPEG file may have at most {_MOST_JPEG_BYTES:,} bytes.")
        return start + os.read(file, state.st_size)
    finally:
        os.close(file)


def _decoded_jpeg(
    content: bytes, height: int, width: int, wanted: Sequence[tuple[str, int]], name: str
) -> list[NDArray[np.uint8]] | None:
    """Decode with simplejpeg at each (mode, least side); None where the file is left to Pillow."""
    upright = None
    if has_notes(content):
        with _opened(content, name) as image:
            upright = _UPRIGHT.get(_orientation(image))
    decoded: dict[tuple[str, int], NDArray[np.uint8]] = {}
    keys = [(mode, scale_of(height, width, side)) for mode, side in wanted]
    for mode, scale in keys:
        if (mode, scale) in decoded:
            continue
        pixels = decode_plain(content, height, width, mode == "L", scale)
        if pixels is None:
            return None
        if upright is not None:
            pixels = np.array(Image.fromarray(pixels).transpose(upright))
        decoded[mode, scale] = _with_channels(pixels)
    return [decoded[key] for key in keys]


def _decoded(content: str | Path | bytes, wanted: Sequence[tuple[str, int]], name: str) -> list[NDArray[np.uint8]]:
    """Decode with Pillow for each (mode, least side)."""
    decoded: dict[tuple[str, tuple[int, int]], NDArray[np.uint8]] = {}
    pixels = []
    for mode, side in wanted:
        with _opened(content, name) as image:
            # The least side for both, because the picture may lie on its side.
            image.draft(mode, (side, side))
            key = (mode, image.size)
            if key not in decoded:
                decoded[key] = _pixels(image, mode)
                _note_animation(image, name)
            pixels.append(decoded[key])
    return pixels


def _pixels(image: Image.Image, mode: str) -> NDArray[np.uint8]:
    image.load()  # which turns a TIFF upright by itself, and only then knows all of a PNG's notes
    upright = _UPRIGHT.get(_orientation(image))
    converted = _converted(image, mode)
    return _with_channels(np.array(converted if upright is None else converted.transpose(upright)))


def _with_channels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return grey pixels (h, w) as (h, w, 1)."""
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _channels_first(pixels: NDArray[np.uint8]) -> Tensor:
    """Return (h, w, C) as (C, h, w), in the memory that it has."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _note_animation(image: Image.Image, name: str) -> None:
    """Say, for the first of them, that only the first frame is used."""
    global _animation_noted
    if _animation_noted or image.format not in _ANIMATED_FORMATS:
        return
    with contextlib.suppress(Exception):  # what comes after the first frame may be damaged as it likes
        if getattr(image, "is_animated", False):
            _animation_noted = True
            _LOGGER.warning("%s has several frames or pages; of such files the first is used.", name)


def _opened(source: str | Path | bytes, name: str) -> ImageFile.ImageFile:
    """Open a picture: its header is read and checked, its pixels are not."""
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise DataError(_unidentified(source, name)) from error
    _check_usable(image, name)
    return image


def _unidentified(source: str | Path | bytes, name: str) -> str:
    """Return why Pillow knows nothing to do with a file."""
    if isinstance(source, bytes):
        start = source[:_LONGEST_START]
    else:
        with open(source, "rb") as file:
            start = file.read(_LONGEST_START)
    if not start:
        return f"{name} is empty. Copy it again or remove it."
    if start[4:8] == b"ftyp" and start[8:12] in _PHONE_FORMATS:
        kind = _PHONE_FORMATS[start[8:12]]
        return f"{name} is {kind}, which is not read; convert it to JPEG, as `magick FILE photo.jpg` does."
    for start_of, kind in _STARTS.items():
        if start.startswith(start_of):
            return f"{name} is damaged, or a {kind} of a kind that is not read. Save it as 8-bit grey or RGB."
    return f"{name} must be a picture ({', '.join(FORMATS)}); its content is something else."


def _check_usable(image: Image.Image, name: str) -> None:
    _check_size(image.height, image.width, name)
    if image.mode not in GREY_MODES | _COLOUR_MODES:
        meaning = _REFUSED_MODES.get(image.mode, "this kind")
        raise DataError(
            f"{name} cannot be used: pictures of {meaning} (mode {image.mode!r}) are not supported; "
            "save it as 8-bit grey or RGB."
        )


def _check_size(height: int, width: int, name: str) -> None:
    if width * height > MOST_PIXELS:
        raise DataError(f"{name} cannot be used: at most {MOST_PIXELS:,} pixels are read, got {width:,} × {height:,}.")


def _mode_for(spec: InputSpec) -> str:
    if spec.channels not in (1, 3):
        raise DataError(f"A picture file has 1 channel (grey) or 3 (RGB); {spec.channels} were asked for.")
    return "L" if spec.channels == 1 else "RGB"


def _name_of(source: str | Path | bytes) -> str:
    return "The picture" if isinstance(source, bytes) else str(source)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1, upright, where there is none that can be read."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged note about the picture does not make the picture unreadable
        return 1


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        levels = np.asarray(image, dtype=np.uint16)
        image = Image.fromarray((levels / 257).round().astype(np.uint8))  # 65,535 = 257 × 255
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == mode else image.convert(mode)  # which copies even where nothing changes


@contextlib.contextmanager
def _sentences(name: str) -> Iterator[None]:
    """Turn whatever goes wrong with a picture into one sentence that names it."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # Pillow's parsers raise nearly anything on what is not quite a picture
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> DataError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(f"{name} cannot be used: at most {MOST_PIXELS:,} pixels are read, and it has more.")
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(f"Cannot read {name}: {error.strerror}.")
    if isinstance(error, MemoryError):
        return DataError(f"{name} cannot be used: it takes more memory than there is.")
    if "truncated" in str(error):
        return DataError(f"{name} is truncated: it ends before the picture does. Copy it again or remove it.")
    return DataError(f"{name} is damaged: {error}. Copy it again or remove it.")
