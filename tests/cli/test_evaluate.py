from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Striate, write_pictures


def test_scores_the_pictures_that_the_run_was_trained_on(striate: Striate, trained: Path) -> None:
    done = striate("evaluate", trained, "--json")
    assert done.status == 0, done.err
    kept = {"network", "data", "pictures", "accuracy", "interval", "top5", "classes", "confusion"}
    assert kept <= set(done.json)
    assert done.json["accuracy"] >= 0.8
    assert [one["name"] for one in done.json["classes"]] == ["dark", "light"]
    assert sum(map(sum, done.json["confusion"])) == done.json["pictures"]


def test_words_for_people(striate: Striate, trained: Path) -> None:
    done = striate("evaluate", trained)
    assert "95 % interval" in done.out
    assert "precision" in done.out
    assert "confused" in done.out


def test_other_pictures_of_the_same_classes(striate: Striate, trained: Path, tmp_path: Path) -> None:
    """They are all scored: the network has learned from none of them."""
    done = striate("evaluate", trained, write_pictures(tmp_path / "more"), "--json")
    assert done.status == 0, done.err
    assert (done.json["data"], done.json["pictures"]) == ("more", 48)


def test_its_own_pictures_by_name_are_still_only_its_test_pictures(
    striate: Striate, trained: Path, picture_folder: Path
) -> None:
    own, named = striate("evaluate", trained, "--json"), striate("evaluate", trained, picture_folder, "--json")
    assert own.out == named.out
    assert own.json["pictures"] < 48


def test_grey_pictures_are_read_as_the_network_takes_them(striate: Striate, trained: Path, tmp_path: Path) -> None:
    for path in write_pictures(tmp_path / "grey").rglob("*.png"):
        with Image.open(path) as picture:
            grey = picture.convert("L")
        grey.save(path)
    done = striate("evaluate", trained, tmp_path / "grey", "--json")
    assert done.status == 0, done.err
    assert done.json["pictures"] == 48


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none",), "striate: There is no saved network none. Name a run's folder or a .safetensors file.\n"),
        (
            ("{run}/model.safetensors",),
            "striate: {run}/model.safetensors does not say what it was trained on. "
            "Name the pictures: striate evaluate {run}/model.safetensors DATA.\n",
        ),
        (
            ("{run}", "digits"),
            "striate: The network knows the classes dark, light, these pictures have 0, 1, 2, 3 … (10). "
            "Evaluate it on pictures of its own classes.\n",
        ),
    ],
)
def test_what_cannot_be_scored(striate: Striate, trained: Path, words: tuple[str, ...], message: str) -> None:
    done = striate("evaluate", *(word.format(run=trained) for word in words))
    assert (done.status, done.out) == (2, "")
    assert done.err == message.format(run=trained)
