"""Anonymous memory while training on pictures that are more than memory should hold.

Run ``python benchmarks/memory.py [GIGABYTES]``: writes JPEGs that take as many bytes as their pixels, trains on them
from the cache and from shards, in a process of its own while its RssAnon is read from /proc, and the same network on a
tiny set. The network is a cheap one: what is measured is what brings it its pictures.
"""

from __future__ import annotations

import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from trials import data_folder, report

SIDE, BATCH, STEPS, CLASSES = 224, 64, 300, 4
PICTURE_BYTES = 3 * SIDE * SIDE
NETWORK = "conv 8@8x8 stride 8 bn relu | gap | fc 4"
TINY = 160  # pictures
DISTINCT = 64  # pictures; each file has an end of its own, after the picture's
BAR_MB = 150.0
FLAT_MB = 30.0  # that the last quarter may be above the second
_CHILD = """
import sys
from pathlib import Path
import striate as st
from striate.data.load import load_data
images = load_data(sys.argv[1], size=int(sys.argv[2]))
images.fingerprint
Path(sys.argv[5] + ".trains").touch()
network = st.build(sys.argv[6], images.spec, seed=0)
steps, batch = int(sys.argv[3]), int(sys.argv[4])
epochs = steps / max(1, len(images.learned) // batch)
st.fit(network, images, epochs=epochs, batch_size=batch, folder=sys.argv[5], flip="random", shift=4, progress=False)
"""


def write_pictures(root: Path, count: int, photographs: list[Path]) -> None:
    """Write JPEGs of SIDE × SIDE in folders of CLASSES classes, split as people do: nearly all of them train."""
    draw = np.random.default_rng(0)
    pictures = [_noisy_jpeg(photographs[number % len(photographs)], draw) for number in range(DISTINCT)]
    ends = draw.bytes(2 * PICTURE_BYTES)
    val_every = 100 if count > TINY else 8
    folders = {
        (split, label): root / split / f"class{label}" for split in ("train", "val", "test") for label in range(CLASSES)
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
    for number in range(count):
        split = ("val", "test", "train")[min(2, number % val_every)]
        picture = pictures[number % DISTINCT]
        first = int(draw.integers(PICTURE_BYTES))
        end = ends[first : first + PICTURE_BYTES - len(picture)]
        (folders[split, number // val_every % CLASSES] / f"{number}.jpg").write_bytes(picture + end)


def _noisy_jpeg(photograph: Path, draw: np.random.Generator) -> bytes:
    """Return a photograph with noise, as a JPEG that is shorter than its pixels."""
    pixels = np.asarray(Image.open(photograph).convert("RGB").resize((SIDE, SIDE))).astype(np.int16)
    noisy = np.clip(pixels + draw.integers(-24, 25, (SIDE, SIDE, 1)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noisy).save(stream, "JPEG", quality=75)
    return stream.getvalue()


def pack(root: Path, output: Path) -> None:
    """Write pictures as shards of the default size, in a process of its own."""
    words = ["datasets", "pack", str(root), "--output", str(output), "--size", str(SIDE), "--json"]
    subprocess.run([sys.executable, "-m", "striate", *words], check=True, capture_output=True)


def train(root: Path, folder: Path) -> tuple[list[float], list[float]]:
    """Train in a process of its own; return its RssAnon in MB, preparing and training, every 0.25 s."""
    words = [sys.executable, "-c", _CHILD, str(root), str(SIDE), str(STEPS), str(BATCH), str(folder), NETWORK]
    preparing: list[float] = []
    training: list[float] = []
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as child:
        while child.poll() is None:
            trains = Path(f"{folder}.trains").exists()
            (training if trains else preparing).append(anonymous_mb(child.pid))
            time.sleep(0.25)
    if child.returncode:
        sys.exit(f"The training ended with {child.returncode}.")
    return preparing, training


def anonymous_mb(process: int) -> float:
    """Return the RssAnon of a process in MB, 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon")), 0.0)


def main() -> None:
    """Measure, and report the peaks."""
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 8.0
    count = round(gigabytes * 1e9 / PICTURE_BYTES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["STRIATE_CACHE"] = str(folder / "cache")
        shutil.unpack_archive(data_folder("") / "clothing.tar.gz", folder, filter="data")
        photographs = sorted(folder.glob("clothing-small/test/*/*.jpg"))[::40]
        results = {}
        for which, pictures in (("tiny", TINY), ("large", count), ("shards", count)):
            if which == "shards":
                pack(folder / "large", folder / which)
            else:
                write_pictures(folder / which, pictures, photographs)
            started = time.perf_counter()
            preparing, training = train(folder / which, folder / f"run-{which}")
            quarter = max(1, len(training) // 4)
            results[which] = {
                "pictures": pictures,
                "seconds": time.perf_counter() - started,
                "preparing_mb": max(preparing),
                "training_mb": max(training),
                "second_quarter_mb": statistics.median(training[quarter : 2 * quarter]),
                "last_quarter_mb": statistics.median(training[-quarter:-1] or training),
            }
            print(which, {name: round(value, 1) for name, value in results[which].items()}, flush=True)
    tiny, *larger = (results[which] for which in ("tiny", "large", "shards"))
    above = max(max(one["training_mb"], one["preparing_mb"]) for one in larger) - tiny["training_mb"]
    rise = max(one["last_quarter_mb"] - one["second_quarter_mb"] for one in larger)
    report(
        "memory",
        f"RssAnon on {gigabytes:g} GB of pictures ≤ that on a tiny set + {BAR_MB:g} MB, and flat",
        above <= BAR_MB and rise <= FLAT_MB,
        [{"set": which, **figures} for which, figures in results.items()],
        gigabytes=gigabytes,
        above_tiny_mb=above,
        rise_mb=rise,
    )


if __name__ == "__main__":
    main()
