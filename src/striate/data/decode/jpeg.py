"""JPEG files by libjpeg-turbo without a detour: pixel for pixel what Pillow decodes, in three quarters of the time."""

from __future__ import annotations

import numpy as np
import simplejpeg  # type: ignore[import-untyped]
from numpy.typing import NDArray

from striate.core.errors import DataError

JPEG_START = b"\xff\xd8\xff"

_SCALES = (8, 4, 2)
_MOST_SCANS = 200  # a progressive photograph has about 10; each pass over a large picture takes a tenth of a second
_START_OF_SCAN = b"\xff\xda"

# What libjpeg-turbo says where it goes on with pixels that it has made up. Pillow does not pass it on.
_MADE_UP = ("premature end of data segment", "bad Huffman code", "instead of RST")


def check_scans(content: bytes, name: str) -> None:
    """Refuse a JPEG of so many passes over the picture that decoding would take minutes.

    Raises:
        DataError: more than 200 scans.
    """
    if _has_one_scan(content):
        return
    scans = content.count(_START_OF_SCAN)
    if scans > _MOST_SCANS:
        raise DataError(f"{name} cannot be used: at most {_MOST_SCANS} scans of a JPEG are decoded, it has {scans:,}.")


def _has_one_scan(content: bytes) -> bool:
    """Return whether a sequential JPEG's first scan holds all components, so that a decoder ends after it.

    The segments before it are walked (ITU-T T.81, annex B), which is a tenth of the work of counting in the whole.
    """
    place, components = 2, 0
    while content[place : place + 1] == b"\xff" and place + 9 < len(content):
        marker = content[place + 1]
        if marker in (0xC0, 0xC1):  # baseline and extended sequential frames
            components = content[place + 9]
        elif marker == 0xDA:
            return components == content[place + 4] > 0
        elif marker == 0xC2:  # progressive: a scan for each step
            return False
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return False


def plain_size(content: bytes) -> tuple[int, int] | None:
    """Return height and width of a grey or YCbCr JPEG; None for what is left to Pillow: other colours, or damage."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    return (int(height), int(width)) if colours in ("YCbCr", "Gray") else None


def has_notes(content: bytes) -> bool:
    """Return whether an orientation may be written in the file, as EXIF or as XMP."""
    before_pixels = content[: content.find(_START_OF_SCAN)]
    return b"Exif\0\0" in before_pixels or b"Orientation" in before_pixels


def scale_of(height: int, width: int, side: int) -> int:
    """Return by which of 8, 4, 2 and 1 a JPEG is reduced while it is decoded, so that ``side`` pixels remain."""
    fits = min(height // side, width // side)
    return next((scale for scale in _SCALES if scale <= fits), 1)


def decode_plain(content: bytes, height: int, width: int, grey: bool, scale: int) -> NDArray[np.uint8] | None:
    """Decode what ``plain_size`` read, with the accurate transform and smooth upsampling.

    Returns:
        (h, w) or (h, w, 3) uint8; None for what is left to Pillow, which also knows what to say of it.

    Raises:
        OSError: a part of the pixels is missing or cannot be decoded.
    """
    least_height, least_width = -(-height // scale), -(-width // scale)
    if scale > 1 and min(height, width) < 8:
        return None  # so small that another scale may have as many pixels
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, "GRAY" if grey else "RGB", min_height=least_height, min_width=least_width
        )
    except ValueError as error:
        if any(reason in str(error) for reason in _MADE_UP):
            raise OSError(str(error)) from error
        return None
    return pixels[..., 0] if grey else pixels
