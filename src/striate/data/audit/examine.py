"""Picture files, each read once: what the file says about itself, whether it decodes, and a thumbnail."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, final

import torch
from PIL import Image
from torch import Tensor

from striate.core.errors import DataError
from striate.core.spec import InputSpec
from striate.data.assemble import unmeasured
from striate.data.decode import FORMATS, decode_picture
from striate.data.preprocess import resize_to_uint8

SIDE = 32  # px of a thumbnail, which ignores proportions
_PICTURES_PER_TASK = 32
_ORIENTATION, _MAKE, _MODEL = 0x0112, 0x010F, 0x0110  # Exif 2.32, section 4.6.4


@final
class Record(NamedTuple):
    """What is known of a picture file.

    Args:
        digest: of its bytes; empty where they cannot be read.
        size_bytes: of the file.
        problem: why it cannot be used; empty for a picture that can.
        format: such as ``"JPEG"``; empty, as all below, where there is a problem.
        mode: Pillow's, such as ``"RGB"`` or ``"CMYK"``.
        height, width: px, as stored.
        orientation: of EXIF, 1 to 8; 1 is upright.
        camera: make and model of EXIF.
    """

    digest: bytes
    size_bytes: int
    problem: str = ""
    format: str = ""
    mode: str = ""
    height: int = 0
    width: int = 0
    orientation: int = 1
    camera: str = ""


def examine(files: Sequence[str | Path]) -> tuple[list[Record], Tensor]:
    """Decode every file at a reduced scale: a truncated one is found, since all of its data is read.

    Args:
        files: N paths.

    Returns:
        N records, and (N, 3, 32, 32) uint8 thumbnails, upright; zeros where there is a problem.
    """
    thumbnails = torch.zeros((len(files), 3, SIDE, SIDE), dtype=torch.uint8)
    spec = unmeasured(3, SIDE, SIDE, "stretch")

    def work(start: int) -> list[Record]:
        block = range(start, min(start + _PICTURES_PER_TASK, len(files)))
        return [_examine_one(files[number], spec, thumbnails[number]) for number in block]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        blocks = list(pool.map(work, range(0, len(files), _PICTURES_PER_TASK)))
    return [record for block in blocks for record in block], thumbnails


def _examine_one(file: str | Path, spec: InputSpec, thumbnail: Tensor) -> Record:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        return Record(b"", 0, f"cannot be read: {error.strerror}")
    digest = hashlib.blake2b(content, digest_size=16).digest()
    try:
        thumbnail.copy_(resize_to_uint8(decode_picture(content, spec), spec))
    except DataError as error:
        return Record(digest, len(content), _reason(error) if content else "is empty")
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        orientation, camera = _exif(image)
        return Record(
            digest, len(content), "", image.format or "", image.mode, image.height, image.width, orientation, camera
        )


def _reason(error: DataError) -> str:
    """Return what is said of a picture, without its name and without the fix."""
    return str(error).removeprefix("The picture ").split(". ")[0].rstrip(".")


def _exif(image: Image.Image) -> tuple[int, str]:
    """Return the orientation and the camera; a damaged note about the picture does not make it unreadable."""
    with contextlib.suppress(Exception):
        exif = image.getexif()
        camera = " ".join(str(exif[tag]).strip("\0 ") for tag in (_MAKE, _MODEL) if tag in exif)
        orientation = int(exif.get(_ORIENTATION, 1))
        return (orientation if 1 <= orientation <= 8 else 1), camera
    return 1, ""
