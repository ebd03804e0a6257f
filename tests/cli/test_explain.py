"""``striate explain``: the files, the JSON object, what is left out, what is refused."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

import striate as st
from tests.cli.conftest import Striate

ALL = {"saliency", "maps", "field", "arithmetic", "filters", "tuning"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A grey ramp, of another size and mode than the network takes."""
    path = tmp_path / "a ramp.png"
    Image.linear_gradient("L").resize((30, 40)).save(path)
    return path


def check(path: Path) -> None:
    if path.suffix == ".svg":
        ElementTree.parse(path)
        return
    with Image.open(path) as image:
        low, high = image.convert("L").getextrema()
        assert high - low > 100  # type: ignore[operator]


def test_explains_one_picture(striate: Striate, trained: Path, picture: Path) -> None:
    done = striate("explain", trained, picture, "--json")
    assert done.status == 0, done.err
    assert set(done.json) == {"folder", "files", "left_out"}
    folder = trained / "explain" / picture.parent.name / "a ramp"
    assert done.json["folder"] == str(folder)
    assert done.json["left_out"] == []
    assert {one["what"] for one in done.json["files"]} == ALL
    for one in done.json["files"]:
        path = Path(one["file"])
        assert path.stem == one["what"]
        assert one["shows"]
        assert one["picture"] == (None if one["what"] in {"filters", "tuning"} else str(picture))
        check(path)
    assert {path.name for path in folder.iterdir()} == {Path(one["file"]).name for one in done.json["files"]}
    assert [path.name for path in picture.parent.iterdir() if "ramp" in path.name] == [picture.name]


def test_without_a_picture_explains_a_right_and_a_wrong_answer(striate: Striate, trained: Path, tmp_path: Path) -> None:
    """Where there is no wrong answer, only a right one."""
    wrong = striate("evaluate", trained, "--json").json["accuracy"] < 1
    done = striate("explain", trained, "--what", "field,filters", "--output", tmp_path / "out")
    assert done.status == 0, done.err
    expected = {"right-field.png", "filters.png", *(["wrong-field.png"] if wrong else [])}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    assert "what the units of each stage can see" in done.out


def test_one_unit(striate: Striate, trained: Path, tmp_path: Path) -> None:
    done = striate("explain", trained, "--unit", f"{first_layer(trained)}:2", "--output", tmp_path / "out", "--json")
    assert done.status == 0, done.err
    assert "unit" in {one["what"] for one in done.json["files"]}
    assert {one["what"] for one in done.json["files"]} <= {"unit", "arithmetic"}
    check(tmp_path / "out" / "unit.png")


@pytest.mark.parametrize("kernel", ["sobel", "0 -1 0; -1 5 -1; 0 -1 0"])
def test_a_kernel(striate: Striate, trained: Path, picture: Path, kernel: str) -> None:
    done = striate("explain", trained, picture, "--kernel", kernel, "--json")
    assert done.status == 0, done.err
    assert [one["what"] for one in done.json["files"]] == ["kernels"]
    check(Path(done.json["files"][0]["file"]))


def test_what_does_not_apply_is_left_out_unless_it_is_asked_for(
    striate: Striate, picture: Path, tmp_path: Path, image_set: st.ImageSet
) -> None:
    """A network without anything to see first: normalisation, then one number."""
    network = st.build("gap | fc 3", image_set.spec)
    st.save(tmp_path / "a.safetensors", network, image_set.spec)
    done = striate("explain", tmp_path / "a.safetensors", picture, "--json")
    assert done.status == 0, done.err
    made, left = ({one["what"] for one in done.json[key]} for key in ("files", "left_out"))
    assert {"saliency", "maps", "arithmetic"} <= made
    assert "tuning" in left
    assert made | left == ALL
    assert all(one["why"].endswith(".") for one in done.json["left_out"])
    asked = striate("explain", tmp_path / "a.safetensors", picture, "--what", "tuning")
    assert asked.status == 2
    assert asked.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--what", "salience"),
            "There is nothing called 'salience' to show. Did you mean 'saliency'? There is saliency,",
        ),
        (("--target", "drak"), "There is no class 'drak'. Did you mean 'dark'? The classes are dark, light."),
        (("--layer", "no"), "The network has no layer 'no'."),
        (("--method", "grad-can"), "Did you mean 'grad_cam'?"),
        (("--unit", "17"), "A unit must be written as layer:channel"),
        (("--kernel", "sobl"), "Did you mean 'sobel'?"),
        (("--kernel", "1 2; 3"), "row"),
        (("--what", "unit"), "--unit LAYER:CHANNEL"),
        (("--what", "kernels"), "--kernel sobel"),
    ],
)
def test_refuses_in_one_sentence_and_writes_nothing(
    striate: Striate, trained: Path, picture: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    done = striate("explain", trained, picture, *words, "--output", tmp_path / "out")
    assert done.status == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_what_is_no_picture(striate: Striate, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "words.png"
    path.write_text("no picture")
    for word in (path, tmp_path / "none.png"):
        done = striate("explain", trained, word, "--what", "saliency")
        assert done.status == 2
        assert word.name in done.err


def test_a_saved_file_alone_needs_a_picture(striate: Striate, trained: Path) -> None:
    done = striate("explain", trained / "model.safetensors")
    assert done.status == 2
    assert "Name a picture, or the folder of a run" in done.err


def first_layer(run: Path) -> str:
    stages = st.load(run).network.stages
    return str(next(iter(stages)))
