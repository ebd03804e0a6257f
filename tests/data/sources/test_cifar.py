from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.core.errors import DataError
from striate.data.sources import cifar
from striate.data.sources.cifar import CIFAR10, CIFAR100, read_records, read_release


def records(count: int, label_bytes: int, classes: int) -> bytes:
    rows = np.zeros((count, label_bytes + 3072), dtype=np.uint8)
    rows[:, label_bytes - 1] = np.arange(count) % classes
    rows[:, label_bytes:] = np.arange(3072) // 1024 * 50 + np.arange(3072) % 32
    return rows.tobytes()


@pytest.mark.parametrize("release", [CIFAR10, CIFAR100])
def test_records_become_planes_and_labels(tmp_path, release):
    folder = tmp_path / release.folder
    folder.mkdir()
    classes = len(release.class_names)
    (folder / release.train_files[0]).write_bytes(records(20, release.label_bytes, classes))
    (folder / release.test_file).write_bytes(records(10, release.label_bytes, classes))
    labelled = read_release(release, tmp_path)
    assert labelled.images["train"].shape == (20, 3, 32, 32)
    assert labelled.labels["train"].tolist() == [number % classes for number in range(20)]
    assert labelled.images["test"][0, :, 7, 5].tolist() == [5, 55, 105]


def test_the_hundred_classes_are_sorted_and_distinct():
    assert list(CIFAR100.class_names) == sorted(set(CIFAR100.class_names))
    assert len(CIFAR100.class_names) == 100
    assert CIFAR10.class_names[3] == "cat"


def test_half_a_record_or_an_unknown_label_is_refused(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(records(2, 1, 10)[:-1])
    with pytest.raises(DataError, match=r"must hold whole records of 3,073 bytes, got 6,145 bytes. Download it again"):
        read_records([path], 1, 10)
    path.write_bytes(records(12, 1, 12))
    with pytest.raises(DataError, match="must hold labels from 0 to 9, got 11"):
        read_records([path], 1, 10)


def test_a_missing_set_is_named_with_its_address(tmp_path):
    with pytest.raises(
        DataError, match=r"CIFAR-10 needs data_batch_1\.bin and test_batch\.bin .* They are in https://www"
    ):
        read_release(CIFAR10, tmp_path)


def test_the_archive_is_downloaded_and_extracted_once(monkeypatch, cache):
    fetched = []

    def download(url: str, path: Path, *, md5: str) -> None:
        fetched.append((url, md5))
        with tarfile.open(path, "w:gz") as archive:
            for name in (*CIFAR10.train_files, CIFAR10.test_file):
                info = tarfile.TarInfo(f"{CIFAR10.folder}/{name}")
                content = records(10, 1, 10)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    monkeypatch.setattr(cifar, "download", download)
    assert len(read_release(CIFAR10, None).labels["train"]) == 50
    assert len(read_release(CIFAR10, None).labels["test"]) == 10
    assert fetched == [("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", CIFAR10.md5)]


def test_real_records_are_photographs(shared):
    images, labels = read_records([shared("cifar10/cifar10-lossless-train-first400.bin")], 1, 10)
    assert images.shape == (400, 3, 32, 32)
    assert labels[:5].tolist() == [6, 9, 9, 4, 1]  # frog, truck, truck, deer, automobile
    smooth = (images[:, :, 1:].double() - images[:, :, :-1].double()).abs().mean()
    assert float(smooth) < 20
    assert torch.equal(images[0, :, 0, 0], torch.tensor([59, 62, 63], dtype=torch.uint8))
