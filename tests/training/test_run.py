from __future__ import annotations

from pathlib import Path

import pytest
import torch

import striate as st
from striate.training.run import Tally, check_free, run_folder


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


def test_answers_are_counted_whenever_they_are_asked_for() -> None:
    torch.manual_seed(0)
    one_by_one = 0.0
    tally, asked = Tally(), Tally()
    for _ in range(40):
        logits, targets = torch.randn(100, 10), torch.randint(10, (100,))
        one_by_one += float((logits.argmax(1) == targets).sum())
        for one in (tally, asked):
            one.add(100, 0.5)
            one.add_answers(logits, targets, several=False)
        assert asked.correct == one_by_one
    assert tally.correct == one_by_one
    assert (tally.pictures, tally.loss) == (4000, 2000.0)
    mixed = torch.tensor([[0.75, 0.25]])
    tally.add_answers(torch.tensor([[2.0, 1.0]]), mixed, several=False)
    tally.add_answers(torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]]), several=True)
    tally.add_correct(3.0)
    assert tally.correct == one_by_one + 0.75 + 1 + 3
