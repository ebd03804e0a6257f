"""Decoding: a folder of JPEG files to one batch of uint8, cold, at 0.9 of what bare decoding allows on every core.

The yardstick is one thread that decodes with simplejpeg at a reduced scale and resizes canonically, times the cores.
Other decoders, each with the resize it brings, are timed beside it; those that are not installed are left out.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image

from striate.core import machine
from striate.core.spec import InputSpec
from striate.data.decode import read_pictures
from striate.data.preprocess import resize_to_uint8
from trials import alternate, data_folder, report, spread

TURNS = 15
PICTURES = 400
SIDES = (64, 96, 224)
BOUND = 0.9


def main() -> None:
    """Alternate the contestants at every size."""
    cores = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(data_folder(".") / "clothing.tar.gz", folder, filter="data")
        files = [str(file) for file in sorted(Path(folder).rglob("*.jpg"))[::5][:PICTURES]]
        trials = [{"side": side, **trial} for side in SIDES for trial in alternate(contestants(files, side), TURNS)]
    rates = {
        f"{name} at {side}": spread(len(files) / float(trial[name]) for trial in trials if trial["side"] == side)
        for side in SIDES
        for name in trials[0]
        if name != "side"
    }
    shares = {
        side: spread(trial["bare"] / trial["striate"] / cores for trial in trials if trial["side"] == side)
        for side in SIDES
    }
    report(
        "decoding",
        f"JPEG files to a batch: at least {BOUND} × cores × one thread's bare decode and resize",
        all(share["median"] >= BOUND for share in shares.values()),
        trials,
        share_of_bare_times_cores=shares,
        pictures_per_second=rates,
        left_out=[] if opencv() else ["OpenCV: not installed"],
    )


def contestants(files: list[str], side: int) -> dict[str, Callable[[], object]]:
    """Return what decodes and resizes all files: ours on every core, the others on one thread."""
    spec = InputSpec(channels=3, height=side, width=side, mean=(0.0,) * 3, std=(1.0,) * 3)
    one_by_one: dict[str, Callable[[bytes], object]] = {
        "bare": lambda data: resize_to_uint8(channels_first(bare(data, side)), spec),
        "pillow": lambda data: pillow(data, side, reduced=False),
        "pillow reduced": lambda data: pillow(data, side, reduced=True),
    }
    cv2 = opencv()
    if cv2:
        one_by_one["opencv"] = lambda data: with_opencv(cv2, data, side, cv2.IMREAD_COLOR)
        one_by_one["opencv halved"] = lambda data: with_opencv(cv2, data, side, cv2.IMREAD_REDUCED_COLOR_2)
    alone = {name: on_one_thread(decode, files) for name, decode in one_by_one.items()}
    return {"striate": lambda: read_pictures(files, spec), **alone}


def on_one_thread(decode: Callable[[bytes], object], files: list[str]) -> Callable[[], None]:
    """Return what reads and decodes all files while PyTorch keeps to one thread."""

    def decode_all() -> None:
        with machine.threads(1):
            for file in files:
                with open(file, "rb") as stream:
                    decode(stream.read())

    return decode_all


def bare(data: bytes, side: int) -> np.ndarray:
    """Decode with simplejpeg so that twice the side remains."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    scale = next((one for one in (8, 4, 2) if min(height, width) // (2 * side) >= one), 1)
    return simplejpeg.decode_jpeg(data, "RGB", min_height=-(-height // scale), min_width=-(-width // scale))


def channels_first(pixels: np.ndarray) -> torch.Tensor:
    """Return (h, w, 3) as (3, h, w)."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def pillow(data: bytes, side: int, *, reduced: bool) -> np.ndarray:
    """Decode and resize with Pillow."""
    with Image.open(io.BytesIO(data)) as image:
        if reduced:
            image.draft("RGB", (2 * side, 2 * side))
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def opencv():  # type: ignore[no-untyped-def]
    """Return OpenCV on one thread, or None where it is not installed."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    return cv2


def with_opencv(cv2, data: bytes, side: int, flags: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Decode and resize with OpenCV."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return cv2.cvtColor(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)


if __name__ == "__main__":
    main()
