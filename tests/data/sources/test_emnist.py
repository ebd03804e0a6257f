from __future__ import annotations

import struct

import numpy as np
import torch

from striate.data.sources.emnist import read_emnist


def encode(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_emnist_is_turned_upright_and_its_letters_count_from_one(tmp_path):
    pictures = np.arange(30 * 6, dtype=np.uint8).reshape(30, 3, 2)
    labels = (np.arange(30) % 10 + 1).astype(np.uint8)
    (tmp_path / "gzip").mkdir()
    for part in ("train", "test"):
        (tmp_path / "gzip" / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(encode(pictures))
        (tmp_path / "gzip" / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(encode(labels))
    labelled = read_emnist("letters", tmp_path)
    assert torch.equal(labelled.images["train"], torch.from_numpy(pictures).mT[:, None])
    assert labelled.labels["train"].tolist() == [number % 10 for number in range(30)]
    assert labelled.class_names[:2] == ("a", "b")
