"""What is said while training: one line for the time, one whole line per epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

import striate as st
from tests.conftest import make_image_set

NETWORK = "conv 4@3x3 relu | gap | fc 3"


def test_a_run_that_ended_has_no_time_to_go_when_it_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_image_set()
    st.fit(st.build(NETWORK, images.spec), images, epochs=1, folder=tmp_path / "run")
    before = capsys.readouterr().err
    assert before.count("time  ") == 1
    run = st.fit(st.build(NETWORK, images.spec), images, resume=tmp_path / "run")
    said = capsys.readouterr().err
    assert f"time      none: it ended at step {run.step} (all epochs done)" in said
    assert "to go" not in said


def test_a_line_for_an_epoch_is_never_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    images = make_image_set()
    st.fit(st.build(NETWORK, images.spec), images, epochs=1, folder=tmp_path / "run")
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("epoch 1/1")]
    assert len(line) > 40
    assert line.endswith(" s")
