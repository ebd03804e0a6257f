"""From a folder of JPEGs to batches, cold and from the cache, against the bare decode of one thread per core.

Run ``python benchmarks/loading.py``: the clothing photographs at 64×64, on all cores, in turns. Bare is simplejpeg at
the same reduced scale and PyTorch's antialiased resize of the middle, on one thread, and nothing besides. What the
cores allow is the same work in a process for each of them. Beside these our own decoder on one thread, and a loader as
torchvision's ImageFolder and PyTorch's DataLoader with two processes make one, written here with Pillow.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import striate as st
from decoding import bare as decode_reduced
from decoding import channels_first
from striate.core import machine
from striate.core.spec import InputSpec
from striate.data.batches import epoch_batches
from striate.data.decode import decode_into
from trials import alternate, data_folder, report, upper_bound

SIDE, BATCH, ROUNDS, WORKERS = 64, 64, 31, 2
COLD_BAR, WARM_BAR = 0.9, 10.0
SPEC = InputSpec(channels=3, height=SIDE, width=SIDE, mean=(0.0,) * 3, std=(1.0,) * 3)


class ImageFolder(Dataset[tuple[Tensor, int]]):
    """Files by class, each decoded by Pillow, resized, cropped and made a float tensor, as the usual loader does."""

    def __init__(self, files: list[Path]) -> None:
        names = sorted({path.parent.name for path in files})
        self._items = [(path, names.index(path.parent.name)) for path in files]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        path, label = self._items[number]
        with Image.open(path) as image:
            picture = image.convert("RGB")
        scale = SIDE / min(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR
        )
        left, top = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        pixels = np.array(picture.crop((left, top, left + SIDE, top + SIDE)))
        return torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).div_(255), label


@torch.inference_mode()
def bare(files: list[Path]) -> None:
    """Decode and resize one after another by one thread: nothing else is done."""
    with machine.threads(1):
        for file in files:
            pixels = decode_reduced(file.read_bytes(), SIDE)
            height, width, _ = pixels.shape
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            middle = channels_first(pixels[top : top + side, left : left + side])[None].float()
            F.interpolate(middle, (SIDE, SIDE), mode="bilinear", antialias=True).round_().to(torch.uint8)


def one_thread(files: list[Path]) -> None:
    """Do with striate's decoder what ``bare`` does."""
    decode_into(files, [(SPEC, np.empty((len(files), *SPEC.shape), dtype=np.uint8))], threads=1)


def in_processes(pool: ProcessPoolExecutor, files: list[Path]) -> None:
    """Share what ``bare`` does among processes, in small pieces so that all end together."""
    for _ in pool.map(bare, [files[start : start + 32] for start in range(0, len(files), 32)]):
        pass


def batches(root: Path) -> None:
    """Load a folder and draw every picture of every split once."""
    images = st.load_data(root, size=SIDE, channels=3)
    for split in (images.train, images.val, images.test):
        for batch in epoch_batches(split, BATCH):
            assert batch.images.shape[1:] == SPEC.shape


def cold(root: Path) -> None:
    """Load with an empty cache, which the later contestants find full."""
    os.environ["STRIATE_CACHE"] = tempfile.mkdtemp(dir=root.parent)
    batches(root)


def from_cache(root: Path) -> float:
    """Return the seconds of drawing all batches once from pictures that are cached; the best of five."""
    images = st.load_data(root, size=SIDE, channels=3)
    splits = (images.train, images.val, images.test)
    seconds = []
    for epoch in range(5):
        start = time.perf_counter()
        for split in splits:
            for _ in epoch_batches(split, BATCH, epoch=epoch):
                pass
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def usual(files: list[Path]) -> None:
    """Draw every picture once through the loader that is usual elsewhere."""
    for _ in DataLoader(ImageFolder(files), BATCH, shuffle=True, num_workers=WORKERS):
        pass


def main() -> None:
    """Measure, and report the ratios with their bounds."""
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["STRIATE_CACHE"] = f"{folder}/cache"
        shutil.unpack_archive(data_folder("") / "clothing.tar.gz", folder, filter="data")
        root = Path(folder) / "clothing-small"
        files = sorted(root.glob("*/*/*.jpg"))
        pool = stack.enter_context(ProcessPoolExecutor(cores, multiprocessing.get_context("spawn")))
        in_processes(pool, files)  # which starts them
        contestants = {
            "one thread": lambda: one_thread(files),
            "bare in processes": lambda: in_processes(pool, files),
            "bare": lambda: bare(files),
            "cold": lambda: cold(root),
            "start from cache": lambda: batches(root),
            "usual": lambda: usual(files),
        }
        trials: list[dict[str, Any]] = list(alternate(contestants, ROUNDS))
        for trial in trials:
            trial["from cache"] = from_cache(root)

    def ratio(slow: str, fast: str) -> float:
        return statistics.median(trial[slow] / trial[fast] for trial in trials)

    seconds = {name: statistics.median(trial[name] for trial in trials) for name in trials[0]}
    slower = [cores * trial["cold"] / trial["bare"] for trial in trials]  # 1 where nothing is lost
    longer = [trial["from cache"] / trial["bare"] for trial in trials]
    rates = {name: len(files) / one for name, one in seconds.items()}
    figures = {
        "cold_share_of_bare_times_cores": 1 / statistics.median(slower),
        "cold_share_at_least": 1 / upper_bound(slower),
        "cold_share_of_bare_in_processes": ratio("bare in processes", "cold"),
        "cold_share_of_one_thread_times_cores": ratio("one thread", "cold") / cores,
        "processes_share_of_bare_times_cores": ratio("bare", "bare in processes") / cores,
        "cache_times_bare": 1 / statistics.median(longer),
        "cache_times_bare_at_least": 1 / upper_bound(longer),
        "cold_times_usual": ratio("usual", "cold"),
    }
    holds = figures["cold_share_at_least"] >= COLD_BAR and figures["cache_times_bare_at_least"] >= WARM_BAR
    claim = f"cold ≥ {COLD_BAR} × cores × one thread's bare decode and resize; from the cache ≥ {WARM_BAR:g} × bare"
    report("loading", claim, holds, trials, pictures=len(files), cores=cores, pictures_per_second=rates, **figures)


if __name__ == "__main__":
    main()
