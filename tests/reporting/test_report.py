"""The report: every section, numbers as they were measured, names escaped, failures said in their place."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import striate as st
from striate.core.errors import FileError, NetworkError
from striate.core.finding import Finding
from striate.drawing.page import Content
from striate.evaluation.predictions import predictions_of, write_predictions
from striate.reporting import report as reporting
from striate.reporting.material import Material, material_of
from striate.reporting.report import SECTIONS, report, write_report
from tests.drawing.test_page import Reader, read
from tests.reporting.conftest import LEFT_OUT, NASTY


@pytest.fixture(scope="module")
def page(run: st.Run, images: st.ImageSet) -> Reader:
    """The report of the run, read."""
    return read(report(run, images).read_text(encoding="utf-8"))


@pytest.fixture
def copy(run: st.Run, tmp_path: Path) -> Path:
    """A copy of the run's folder."""
    return Path(shutil.copytree(run.folder, tmp_path / "copy"))


def only(monkeypatch: pytest.MonkeyPatch, *headings: str) -> None:
    """Keep some sections, to save time."""
    monkeypatch.setattr(reporting, "SECTIONS", {heading: SECTIONS[heading] for heading in headings})


def numbers_of(reader: Reader) -> dict[str, float]:
    return {str(one["data-name"]): float(one["value"] or "") for one in reader.of("data") if "data-name" in one}


def test_has_every_section_in_order(page: Reader) -> None:
    words = "\n".join(page.words)
    places = [words.index(f"\n{heading}\n") for heading in SECTIONS if heading not in LEFT_OUT]
    assert places == sorted(places)
    assert len(page.of("h2")) == len(SECTIONS) - len(LEFT_OUT)


def test_numbers_are_those_that_were_measured(page: Reader, run: st.Run, images: st.ImageSet) -> None:
    score = st.evaluate(run.network, images.test)
    shown = numbers_of(page)
    assert shown["accuracy"] == score.accuracy
    assert (shown["interval-low"], shown["interval-high"]) == score.interval
    assert shown["pictures"] == score.pictures
    for number, one in enumerate(score.classes):
        expected = (one.precision, one.recall, one.f1, one.pictures)
        names = ("precision", "recall", "f1", "pictures")
        assert tuple(shown[f"{name}-{number}"] for name in names) == expected


def test_epochs_are_those_of_the_metrics_file(page: Reader, run: st.Run) -> None:
    with (run.folder / "metrics.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    shown = {float(one["value"] or "") for one in page.of("data")}
    assert len(rows) == 3
    assert {float(row["val_loss"]) for row in rows} <= shown


def test_names_are_words_and_never_markup(page: Reader) -> None:
    assert not page.of("script")
    assert not page.of("b")  # the run's folder is <b>run
    assert "Report of the run <b>run" in page.words
    for name in NASTY:
        assert sum(name in words for words in page.words) >= 3


def test_is_one_small_file_that_takes_the_place_of_the_last(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "Network")
    before = set(copy.iterdir())
    (copy / "report.html").write_text("old", encoding="utf-8")
    path = report(copy)
    assert path == copy / "report.html"
    assert set(copy.iterdir()) == before | {path}
    assert 2_000 < path.stat().st_size < 5_000_000
    first = path.read_bytes()
    assert report(copy).read_bytes() == first


def test_says_what_failed_and_goes_on(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(material: Material) -> list[Content]:
        raise NetworkError("The network has no <maps>.")

    monkeypatch.setattr(reporting, "SECTIONS", {"Maps": fail, "Recipe": SECTIONS["Recipe"]})
    written = write_report(copy)
    words = read(written.path.read_text(encoding="utf-8")).words
    assert "The network has no <maps>." in words
    assert "Recipe" in words
    assert written.failed == {"Maps": "The network has no <maps>."}
    assert set(written.seconds) == {"Maps", "Recipe"}


def test_a_defect_of_ours_is_not_hidden(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(material: Material) -> list[Content]:
        raise ZeroDivisionError

    monkeypatch.setattr(reporting, "SECTIONS", {"Maps": fail})
    with pytest.raises(ZeroDivisionError):
        report(copy)


def test_uses_the_predictions_that_the_run_stored(
    copy: Path, images: st.ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "Result")
    material = material_of(copy, images)
    write_predictions(copy, predictions_of(material.classifier, material.test), material.classifier, material.test)
    monkeypatch.setattr("striate.reporting.material.predictions_of", None)
    assert numbers_of(read(report(copy, images).read_text(encoding="utf-8")))["pictures"] == len(images.test)


def test_loads_the_pictures_again(copy: Path, images: st.ImageSet) -> None:
    material = material_of(copy)
    assert material.images.fingerprint == images.fingerprint
    assert set(material.test.origins[0].split("/")[:1]) <= set(NASTY)  # from the folder on that holds all


def test_a_run_on_arrays_needs_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "Result", "Network", "Recipe")
    random = np.random.default_rng(0)
    images = st.load_data((random.integers(0, 255, (60, 8, 8)).astype(np.uint8), np.arange(60) % 3))
    run = st.fit(st.build("flatten | fc 3", images.spec), images, st.Recipe(epochs=1), folder=tmp_path / "run")
    written = write_report(run.folder)
    assert list(written.failed) == ["Result"]
    assert written.failed["Result"].endswith("Pass them: st.report(run, images).")
    assert "No command line repeats this run" in written.path.read_text(encoding="utf-8")
    assert write_report(run, images).failed == {}


def test_a_network_without_convolutions_gets_what_applies(
    images: st.ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "Filters", "Feature maps", "Saliency", "Network")
    run = st.fit(st.build("flatten | fc 2", images.spec), images, st.Recipe(epochs=1), folder=tmp_path / "run")
    written = write_report(run, images)
    reader = read(written.path.read_text(encoding="utf-8"))
    assert not written.failed
    assert len(reader.of("img")) >= 3


def test_findings_are_shown_where_they_exist(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "Findings")
    finding = Finding("dead", "warning", "conv1", "Half of <it> is dead.", {"dead": 0.5}, "Lower the rate.")
    (copy / "findings.json").write_text(json.dumps([asdict(finding)]), encoding="utf-8")
    words = "".join(read(report(copy).read_text(encoding="utf-8")).words)
    assert "warning: conv1 Half of <it> is dead. (dead 0.5) Lower the rate." in words
    (copy / "findings.json").write_text("[3]", encoding="utf-8")
    assert "must hold a list of findings" in write_report(copy).failed["Findings"]


def test_a_damaged_metrics_file_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "Learning curves")
    (copy / "metrics.csv").write_text("epoch,loss\n1,much\n", encoding="utf-8")
    assert "metrics.csv must hold one number in each cell" in write_report(copy).failed["Learning curves"]
    (copy / "metrics.csv").unlink()
    assert write_report(copy).failed == {}


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", "A report is of the folder of a run"), ("", r"There is no model")]
)
def test_refuses_what_is_no_run(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=message):
        report(tmp_path / name)
