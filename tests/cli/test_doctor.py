"""``striate doctor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import striate as st
from striate.cli.doctor import doctor
from striate.core.errors import FileError
from striate.core.finding import Finding
from striate.training.doctor.folder import read_findings, write_findings

HIGH = Finding("learning-rate-too-high", "warning", "recipe", "It is too high.", {"update": 0.9}, "Take --lr 0.01.")
NOTE = Finding("overfitting", "note", "val", "It learns by heart.", {}, "Augment.")


def test_what_was_found_is_said_with_its_fix(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_findings(tmp_path, [HIGH, NOTE])
    assert doctor(tmp_path) == 1
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "warning: recipe: It is too high. Take --lr 0.01.",
        "note: val: It learns by heart. Augment.",
    ]
    assert said.out == f"{tmp_path}: stopped, 2 findings\n"


def test_what_was_found_is_said_where_no_checkpoint_can_be_read(tmp_path: Path, capsys: Any) -> None:
    write_findings(tmp_path, [HIGH])
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "step-5.safetensors").touch()
    assert doctor(tmp_path, json=True) == 1
    said = json.loads(capsys.readouterr().out)
    assert [one["code"] for one in said["findings"]] == [HIGH.code]
    assert said["epochs"] is None


def test_notes_alone_end_with_0_and_json_has_its_keys(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_findings(trained)
    write_findings(trained, [NOTE])
    try:
        assert doctor(trained, json=True) == 0
    finally:
        write_findings(trained, before)
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == "finished"
    assert said["epochs"] == 8
    (finding,) = said["findings"]
    assert set(finding) == {"code", "severity", "where", "message", "numbers", "fix"}
    assert finding["code"] == "overfitting"


def test_a_folder_that_is_none_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"must be the folder of a run, and holds no findings\.json"):
        doctor(tmp_path)
    (tmp_path / "recipe.toml").write_text("", encoding="utf-8")
    with pytest.raises(FileError, match=r"The doctor did not watch .*: it was trained with --no-doctor"):
        doctor(tmp_path)
    (tmp_path / "findings.json").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(FileError, match=r"must hold findings, got something else"):
        doctor(tmp_path)


def test_an_interrupted_run_is_stopped_though_it_left_a_network(
    image_set: st.ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stop(st.Observer):
        def on_batch_end(self, run: st.Run) -> None:
            run.stop("interrupted")

    network = st.build("fc 3", image_set.spec)
    st.fit(network, image_set, folder=tmp_path / "run", epochs=2, progress=False, observers=[Stop()])
    assert (tmp_path / "run" / "model.safetensors").exists()
    doctor(tmp_path / "run", json=True)
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"
    st.fit(network, image_set, resume=tmp_path / "run", progress=False)
    doctor(tmp_path / "run", json=True)
    assert json.loads(capsys.readouterr().out)["state"] == "finished"
