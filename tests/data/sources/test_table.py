from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from striate.core.errors import DataError
from striate.data.sources.listing import Listing
from striate.data.sources.table import is_frame, list_table, read_table, table_of

NAMES = [f"{number}.png" for number in range(8)]
PETS = ["cat", "dog"] * 4


class Columns:
    """A data frame, as far as a table needs one."""

    def __init__(self, columns: dict[str, Sequence[object]]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def to_dict(self) -> dict[str, Sequence[object]]:
        return self._columns

    def __getitem__(self, name: str) -> Sequence[object]:
        return self._columns[name]


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path) -> None:
    for name in NAMES:
        Image.new("RGB", (8, 8)).save(tmp_path / name)


def written(folder: Path, *lines: str, name: str = "photos.csv", encoding: str = "utf-8") -> Path:
    (folder / name).write_bytes("\n".join([*lines, ""]).encode(encoding))
    return folder / name


def rows(header: str, *columns: Sequence[str], between: str = ",") -> list[str]:
    return [header, *(between.join(cells) for cells in zip(*columns, strict=True))]


def listing_of(folder: Path, *lines: str, class_names: Sequence[str] | None = None) -> Listing:
    return list_table(read_table(written(folder, *lines)), class_names)


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_names_files_and_labels(tmp_path, between, encoding):
    lines = rows(between.join(["path", "label"]), NAMES, ["café", "dog"] * 4, between=between)
    listing = list_table(read_table(written(tmp_path, *lines, encoding=encoding)))
    assert listing.files == {"train": [str(tmp_path / name) for name in NAMES]}
    assert listing.class_names == ("café", "dog")
    assert listing.labels["train"].tolist() == [0, 1] * 4
    assert (listing.groups, listing.stays) == (None, None)


def test_paths_may_be_absolute_or_lead_elsewhere(tmp_path):
    (tmp_path / "inside").mkdir()
    paths = [f"../{name}" for name in NAMES[:4]] + [str(tmp_path / name) for name in NAMES[4:]]
    assert listing_of(tmp_path / "inside", *rows("path,label", paths, PETS)).files["train"] == [
        str(tmp_path / name) for name in NAMES
    ]


def test_backslashes_are_taken_for_slashes_where_such_a_file_is_there(tmp_path):
    folder = tmp_path / "Müllers Garten"
    folder.mkdir()
    for name in NAMES[:4]:
        (tmp_path / name).rename(folder / name)
    (tmp_path / NAMES[4]).rename(tmp_path / "odd\\name.png")  # on Unix a name may have a backslash
    paths = [f"Müllers Garten\\{name}" for name in NAMES[:4]] + ["odd\\name.png"] + list(NAMES[5:])
    assert listing_of(tmp_path, *rows("path,label", paths, PETS)).files["train"] == [
        *(str(folder / name) for name in NAMES[:4]),
        str(tmp_path / "odd\\name.png"),
        *(str(tmp_path / name) for name in NAMES[5:]),
    ]


@given(cells=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)))
def test_any_text_that_csv_writes_is_read_back(tmp_path_factory, cells):
    import csv

    path = tmp_path_factory.mktemp("table") / "any.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *([cell, "x"] for cell in cells)])
    assert read_table(path).columns == {"path": cells, "label": ["x"] * len(cells)}


def test_other_usual_names_are_taken_and_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        listing = listing_of(tmp_path, *rows("Filename,Class,width", NAMES, PETS, ["640"] * 8))
    assert listing.class_names == ("cat", "dog")
    assert "are taken: 'Filename' as the path, 'Class' as the label" in caplog.text
    assert "left out: 'width'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        listing_of(tmp_path, *rows("PATH,Label", NAMES, PETS))
    assert not caplog.text


def test_a_column_of_the_first_name_comes_before_the_others(tmp_path):
    assert listing_of(tmp_path, *rows("image,path,label", ["?"] * 8, NAMES, PETS)).files["train"][0].endswith("0.png")


def test_numbers_are_sorted_as_numbers(tmp_path):
    listing = listing_of(tmp_path, *rows("path,label", NAMES, ["10", "9", "100", "9", "10", "100", "-1", "-1"]))
    assert listing.class_names == ("-1", "9", "10", "100")
    assert listing.labels["train"].tolist() == [2, 1, 3, 1, 2, 3, 0, 0]


def test_class_names_say_the_order_and_which_are_known(tmp_path):
    lines = rows("path,label", NAMES, PETS)
    assert listing_of(tmp_path, *lines, class_names=["dog", "cat"]).labels["train"].tolist() == [1, 0] * 4
    with pytest.raises(DataError, match=r"photos\.csv, line 3: the label must be of the 2 classes, got 'dog'\."):
        listing_of(tmp_path, *lines, class_names=["cat", "cow"])


def test_splits_are_taken_and_rows_without_are_divided(tmp_path):
    splits = ["train", "Validation", "TEST", "", "val", "test", "train", ""]
    listing = listing_of(tmp_path, *rows("path,label,split", NAMES, ["a", "b", "a", "b", "a", "b", "b", "a"], splits))
    assert {split: [Path(file).name for file in files] for split, files in listing.files.items()} == {
        "train": ["0.png", "6.png", "3.png", "7.png"],
        "val": ["1.png", "4.png"],
        "test": ["2.png", "5.png"],
    }
    assert listing.labels["train"].tolist() == [0, 1, 1, 0]
    assert listing.stays.tolist() == [True, True, False, False]
    assert listing_of(tmp_path, *rows("path,label,split", NAMES, PETS, [""] * 8)).stays is None


def test_a_group_keeps_its_number_in_every_split_and_its_rows_together(tmp_path):
    groups = ["p1", "p1", "p2", "p2", "", "p1", "p3", ""]
    splits = ["train", "train", "test", "", "", "test", "", "test"]
    listing = listing_of(tmp_path, *rows("path,label,group,split", NAMES, list("abababba"), groups, splits))
    # The row of p2 without a split follows p2 to test. That p1 is in both is the table's own doing.
    assert [Path(file).name for file in listing.files["train"]] == ["0.png", "1.png", "4.png", "6.png"]
    assert [Path(file).name for file in listing.files["test"]] == ["2.png", "3.png", "5.png", "7.png"]
    train, test = listing.groups["train"].tolist(), listing.groups["test"].tolist()
    assert (train[:2], train[3]) == ([0, 0], 2)
    assert test[:3] == [1, 1, 0]
    assert len({train[2], test[3], 0, 1, 2}) == 5  # each row without a group is one of its own


@pytest.mark.parametrize(
    ("header", "cells"), [("path,labels", ["cat|dog", "", " dog "]), ("path,labels", ["cat;dog|", "", "dog"])]
)
def test_several_labels_stand_in_one_cell(tmp_path, header, cells):
    listing = listing_of(tmp_path, *rows(header, NAMES, [*cells, "cat", "cat", "dog|cat", "", "dog"]))
    assert listing.class_names == ("cat", "dog")
    assert listing.labels["train"].tolist() == [[1, 1], [0, 0], [0, 1], [1, 0], [1, 0], [1, 1], [0, 0], [0, 1]]
    with_semicolons = written(
        tmp_path, *rows("path;labels", NAMES, ["a|b", "b", "a", "b", "b", "", "a", "a"], between=";")
    )
    assert list_table(read_table(with_semicolons)).labels["train"][:2].tolist() == [[1, 1], [0, 1]]


def test_columns_of_0_and_1_are_classes_in_their_order(tmp_path, caplog):
    lines = rows("dog,path,Cat,group", list("10011010"), NAMES, list("11010000"), list("aabbccdd"))
    with caplog.at_level(logging.WARNING):
        listing = listing_of(tmp_path, *lines)
    assert listing.class_names == ("dog", "Cat")
    assert listing.labels["train"].tolist() == np.array([list("10011010"), list("11010000")]).astype(int).T.tolist()
    assert "are taken as classes, 0 or 1 each: 'dog', 'Cat'" in caplog.text
    assert listing_of(tmp_path, *lines, class_names=["Cat", "dog"]).labels["train"][0].tolist() == [1, 1]


def test_one_class_for_each_picture_under_labels_is_remarked_upon(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        listing_of(tmp_path, *rows("path,labels", NAMES, PETS))
        listing_of(tmp_path, *rows("path,label", NAMES, ["cat", "cat|dog"] * 4))
    assert "has exactly one class, and is trained as if it may have several or none" in caplog.text
    assert "a label with | in it is one class: 'cat|dog' (line 3), " in caplog.text


def test_a_frame_is_a_table_of_the_working_folder(tmp_path):
    frame = Columns({"path": [Path(name) for name in NAMES], "label": [1.0, 2.0] * 4, "split": ["train"] * 7 + [None]})
    assert is_frame(frame)
    listing = list_table(table_of(frame))
    assert listing.files["train"] == [str(tmp_path / name) for name in NAMES]
    assert listing.class_names == ("1", "2")
    lists = Columns({"path": NAMES, "labels": [["a", "b"], [], ["b"], ["a"]] * 2})
    assert list_table(table_of(lists)).labels["train"][:4].tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    with pytest.raises(DataError, match=r"Columns: each picture must have a label, got none in rows 1, 3, 5, 7\."):
        list_table(table_of(Columns({"path": NAMES, "label": ["a", float("nan")] * 4})))


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], r"photos\.csv must have a header, such as path,label, got an empty file"),
        (["path,label"], r"photos\.csv must have a row for each picture, got only the header"),
        (["path,label", "0.png"], r"line 2: each row must have 2 cells, as the header has, got 1\. Put"),
        (["path,label", "", "0.png,a,b"], r"line 3: each row must have 2 cells, .* got 3"),
        (["path,label", '0.png,"cat'], r"line 2: the row must be valid CSV: unexpected end of data\. Correct"),
        (["path,label,Path", "0.png,a,b"], r"columns of .* must have different names, got 'path' twice"),
        (["pth,label", "0.png,a"], r"must have a column 'path', got 'pth', 'label'\. Did you mean 'path'\?"),
        (["image,file,label", "0.png,1.png,a"], r"must have one column for the path, got 'image', 'file'\. Call one"),
        (["path,label,labels", "0.png,a,b"], r"of one label or of several, got both 'label', 'labels'\. Remove one"),
        (["path", "0.png"], r"must have a column 'label', a column 'labels', or one of 0 and 1 .*, got 'path'"),
        (["path,lable", "0.png,a"], r"must have a column 'label' .* in 'lable'\. Did you mean 'label'\?$"),
        (["path,width,dog", "0.png,640,1"], r"or only columns of 0 and 1 .* with '640' \(line 2\) in 'width'"),
        (["path,dog", "0.png,1"], r"0 and 1 for two classes at least, got one, 'dog'\. Call the column 'label'"),
        (["path,labels", "0.png,", "1.png,|"], r"must have labels, got a column that is empty"),
        (["path,label", ",a", "1.png,b", ",a"], r"each row must have a path, got none in lines 2, 4"),
        (
            ["path,label", "0.png,a", "https://example.org/1.png,b"],
            r"got addresses: 'https://example.org/1.png' \(line",
        ),
        (
            ["path,label", *(f"no-{number}.png,a" for number in range(7)), "0.png,b"],
            r"must name files that exist, relative to /.*; 7 of 8 do not: 'no-0.png' \(line 2\), .* and 2 more\. Corr",
        ),
        (["path,label", "0.png,a", "1.png,", "2.png,b"], r"each picture must have a label, got none in line 3"),
        (["path,label", "0.png,a", "1.png,a", "2.png,a"], r"must have at least two classes, got only 'a'"),
        (["path,label", "0.png,a", "1.png,a", "2.png,b"], r"Class 'b' of .* at least two pictures to train on, got o"),
        (
            ["path,labels", "0.png,a|b", "1.png,a", "2.png,"],
            r"Class 'b' of .* at least two pictures to train on, got o",
        ),
        (
            ["path,label,split", "0.png,a,trian"],
            r"must be train, val or test, got 'trian' \(line 2\)\. Did you mean 'tr",
        ),
        (
            ["path,label,split", "0.png,a,val", "1.png,b,test"],
            r"must have rows of the split train, got 'test', 'val' o",
        ),
        (
            ["path,label", "0.png,a", "1.png,b", "./0.png,b"],
            r"each picture once, got some again: './0.png' \(line 4\), the first on line 2 already.* 'labels', with |",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_line(tmp_path, lines, sentence):
    path = tmp_path / "photos.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=sentence):
        list_table(read_table(path))


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    lines = ["path,label", '0.png,"a', 'cat"', "", "1.png,", "2.png,b"]
    with pytest.raises(DataError, match="got none in line 5"):
        listing_of(tmp_path, *lines)


def test_what_is_not_text_or_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(
        DataError,
        match=r"photos\.csv must be text in UTF-8, got invalid start byte in line 1\. Save it so, in Excel as"
        r" 'CSV UTF-8'\.$",
    ):
        read_table(written(tmp_path, "path,label", encoding="utf-16"))
    with pytest.raises(
        DataError, match=r"photos\.csv must be text in UTF-8, got invalid continuation byte in line 2\."
    ):
        read_table(written(tmp_path, "path,label", "caf\xe9.png,a", encoding="latin-1"))
    with pytest.raises(DataError, match=r"^Cannot read .*nowhere\.csv: No such file or directory\.$"):
        read_table(tmp_path / "nowhere.csv")
