"""``striate report``, and the report that ``striate train`` ends with."""

from __future__ import annotations

import shlex
from html import unescape
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.cli.conftest import Striate
from tests.drawing.test_page import read

SMALL = ("--size", 8, "--model", "conv 2 relu | gap | fc 2", "--epochs", 1, "-b", 8)


def test_writes_the_report_again(striate: Striate, trained: Path) -> None:
    path = trained / "report.html"
    path.unlink(missing_ok=True)
    done = striate("report", trained)
    assert (done.status, done.out) == (0, f"{path}\n"), done.err
    assert path.is_file()


def test_numbers_equal_those_of_evaluate(striate: Striate, trained: Path) -> None:
    done = striate("report", trained, "--json")
    assert set(done.json) == {"file", "bytes", "seconds", "sections"}
    assert done.json["bytes"] == Path(done.json["file"]).stat().st_size
    assert [one["problem"] for one in done.json["sections"] if one["problem"]] == []
    assert done.json["seconds"] == pytest.approx(sum(one["seconds"] for one in done.json["sections"]), abs=0.02)
    data = read((trained / "report.html").read_text(encoding="utf-8")).of("data")
    shown = {str(one["data-name"]): float(one["value"] or "") for one in data if "data-name" in one}
    scored = striate("evaluate", trained, "--json").json
    assert [shown["interval-low"], shown["interval-high"]] == scored["interval"]
    for name in ("accuracy", "pictures", "macro_f1", "macro_auc"):
        assert shown[name] == scored[name], name
    for name in ("ece", "temperature"):
        assert shown[name] == scored["calibration"][name], name
    for number, one in enumerate(scored["classes"]):
        for name in ("precision", "recall", "f1", "pictures"):
            assert shown[f"{name}-{number}"] == one[name]


def test_training_ends_with_it(striate: Striate, picture_folder: Path, tmp_path: Path) -> None:
    done = striate("train", picture_folder, *SMALL, "--output", tmp_path / "run")
    assert done.status == 0, done.err
    assert f"report    {tmp_path / 'run' / 'report.html'}" in done.out
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_command_in_it_trains_the_same_weights(striate: Striate, trained: Path, tmp_path: Path) -> None:
    striate("report", trained)
    page = (trained / "report.html").read_text(encoding="utf-8")
    words = shlex.split(unescape(page.split("<pre", 1)[1].split("<code>")[1].split("</code>")[0]))
    assert words[0] == "striate"
    done = striate(*words[1:], "--output", tmp_path / "again", "--no-report")
    assert done.status == 0, done.err
    assert not (tmp_path / "again" / "report.html").exists()
    first, again = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path / "again"))
    assert first.keys() == again.keys()
    assert all(first[name].equal(again[name]) for name in first)


def test_a_report_that_fails_costs_nothing_of_the_run(
    striate: Striate, picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("striate.cli.train.write_report", fail)
    done = striate("train", picture_folder, *SMALL, "--output", tmp_path / "run", "--json")
    assert done.status == 0
    assert done.json["run"] == str(tmp_path / "run")
    assert "The run is complete, its report could not be written: ZeroDivisionError: by zero\n" in done.err
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_refuses_what_is_no_run(striate: Striate, tmp_path: Path) -> None:
    done = striate("report", tmp_path / "nowhere")
    assert done.status == 2
    assert done.err.startswith("striate: A report is of the folder of a run")
