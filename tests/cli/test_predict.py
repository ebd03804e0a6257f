from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Striate


def test_labels_files_folders_and_patterns(striate: Striate, trained: Path, picture_folder: Path) -> None:
    dark = picture_folder / "dark"
    done = striate("predict", trained, dark / "00.png", picture_folder / "light", f"{dark}/0[1-3].png", "--json")
    assert done.status == 0, done.err
    said = done.json["predictions"]
    assert len(said) == 1 + 24 + 3
    assert set(said[0]) == {"picture", "label", "probability", "top"}
    right = [Path(one["picture"]).parent.name == one["label"] for one in said]
    assert sum(right) / len(right) > 0.8
    assert all(0.5 <= one["probability"] <= 1 for one in said)


def test_words_for_people_and_a_csv(striate: Striate, trained: Path, picture_folder: Path) -> None:
    done = striate("predict", trained, picture_folder / "dark" / "00.png", "--csv", "out.csv")
    assert "00.png" in done.out
    assert "%" in done.out
    with open("out.csv", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert rows[0]["picture"].endswith("00.png")
    assert rows[0]["label"] in done.out


def test_names_are_printed_as_they_are(striate: Striate, trained: Path, picture_folder: Path) -> None:
    shutil.copy(picture_folder / "dark" / "00.png", "cat[a].png")
    assert "cat[a].png" in striate("predict", trained, "cat[a].png").out


def test_hidden_files_in_a_folder_are_left_out(striate: Striate, trained: Path, picture_folder: Path) -> None:
    Path("photos").mkdir()
    shutil.copy(picture_folder / "dark" / "00.png", "photos/seen.png")
    Path("photos/._seen.png").write_bytes(b"not a picture")
    assert len(striate("predict", trained, "photos", "--json").json["predictions"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "There must be at least one picture, got none: striate predict RUN PICTURE."),
        (("none.png",), "There is no such picture 'none.png'. Name a picture, a folder of them, or a pattern"),
        (("*.jpg",), "There is no such picture '*.jpg'."),
        (("empty",), "There is no picture in the folder 'empty'."),
    ],
)
def test_what_is_no_picture_is_named(striate: Striate, trained: Path, words: tuple[str, ...], message: str) -> None:
    Path("empty").mkdir()
    done = striate("predict", trained, *words)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"striate: {message}")


def test_it_gives_no_label_where_it_is_not_sure(striate: Striate, trained: Path, picture_folder: Path) -> None:
    sure = striate("predict", trained, picture_folder, "--json").json["predictions"]
    threshold = sorted(one["probability"] for one in sure)[len(sure) // 2]
    asked = ["predict", trained, picture_folder, "--abstain-below", threshold]
    some = striate(*asked, "--json", "--csv", "out.csv").json["predictions"]
    assert [one["probability"] for one in some] == [one["probability"] for one in sure]
    for before, after in zip(sure, some, strict=True):
        assert after["label"] == (before["label"] if before["probability"] >= threshold else None)
    assert None in [one["label"] for one in some]
    assert sum(line.split(",")[1] == "" for line in Path("out.csv").read_text().splitlines()) == sum(
        one["label"] is None for one in some
    )
    assert "unsure (" in striate(*asked).out
    done = striate("predict", trained, picture_folder, "--abstain-below", 2)
    assert (done.status, done.err) == (2, "striate: --abstain-below must be a probability from 0 to 1, got 2.\n")
