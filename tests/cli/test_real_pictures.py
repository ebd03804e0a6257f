"""The whole way on real pictures: the commands of the README with the accuracy they must reach."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Striate

SMALL = ("--size", "32", "--epochs", "4")


def test_digits_without_a_word(striate: Striate) -> None:
    done = striate("train", "--json")
    assert done.status == 0, done.err
    assert done.json["run"] == "runs/digits-speednet_small-1"
    assert done.json["test_accuracy"] >= 0.97
    again = striate("evaluate", done.json["run"], "--json")
    assert again.json["accuracy"] == done.json["test_accuracy"]


def test_an_archive_of_photographs_and_its_folder(striate: Striate, shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "clothing.tar.gz"
    by_archive = striate("train", archive, *SMALL, "--output", "a", "--json")
    assert by_archive.status == 0, by_archive.err
    assert by_archive.json["test_accuracy"] > 0.35  # of ten classes, after four epochs

    shutil.unpack_archive(archive, tmp_path / "unpacked", filter="data")
    folder = tmp_path / "unpacked" / "clothing-small"
    by_folder = striate("train", folder, *SMALL, "--output", "b", "--json", "--no-report", "--no-audit")
    assert by_folder.json["test_accuracy"] == by_archive.json["test_accuracy"]

    photographs = sorted((tmp_path / "unpacked").rglob("test/dress/*.jpg"))[:3]
    said = striate("predict", "a", *photographs, "--json").json["predictions"]
    assert [one["picture"] for one in said] == [str(path) for path in photographs]


@pytest.mark.slow
def test_mnist_with_its_own_recipe(striate: Striate, shared_data: Path) -> None:
    done = striate("train", "mnist", "--data-dir", shared_data / "mnist", "--json")
    assert done.json["test_accuracy"] >= 0.988
