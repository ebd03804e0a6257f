"""Every planted defect is found, by name, and nothing is found where there is nothing."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pytest

from striate.core.errors import DataError
from striate.data.audit import Audit, audit, quick_audit
from striate.data.audit.page import audit_page
from striate.data.load import load_data
from tests.data.audit.conftest import name_number, near_copies


@pytest.fixture(scope="module")
def result(planted: Path) -> Audit:
    return audit(planted)


def pictures(result: Audit, code: str) -> set[str]:
    """Return the names of all pictures of a finding."""
    names = [found["pictures"] for found in result.as_json()["findings"] if found["code"] == code]
    return {name for entries in names for together in entries for name in together}


def entries(result: Audit, code: str) -> list[set[str]]:
    return [set(one) for found in result.as_json()["findings"] if found["code"] == code for one in found["pictures"]]


def test_nothing_is_found_where_there_is_nothing(clean):
    assert [one.message for one in audit(clean).findings] == []


def test_unreadable_files_are_named_with_the_reason(result):
    found = next(one for one in result.found if one.finding.code == "unreadable")
    said = {result.material.names[one]: why for (one,), why in zip(found.pictures, found.remarks, strict=True)}
    assert said == {
        "train/boat/huge.png": said["train/boat/huge.png"],
        "train/boat/truncated.jpg": said["train/boat/truncated.jpg"],
        "train/car/empty.jpg": "is empty",
        "train/car/gone.jpg": "cannot be read: No such file or directory",
        "train/car/text.jpg": said["train/car/text.jpg"],
    }
    assert "at most 89,000,000 pixels" in said["train/boat/huge.png"]
    assert "truncated" in said["train/boat/truncated.jpg"]
    assert "must be a picture" in said["train/car/text.jpg"]
    assert found.finding.severity == "error"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("cmyk", "train/car/cmyk.jpg"),
        ("rotated", "train/tree/lying.jpg"),
        ("mixed-modes", "train/tree/grey.jpg"),
        ("palette", "train/tree/palette.png"),
        ("transparent", "train/tree/alpha.png"),
        ("tiny", "train/tree/icon.png"),
        ("extreme-proportions", "train/tree/strip.jpg"),
        ("blank", "train/tree/white.png"),
    ],
)
def test_what_is_unusual_about_a_file_is_found_and_nothing_else(result, code, name):
    assert pictures(result, code) == {name}


def test_equal_pictures_across_splits_are_leaks_whatever_their_format(result):
    assert entries(result, "leaks") == [
        {"train/boat/00.jpg", "test/boat/same_bytes.jpg"},
        {"train/boat/01.jpg", "test/boat/same_pixels.png"},
    ]
    found = next(one for one in result.findings if one.code == "leaks")
    assert found.severity == "error"
    assert "LEAK: 2 pictures of test (8.0%) are in an earlier split" in found.message


def test_changed_copies_across_splits_are_near_leaks(result):
    expected = [{f"train/boat/{name_number(name):02}.jpg", f"test/boat/{name}.jpg"} for name in near_copies()]
    assert entries(result, "near-leaks") == expected


def test_a_copy_with_another_label_and_superfluous_copies_are_found(result):
    assert entries(result, "conflicting-labels") == [{"train/tree/05.jpg", "train/car/relabelled.jpg"}]
    assert entries(result, "duplicates") == [{"train/car/06.jpg", "train/car/again.jpg"}]
    assert entries(result, "near-duplicates") == [{"train/tree/twin.png", "train/tree/twin_recompressed.jpg"}]


def test_a_class_without_pictures_in_a_split_is_found(result):
    found = next(one for one in result.findings if one.code == "missing-class")
    assert (found.where, found.severity) == ("val", "warning")
    assert "val has no picture of 1 class: car." in found.message


def test_errors_come_first(result):
    severities = [one.severity for one in result.findings]
    assert severities == sorted(severities, key=("error", "warning", "note").index)


def test_an_audit_reads_no_folder_that_cannot_be_listed(tmp_path):
    with pytest.raises(DataError, match="No data set, folder"):
        audit(tmp_path / "nothing")


def test_the_page_holds_every_finding_and_its_pictures(result):
    page = audit_page(result, "planted")
    for found in result.found:
        assert found.finding.code.replace("-", " ") in page or not found.pictures
        assert escape(found.finding.fix) in page
    assert page.count("<img") >= 8
    assert "test/boat/same_bytes.jpg" in page
    assert audit_page(result, "planted") == page


def test_the_short_form_finds_copies_in_what_is_already_decoded(clean, tmp_path):
    root = tmp_path / "set"
    for path in clean.rglob("*.jpg"):
        target = root / path.relative_to(clean)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    assert quick_audit(load_data(root)).findings == ()
    (root / "test/car/copy.jpg").write_bytes((root / "train/car/00.jpg").read_bytes())
    found = quick_audit(load_data(root))
    assert [one.code for one in found.findings] == ["leaks"]
    assert found.meaningless == ""
    for name in ("boat", "car", "tree"):
        for path in (root / "test" / name).iterdir():
            path.unlink()
        (root / f"test/{name}/copy.jpg").write_bytes((root / f"train/{name}/00.jpg").read_bytes())
    assert "Every picture of test must be new" in quick_audit(load_data(root)).meaningless
