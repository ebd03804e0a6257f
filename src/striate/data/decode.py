"""Picture files become uint8 tensors: checked before decoding, upright, grey or RGB, never half-read."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from striate.core.errors import DataError
from striate.core.spec import InputSpec
from striate.data.memory import check_memory
from striate.data.preprocess import resize_to_uint8

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
)
MOST_PIXELS = 89_000_000

_GREY_MODES = frozenset(("1", "L", "LA", "I;16", "I;16L", "I;16B", "I;16N"))
_COLOUR_MODES = frozenset(("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"))
_ALPHA_MODES = frozenset(("LA", "PA", "RGBA"))
_LISTED_ERRORS = 5
_PICTURES_PER_TASK = 32

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
    with _sentences(_name_of(source)), _opened(source) as image:
        return Header(image.height, image.width, image.mode in _GREY_MODES)


def decode_picture(source: str | Path | bytes, spec: InputSpec) -> Tensor:
    """Decode one picture, to be resized by ``resize_to_uint8``.

    It is turned upright as its EXIF orientation says; transparent parts are shown on white; 16-bit grey is
    scaled to 8; of an animation or several pages the first is taken. A JPEG is decoded at ½, ¼ or ⅛ of its
    size where at least twice the network's size remains for the antialiased resize: about twice as fast for
    photographs.

    Args:
        source: a file, or the bytes of one.
        spec: 1 channel for grey or 3 for RGB, and the size in pixels that the picture is wanted for.

    Returns:
        (C, h, w) uint8.

    Raises:
        DataError: not a picture of the FORMATS, truncated, damaged, larger than MOST_PIXELS, or of a mode
            that is not supported.
    """
    mode, name = _mode_for(spec), _name_of(source)
    with _sentences(name), _opened(source) as image:
        # The longer side for both, because the picture may lie on its side.
        side = 2 * max(spec.height, spec.width)
        image.draft(mode, (side, side))
        return pixels_of(image, spec, name)


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
        upright = _UPRIGHT.get(_orientation(image))
        converted = _converted(image, mode)
        if upright is not None:
            converted = converted.transpose(upright)
        pixels = torch.from_numpy(np.array(converted))
    return pixels.unsqueeze(0) if mode == "L" else pixels.permute(2, 0, 1)  # (h, w[, 3]) → (C, h, w)


def read_pictures(paths: Sequence[str | Path], spec: InputSpec, threads: int | None = None) -> Tensor:
    """Decode and resize pictures into one batch, in the order of ``paths``.

    Args:
        spec: the size, channels and policy of the resize.
        threads: how many decode at once; None for as many as PyTorch uses.

    Returns:
        (N, C, H, W) uint8.

    Raises:
        DataError: pictures that cannot be read: the first five are named, with the count; or more than
            memory takes.
    """
    check_memory(len(paths), spec, "to be read", "Read fewer at once.")
    images = np.empty((len(paths), *spec.shape), dtype=np.uint8)
    failures = decode_into(paths, [(spec, images)], threads=threads)
    _check_failures([failures[number] for number in sorted(failures)], len(paths))
    return torch.from_numpy(images)


def decode_into(
    sources: Sequence[str | Path | bytes],
    targets: Sequence[tuple[InputSpec, NDArray[np.uint8]]],
    *,
    threads: int | None = None,
    finished: Callable[[int, int], None] | None = None,
) -> dict[int, str]:
    """Decode pictures by threads straight into arrays, each at one size or at several.

    Every target holds exactly what ``resize_to_uint8(decode_picture(source, spec), spec)`` is.

    Args:
        sources: N files, or the bytes of files.
        targets: for each wanted size, its spec and the array to fill, (N, C, H, W) uint8; it may be memory-mapped.
        threads: how many decode at once; None for as many as PyTorch uses.
        finished: called in the calling thread, in order, with the first and one past the last position of every
            block of pictures that is done.

    Returns:
        For every picture that cannot be read, its position and the sentence that says why; its rows are zero.

    Raises:
        DataError: an array of another shape than (N, C, H, W) of its spec, or of another type than uint8.
    """
    for spec, rows in targets:
        _check_target(len(sources), spec, rows)
    failures: dict[int, str] = {}

    def fill(start: int) -> int:
        for number in range(start, min(start + _PICTURES_PER_TASK, len(sources))):
            try:
                for spec, rows in targets:
                    rows[number] = resize_to_uint8(decode_picture(sources[number], spec), spec).numpy()
            except DataError as error:
                failures[number] = str(error)
                for _, rows in targets:
                    rows[number] = 0
        return start

    with ThreadPoolExecutor(threads or torch.get_num_threads()) as pool:
        for start in pool.map(fill, range(0, len(sources), _PICTURES_PER_TASK)):
            if finished is not None:
                finished(start, min(start + _PICTURES_PER_TASK, len(sources)))
    return failures


def _check_target(pictures: int, spec: InputSpec, rows: NDArray[np.uint8]) -> None:
    if rows.dtype != np.uint8 or rows.shape != (pictures, *spec.shape):
        raise DataError(
            f"The array to decode into must be uint8 of shape {(pictures, *spec.shape)}, "
            f"got {rows.dtype} of shape {rows.shape}."
        )


def _check_failures(failures: Sequence[str], pictures: int) -> None:
    if len(failures) == 1:
        raise DataError(failures[0])
    if failures:
        listed = "\n".join(f"  {failure}" for failure in failures[:_LISTED_ERRORS])
        rest = f"\n  … and {len(failures) - _LISTED_ERRORS:,} more" if len(failures) > _LISTED_ERRORS else ""
        raise DataError(f"{len(failures):,} of {pictures:,} pictures cannot be read:\n{listed}{rest}")


def _opened(source: str | Path | bytes) -> ImageFile.ImageFile:
    """Open a picture: its header is read and checked, its pixels are not."""
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    _check_usable(image, _name_of(source))
    return image


def _check_usable(image: Image.Image, name: str) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise DataError(
            f"{name} cannot be used: at most {MOST_PIXELS:,} pixels are read, got {image.width:,} × {image.height:,}."
        )
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise DataError(
            f"{name} cannot be used: pictures of mode {image.mode!r} are not supported; save it as 8-bit grey or RGB."
        )


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
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
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
    if isinstance(error, UnidentifiedImageError):
        return DataError(f"{name} must be a picture ({', '.join(FORMATS)}); its content is something else.")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(f"{name} cannot be used: at most {MOST_PIXELS:,} pixels are read, and it has more.")
    if isinstance(error, FileNotFoundError | PermissionError):
        return DataError(f"Cannot read {name}: {error.strerror}.")
    if "truncated" in str(error):
        return DataError(f"{name} is truncated: it ends before the picture does. Copy it again or remove it.")
    return DataError(f"{name} is damaged: {error}. Copy it again or remove it.")
