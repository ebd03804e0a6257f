"""Damaged picture files: each is decoded or refused by name, within two seconds and within bounds of memory."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from striate.data.assemble import unmeasured
from striate.data.decode import decode_picture
from striate.data.preprocess import resize_to_uint8

MOST_SECONDS = 2.0
MOST_GROWTH = 300 * 2**20
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\xff\xff", b"\x23\x28\x23\x28")

# Decodes every file that is named on standard input; what crashes or waits for ever takes this process along.
DECODE = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
from striate.core.errors import DataError
from striate.core.spec import InputSpec
from striate.data.decode import decode_picture
from striate.data.preprocess import resize_to_uint8
wanted = InputSpec(channels=3, height=64, width=64, mean=(0.0,) * 3, std=(1.0,) * 3)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = None
for file in sys.stdin:
    file = file.strip()
    start = time.process_time()
    try:
        assert resize_to_uint8(decode_picture(file, wanted), wanted).shape == wanted.shape
        answer = "decoded"
    except DataError as error:
        answer = str(error)
    before = before or peak()
    print(json.dumps([file, answer, time.process_time() - start, peak() - before]), flush=True)
"""


def photographs(archive: Path, count: int) -> list[Image.Image]:
    """Return real photographs, none larger than 200 pixels so that a few thousand mutations are soon decoded."""
    pictures = []
    with tarfile.open(archive) as members:
        for member in members:
            stream = members.extractfile(member) if member.name.lower().endswith((".jpg", ".jpeg")) else None
            if stream is not None:
                image = Image.open(io.BytesIO(stream.read()))
                image.thumbnail((200, 200))
                image = image.convert("RGB")
                pictures.append(image)
            if len(pictures) == count:
                break
    return pictures


def seeds_of(pictures: list[Image.Image]) -> list[bytes]:
    """Return every picture in every format, with what the formats vary in."""
    options = {
        "JPEG": ({}, {"progressive": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"}),
        "TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"compression": "tiff_adobe_deflate"}),
        "WEBP": ({}, {"lossless": True}),
        "PNG": ({}, {"dpi": (72, 72)}),
    }
    seeds = []
    for image in pictures:
        for format in FORMATS:
            for option in options.get(format, ({},)):
                stream = io.BytesIO()
                image.save(stream, format, **option)
                seeds.append(stream.getvalue())
        stream = io.BytesIO()
        image.save(stream, "GIF", save_all=True, append_images=[image.rotate(90)])
        seeds.append(stream.getvalue())
    return seeds


def mutated(seeds: list[bytes], draw: random.Random) -> bytes:
    """Return one damaged file: bits flipped, cut, bytes put in, a field set to an extreme, or two files spliced."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(data)) if draw.random() < 0.4 else draw.randrange(min(200, len(data)))
        match draw.choice(("bits", "cut", "insert", "remove", "extreme", "extreme", "splice")):
            case "bits":
                data[place] ^= 1 << draw.randrange(8)
            case "cut":
                del data[max(place, 1) :]
            case "insert":
                data[place:place] = draw.randbytes(draw.randint(1, 40))
            case "remove":
                del data[place : place + draw.randint(1, 40)]
            case "extreme":
                value = draw.choice(EXTREMES)[: draw.choice((1, 2, 4))]
                data[place : place + len(value)] = value
            case "splice":
                other = draw.choice(seeds)
                data[place:] = other[draw.randrange(len(other)) :]
        data = data or bytearray(b"\0")
    return bytes(data)


def decoded_by_a_child(files: list[Path]) -> Iterator[tuple[str, str, float, int]]:
    """Yield, file by file, its name, ``decoded`` or the sentence, the processor's seconds and the growth in bytes."""
    names = "".join(f"{file}\n" for file in files)
    done = subprocess.run([sys.executable, "-c", DECODE], input=names, capture_output=True, text=True, timeout=1200)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{files[len(lines)]}: {done.returncode}, {done.stderr[-2000:]}"
    for line in lines:
        yield tuple(json.loads(line))


@pytest.fixture(scope="module")
def seeds(shared_data: Path) -> list[bytes]:
    return seeds_of(photographs(shared_data / "imagenet-photos-100.tar.gz", 12))


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_decoded_or_refused_by_name(count, seeds, tmp_path):
    draw = random.Random(count)
    files = [tmp_path / f"damaged-{number:04}" for number in range(count)]
    for file in files:
        file.write_bytes(mutated(seeds, draw))
    answers = list(decoded_by_a_child(files))
    assert [answer[0] for answer in answers] == [str(file) for file in files]
    for name, answer, seconds, growth in answers:
        assert answer == "decoded" or name in answer
        assert seconds < MOST_SECONDS, f"{name}: {seconds} s, {answer}"
        assert growth < MOST_GROWTH, f"{name}: {growth} bytes, {answer}"
    refused = sum(answer[1] != "decoded" for answer in answers)
    assert count / 4 < refused < count  # the mutations neither spare all files nor kill every one


def test_undamaged_files_are_decoded(seeds):
    wanted = unmeasured(3, 64, 64, "crop")
    for seed in seeds:
        assert resize_to_uint8(decode_picture(seed, wanted), wanted).shape == (3, 64, 64)
