from __future__ import annotations

from pathlib import Path

import pytest

import striate as st
from striate.training.run import check_free, run_folder


def test_folders_are_numbered_and_their_names_are_safe() -> None:
    assert run_folder(None, "my photos/2024", "lenet5") == Path("runs/my_photos_2024-lenet5-1")
    assert run_folder(None, "my photos/2024", "lenet5") == Path("runs/my_photos_2024-lenet5-2")
    assert run_folder(None, "...", "text") == Path("runs/data-text-1")


def test_checking_a_folder_makes_nothing(tmp_path: Path) -> None:
    check_free(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(st.FileError, match=r"Cannot write to .*file/run: Not a directory\."):
        check_free(tmp_path / "file" / "run")
