from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import striate as st
from striate.cli.compare import _shared
from tests.cli.conftest import Striate, call, write_pictures


@pytest.fixture(scope="module")
def other(picture_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the same pictures, at another size and hardly trained."""
    folder = tmp_path_factory.mktemp("other") / "second"
    words = ["train", picture_folder, "--size", 12, "--model", "flatten | fc 2", "--epochs", 1, "-b", 8]
    done = call(*map(str, words), "--lr", "0.0001", "--output", folder, "--json")
    assert done.status == 0, done.err
    return folder


def test_two_runs_on_their_own_test_pictures(striate: Striate, trained: Path, other: Path) -> None:
    done = striate("compare", trained, other, "--json")
    assert done.status == 0, done.err
    told = done.json
    scores = [striate("evaluate", run, "--json").json for run in (trained, other)]
    assert told["accuracies"] == [score["accuracy"] for score in scores]
    assert told["pictures"] == scores[0]["pictures"]
    assert told["both_right"] + told["mended"] + told["broken"] + told["both_wrong"] == told["pictures"]
    assert told["difference"] == pytest.approx((told["mended"] - told["broken"]) / told["pictures"])
    assert len([flip for flip in told["flips"] if flip["change"] == "broken"]) == told["broken"]
    assert told["file"] is None
    assert set(told) == {
        "first", "second", "data", "pictures", "accuracies", "difference", "interval", "both_right", "mended", "broken",
        "both_wrong", "p_value", "classes", "flips", "file",
    }  # fmt: skip


def test_words_and_a_sheet(striate: Striate, trained: Path, other: Path, tmp_path: Path) -> None:
    done = striate("compare", trained, other, "--output", tmp_path / "flipped.png")
    assert done.status == 0, done.err
    assert "run " in done.out
    assert "McNemar's p" in done.out
    assert "pictures flipped" in done.out
    with Image.open(tmp_path / "flipped.png") as sheet:
        assert sheet.width > 300
    assert "drawn in" in done.out


def test_other_pictures_are_all_used(striate: Striate, trained: Path, other: Path, tmp_path: Path) -> None:
    done = striate("compare", trained, other, write_pictures(tmp_path / "more"), "--json")
    assert done.status == 0, done.err
    assert (done.json["data"], done.json["pictures"]) == ("more", 48)


def test_only_pictures_that_neither_learned_from(image_set: st.ImageSet) -> None:
    """Two seeds hold out different test pictures: those of both are compared, in one order."""
    whole = image_set.everything
    ours, theirs = _shared(whole[[5, 3, 8, 1]], whole[[1, 7, 5]])
    assert list(ours.origins) == list(theirs.origins) == [whole.origins[5], whole.origins[1]]
    assert ours.labels.tolist() == whole.labels[[5, 1]].tolist()
    with pytest.raises(st.DataError, match="There must be pictures that neither network learned from"):
        _shared(whole[:4], whole[4:])
    other = replace(whole, labels=(whole.labels + 1) % 3)
    with pytest.raises(st.DataError, match="the same names and other labels"):
        _shared(whole, other)


def test_what_cannot_be_compared(striate: Striate, trained: Path, tmp_path: Path) -> None:
    spec = st.Spec.of((3, 16, 16), ("black", "white"))
    done = striate("compare", trained, st.save(tmp_path / "colours.safetensors", st.build("fc 2", spec), spec))
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "striate: The two networks must know the same classes, got dark, light and black, white. "
        "Compare networks that were trained on the same classes.\n"
    )
    elsewhere = write_pictures(tmp_path / "elsewhere")
    words = ["train", elsewhere, "--size", 16, "--model", "fc 2", "--epochs", 1, "-b", 8]
    assert striate(*words, "--output", tmp_path / "there").status == 0
    done = striate("compare", trained, tmp_path / "there")
    assert done.status == 2
    assert "must be compared on the same pictures, and were trained on" in done.err
    alone = shutil.copy(trained / "model.safetensors", tmp_path / "alone.safetensors")
    done = striate("compare", trained, alone)
    assert done.status == 2
    assert "does not say what it was trained on. Name the pictures: striate compare" in done.err
    done = striate("compare", trained, trained, "--output", "sheet.svg")
    assert (done.status, done.err) == (
        2,
        "striate: The file of a sheet must end in .png, got sheet.svg. Try sheet.png.\n",
    )
    assert striate("compare", trained, tmp_path / "none").status == 2
