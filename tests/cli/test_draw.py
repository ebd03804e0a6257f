"""``striate draw``: the file, the JSON object, what is refused."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import Striate

TEXT = "conv 4@3x3 relu | gap | fc 10"


def test_writes_the_picture(striate: Striate, tmp_path: Path) -> None:
    path = tmp_path / "lenet.svg"
    done = striate("draw", "lenet5", "--output", path)
    assert done.status == 0, done.err
    assert str(path) in done.out
    assert "61.7 k parameters" in done.out
    assert "conv 5×5, 16" in "".join(ElementTree.parse(path).getroot().itertext())


def test_names_the_file_after_the_network(striate: Striate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert striate("draw", "lenet5").status == 0
    assert striate("draw", TEXT).status == 0
    assert {path.name for path in tmp_path.iterdir()} == {"lenet5.svg", "network_text.svg"}


def test_prints_one_json_object(striate: Striate, tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    done = striate("draw", "resnet20_cifar10", "--output", path, "--json")
    assert done.status == 0, done.err
    assert set(done.json) == {"file", "width", "height", "stages", "notes"}
    assert done.json["file"] == str(path)
    assert done.json["width"] > 500
    assert [stage["blocks"] for stage in done.json["stages"]] == [3, 3, 3]


def test_takes_other_pictures(striate: Striate, tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    assert striate("draw", TEXT, "--input", "2x20x24", "--output", path).status == 0
    assert "2×20×24" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lenet6",), "No network named 'lenet6'"),
        (("lenet5", "--input", "28"), "--input must be channels x height x width"),
        (
            ("lenet5", "--output", "picture.png"),
            "The file of a drawing must end in .svg, got picture.png. Try picture.svg.",
        ),
        (("conv 4@9x9 | gap | fc 10", "--input", "1x5x5"), "9"),
    ],
)
def test_refuses_in_one_sentence(
    striate: Striate, words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = striate("draw", *words)
    assert done.status == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []
