from __future__ import annotations

import contextlib
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from striate.core.errors import DataError, StriateError
from striate.data.sources import idx
from striate.data.sources.idx import MNIST, read_idx, read_release


def encode(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_set(
    folder: Path, prefixes: tuple[str, str] = ("train-", "t10k-"), count: int = 30, first: int = 0
) -> np.ndarray:
    """Write train and test of 3×2 pictures and return those of train."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = np.arange(count * 6, dtype=np.uint8).reshape(count, 3, 2)
    labels = (np.arange(count) % 10 + first).astype(np.uint8)
    for prefix in prefixes:
        (folder / f"{prefix}images-idx3-ubyte.gz").write_bytes(gzip.compress(encode(pictures)))
        (folder / f"{prefix}labels-idx1-ubyte").write_bytes(encode(labels))
    return pictures


@pytest.mark.parametrize("place", ["", "mnist", "mnist/raw", "MNIST/raw"])
def test_files_are_found_plain_or_gzipped_in_the_usual_places(tmp_path, place):
    pictures = write_set(tmp_path / place)
    labelled = read_release(MNIST, tmp_path)
    assert torch.equal(labelled.images["train"], torch.from_numpy(pictures)[:, None])
    assert labelled.labels["test"].tolist() == [number % 10 for number in range(30)]
    assert labelled.class_names == tuple("0123456789")


def test_a_missing_file_is_named_with_its_address(tmp_path):
    with pytest.raises(
        DataError, match=r"MNIST needs train-images-idx3-ubyte or .*\.gz in .* It is published at https://"
    ):
        read_release(MNIST, tmp_path)


def test_a_set_is_downloaded_once_into_the_cache(tmp_path, monkeypatch, cache):
    fetched = []

    def download(url: str, path: Path, *, md5: str) -> None:
        fetched.append((url, md5))
        write_set(path.parent)
        if not path.exists():  # write_set leaves the labels plain
            path.write_bytes(path.with_suffix("").read_bytes())

    monkeypatch.setattr(idx, "download", download)
    first = read_release(MNIST, None)
    assert fetched[0] == (MNIST.address + "train-images-idx3-ubyte.gz", MNIST.md5[0])
    count = len(fetched)
    assert torch.equal(read_release(MNIST, None).images["train"], first.images["train"])
    assert len(fetched) == count
    assert (cache / "mnist").is_dir()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "must be an IDX file of bytes in 3 dimensions .* got an empty file"),
        (b"\x00\x00\x0d\x03" + bytes(20), r"it starts with 00000803\), got 00000d03"),
        (encode(np.zeros(5, np.uint8)), "got 00000801"),
        (encode(np.zeros((2, 3, 4), np.uint8))[:-1], "must hold 24 values, as its header says; it is too short|got 23"),
        (encode(np.zeros((2, 3, 4), np.uint8)) + b"x", "must hold 24 values, as its header says, got more"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31), "it is too short. Download it again"),
        (
            gzip.compress(encode(np.zeros((9, 9, 9), np.uint8)), mtime=0)[:-12],
            "must be a whole gzip file; it ends too early",
        ),
        (gzip.compress(b"", mtime=0)[:5] + b"junk", "must be a whole gzip file|Cannot read"),
    ],
)
def test_what_is_not_a_whole_idx_file_is_refused(tmp_path, content, sentence):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_idx(path, 3)


def test_images_and_labels_must_agree(tmp_path):
    write_set(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(encode(np.zeros(29, np.uint8)))
    with pytest.raises(DataError, match="must have one label per image, got 30 images and 29 labels"):
        read_release(MNIST, tmp_path)
    labels.write_bytes(encode(np.full(30, 11, np.uint8)))
    with pytest.raises(DataError, match=r"must hold labels from 0 to 9, got 11 to 11. Download it again"):
        read_release(MNIST, tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), gzipped=st.booleans(), data=st.data())
def test_any_array_comes_back_and_any_damage_is_a_typed_error(tmp_path, shape, gzipped, data):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    content = gzip.compress(encode(array)) if gzipped else encode(array)
    path = tmp_path / "any"
    path.write_bytes(content)
    assert np.array_equal(read_idx(path, array.ndim).numpy(), array)
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(StriateError):
        read_idx(path, array.ndim)


def test_the_real_mnist_is_the_official_one(shared):
    folder = shared("mnist")
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as stream:
        assert hashlib.md5(stream.read()).hexdigest() == "27ae3e4e09519cfbb04c329615203637"
    labelled = read_release(MNIST, folder)
    assert labelled.images["train"].shape == (60_000, 1, 28, 28)
    assert torch.bincount(labelled.labels["test"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
