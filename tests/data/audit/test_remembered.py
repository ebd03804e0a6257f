from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from striate.core.files import cache_folder
from striate.data.audit import remembered
from striate.data.audit.remembered import Short, short_audit
from striate.data.imageset import ImageSet
from striate.data.load import load_data


@pytest.fixture
def pictures(clean: Path, tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    shutil.copytree(clean, root)
    shutil.copy(root / "train/car/00.jpg", root / "test/car/copy.jpg")
    return root


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[ImageSet]:
    """Every set that is really looked at."""
    sets: list[ImageSet] = []
    look = remembered._looked_at

    def looking(images: ImageSet) -> Short:
        sets.append(images)
        return look(images)

    monkeypatch.setattr(remembered, "_looked_at", looking)
    return sets


def test_the_same_files_are_looked_at_once(pictures, looked):
    first = short_audit(load_data(pictures))
    assert [one.code for one in first.findings] == ["leaks"]
    assert short_audit(load_data(pictures)) == first
    assert len(looked) == 1


def test_other_files_sizes_and_labels_are_looked_at_again(pictures, looked):
    short_audit(load_data(pictures))
    short_audit(load_data(pictures, size=64))
    (pictures / "test/car/copy.jpg").unlink()
    assert short_audit(load_data(pictures)).findings == ()
    shutil.move(pictures / "train/car/00.jpg", pictures / "train/tree/new.jpg")
    short_audit(load_data(pictures))
    assert len(looked) == 4


def test_what_is_kept_and_damaged_is_looked_at_again(pictures, looked):
    first = short_audit(load_data(pictures))
    (kept,) = (cache_folder() / "audits").glob("*.json")
    kept.write_text('{"findings": [')
    assert short_audit(load_data(pictures)) == first
    assert len(looked) == 2


def test_pictures_that_are_no_files_are_not_remembered(image_set, looked):
    short_audit(image_set)
    short_audit(image_set)
    assert len(looked) == 2


def test_the_oldest_are_forgotten(pictures, monkeypatch):
    monkeypatch.setattr(remembered, "_KEPT", 2)
    for size in (32, 40, 48):
        short_audit(load_data(pictures, size=size))
    assert len(list((cache_folder() / "audits").iterdir())) == 2
