"""``striate audit``, and the short form of it before training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from striate.cli.audit import audit, audit_before_training
from striate.core.errors import DataError
from striate.data.imageset import ImageSet
from striate.data.load import load_data
from tests.cli.conftest import Striate
from tests.data.audit.conftest import make_clean

QUICK = ("--model", "conv 4 stride 4 | gap | fc 3", "--size", "32", "--epochs", "1", "--no-report", "--output", "run")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_clean(tmp_path / "pictures")


def copy_all(pictures: Path) -> None:
    """Make test of copies of train."""
    shutil.rmtree(pictures / "test")
    for path in (pictures / "train").rglob("0[0-5].jpg"):
        target = pictures / "test" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def test_clean_pictures_end_with_0_and_say_so(pictures, capsys):
    assert audit(str(pictures)) == 0
    said = capsys.readouterr()
    assert "108 pictures in" in said.out
    assert "nothing found" in said.out
    assert said.err == ""


def test_an_error_ends_with_1_and_is_loud(pictures, capsys):
    shutil.copy(pictures / "train/car/00.jpg", pictures / "test/car/copy.jpg")
    assert audit(str(pictures)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: train / test: LEAK: 1 picture of test (5.3%) is in an earlier split")
    assert "train/car/00.jpg = test/car/copy.jpg" in error


def test_json_and_the_page_hold_all_names(pictures, capsys, tmp_path):
    for number in range(7):
        shutil.copy(pictures / f"train/car/{number:02}.jpg", pictures / f"test/car/copy_{number}.jpg")
    assert audit(str(pictures), json=True, output=tmp_path / "page.html") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["pictures"] == 115
    assert said["splits"] == {"train": 72, "val": 18, "test": 25}
    (finding,) = said["findings"]
    assert finding["numbers"]["count"] == len(finding["pictures"]) == 7
    assert finding["pictures"][6] == ["train/car/06.jpg", "test/car/copy_6.jpg"]
    assert "test/car/copy_6.jpg" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_archive_and_a_built_in_set_are_audited(pictures, capsys, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", pictures)
    assert audit(archive) == 0
    audit("digits", json=True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["pictures"] == 1797


def test_a_bomb_is_refused_by_name(tmp_path):
    archive = shutil.make_archive(str(tmp_path / "bomb"), "zip", make_bomb(tmp_path / "content"))
    with pytest.raises(DataError, match=r"bomb\.zip must hold at most"):
        audit(archive)


def make_bomb(folder: Path) -> Path:
    """Write one file that compresses a thousandfold."""
    (folder / "car").mkdir(parents=True)
    (folder / "car" / "zeros.bmp").write_bytes(bytes(80_000_000))
    return folder


def test_training_says_what_is_wrong_and_goes_on(striate: Striate, pictures: Path) -> None:
    shutil.copy(pictures / "train/car/00.jpg", pictures / "test/car/copy.jpg")
    done = striate("train", pictures, *QUICK)
    assert done.status == 0, done.err
    assert "error: train / test: LEAK: 1 picture of test" in done.err
    kept = json.loads(Path("run/audit.json").read_text(encoding="utf-8"))["findings"]
    assert [one["code"] for one in kept] == ["leaks"]


def test_training_that_could_not_be_tested_is_refused_unless_wanted(striate: Striate, pictures: Path) -> None:
    copy_all(pictures)
    refused = striate("train", pictures, *QUICK)
    assert refused.status == 2
    assert "Every picture of test must be new, got all 18 in an earlier split." in refused.err
    assert "--no-audit" in refused.err
    assert not Path("run").exists()
    assert striate("train", pictures, *QUICK, "--no-audit").status == 0


def test_sets_that_are_not_files_are_not_audited_before_training(image_set: ImageSet) -> None:
    assert audit_before_training(image_set) is None
    assert audit_before_training(load_data("digits")) is None


def test_the_short_form_reads_pictures_of_every_mode(pictures: Path) -> None:
    Image.open(pictures / "train/car/00.jpg").convert("L").save(pictures / "train/car/grey.png")
    result = audit_before_training(load_data(pictures))
    assert result is not None
    assert all(one.severity != "error" for one in result.findings)
