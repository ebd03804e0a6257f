from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from striate.core.errors import FileError
from striate.core.files import cache_folder, held_alone, replacing, write_text


def test_the_cache_is_where_it_is_asked_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    monkeypatch.delenv("STRIATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "striate"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_folder() == tmp_path / ".cache" / "striate"
    assert cache_folder().is_dir()


def test_a_cache_that_cannot_be_made_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in ("/proc/nope", str(tmp_path / "file"), str(tmp_path / "file" / "inside")):
        monkeypatch.setenv("STRIATE_CACHE", place)
        with pytest.raises(
            FileError, match=f"Cannot make the cache folder {place}: .* Name another with STRIATE_CACHE"
        ):
            cache_folder()


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "notes.txt"
    write_text(path, "first")
    write_text(path, "zweite ä")
    assert path.read_text(encoding="utf-8") == "zweite ä"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def write_half(path: Path) -> None:
    with replacing(path) as aside:
        aside.write_text("half")
        raise ZeroDivisionError


def test_an_error_leaves_the_previous_file_and_nothing_else(tmp_path):
    path = tmp_path / "notes.txt"
    write_text(path, "first")
    with pytest.raises(ZeroDivisionError):
        write_half(path)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"Cannot write to .*file: .* Name another folder with --output"):
        write_text(tmp_path / "file" / "notes.txt", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=r"Cannot write .*folder: "):
        write_text(tmp_path / "folder", "text")


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with (
        held_alone(tmp_path),
        pytest.raises(FileError, match="Another process is at work in"),
        held_alone(tmp_path),
    ):
        pass
    with held_alone(tmp_path):
        pass


def test_a_folder_is_free_again_once_who_held_it_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from striate.core.files import held_alone\n"
        "with held_alone(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(FileError), held_alone(tmp_path):
            pass
        other.kill()
    with held_alone(tmp_path):
        pass
