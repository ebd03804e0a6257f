from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Striate


def test_a_preview_is_written_and_nothing_is_trained(striate: Striate, picture_folder: Path) -> None:
    words = ("train", picture_folder, "--size", "16", "--epochs", "3", "-b", "8", "--preview", "seen.png")
    done = striate(*words, "--rotation", "20", "--mixup", "0.4", "--json")
    assert done.status == 0, done.err
    assert done.json == {"preview": "seen.png"}
    assert not Path("runs").exists()
    with Image.open("seen.png") as sheet:
        assert sheet.width > 3 * 96
        assert sheet.height > 8 * 96
    plain = Path("seen.png").read_bytes()
    assert striate(*words, "--rotation", "20", "--mixup", "0.4").out == "preview   seen.png\n"
    assert Path("seen.png").read_bytes() == plain
    assert striate(*words).status == 0
    assert Path("seen.png").read_bytes() != plain


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--preview", "seen.txt"), "must end in .png, got seen.txt"),
        (("--preview", "seen.png", "--channels", "1", "--hue", "0.1"), "hue must be 0 for pictures that are not RGB"),
        (("--preview", "seen.png", "--zoom", "0.5"), "zoom must be greater than or equal to 1, got '0.5'"),
        (("--mixup", "0.2", "--loss", "hinge"), "mixup needs a loss of shares of classes: take cross_entropy"),
    ],
)
def test_what_cannot_be_previewed_is_refused(
    striate: Striate, picture_folder: Path, words: tuple[str, ...], problem: str
) -> None:
    done = striate("train", picture_folder, "--size", "16", *words)
    assert done.status == 2
    assert problem in done.err
    assert not Path("seen.png").exists()
    assert not Path("runs").exists()


def test_a_resumed_run_has_no_preview(striate: Striate) -> None:
    done = striate("train", "--resume", "runs/x", "--preview", "seen.png")
    assert done.status == 2
    assert "--preview must be left out with --resume" in done.err
