"""A table of pictures, ``path,label[,split,group]``: a CSV or TSV file, or a data frame."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeGuard, final

import torch
from torch import Tensor

from striate.core.errors import DataError, first_of, listed, suggest
from striate.data.sources.classes import check_classes
from striate.data.sources.groups import numbered_groups
from striate.data.sources.listing import Listing
from striate.data.splits import SPLIT_NAMES

TABLE_ENDINGS = (".csv", ".tsv")

_LOGGER = logging.getLogger(__name__)
_DELIMITERS = (",", ";", "\t")
# What a column may be called, in lower case; a column of the first name is taken before any of another.
COLUMN_NAMES = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path"),
    "label": ("label", "class", "class_name", "target"),
    "labels": ("labels", "classes", "targets"),
    "split": ("split", "set", "subset"),
    "group": ("group", "group_id"),
}
_ABSENT, _PRESENT = ("0", "0.0", "false"), ("1", "1.0", "true")
_NOTHING = ("nan", "<NA>", "None", "NaT")  # how data frames print a cell that is empty


class Frame(Protocol):
    """What pandas and polars have in common, as far as it is needed here."""

    @property
    def columns(self) -> Any:
        """The names."""

    def to_dict(self) -> Any:
        """Tells a frame from an array."""

    def __getitem__(self, name: Any, /) -> Iterable[object]:
        """A column."""


@final
@dataclass(frozen=True)
class Table:
    """Rows of text under named columns, before anything is made of them.

    Args:
        name: what it is called in an error.
        folder: where relative paths begin.
        columns: by name, the cells from top to bottom.
        numbers: of each row, the number that its reader knows it by.
        unit: what that counts.
        separators: the characters between several classes in one cell.
    """

    name: str
    folder: Path
    columns: dict[str, list[str]]
    numbers: Sequence[int]
    unit: Literal["line", "row"]
    separators: str = "|;"

    def at(self, rows: Sequence[int], cells: Sequence[str]) -> str:
        """Return cells with the numbers of their rows, the first five at most."""
        return first_of([f"{cells[row]!r} ({self.unit} {self.numbers[row]})" for row in rows])

    def where(self, rows: Sequence[int]) -> str:
        """Return the numbers of rows, the first five at most."""
        plural = "s" if len(rows) > 1 else ""
        return f"{self.unit}{plural} {first_of([str(self.numbers[row]) for row in rows])}"


def read_table(path: Path) -> Table:
    """Read a CSV or TSV file: UTF-8, a header, cells between commas, semicolons or tabs, whichever its header has most.

    Raises:
        DataError: it cannot be read, is not UTF-8, has no header, or a row has more or fewer cells than that.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} must be text in UTF-8, got {error.reason} in line {line}. Save it so, in Excel as 'CSV UTF-8'."
        ) from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    delimiter = max(_DELIMITERS, key=text.partition("\n")[0].count)
    rows = list(_rows(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), path))
    if not rows:
        raise DataError(f"{path} must have a header, such as path,label, got an empty file.")
    (_, header), *body = rows
    for number, cells in body:
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {number}: each row must have {len(header)} cells, as the header has, got {len(cells)}. "
                "Put a cell that has the delimiter in it between quotation marks."
            )
    columns = _columns(header, [cells for _, cells in body], str(path))
    separators = "|" if delimiter == ";" else "|;"
    return Table(str(path), path.parent, columns, [number for number, _ in body], "line", separators)


def is_frame(data: object) -> TypeGuard[Frame]:
    """Return whether this is a data frame of pandas, polars or their like."""
    return hasattr(data, "columns") and hasattr(data, "to_dict") and hasattr(data, "__getitem__")


def table_of(frame: Frame) -> Table:
    """Return the table that a data frame is; relative paths begin at the working folder, rows count from 0.

    A cell may be a list of classes.
    """
    name = type(frame).__name__
    labels = list(frame.columns)
    cells = [list(map(_text, frame[label])) for label in labels]
    columns = _columns([str(label).strip() for label in labels], list(zip(*cells, strict=True)), name)
    return Table(name, Path.cwd(), columns, range(len(cells[0]) if cells else 0), "row", "|")


def list_table(table: Table, class_names: Sequence[str] | None = None) -> Listing:
    """Return the picture files of a table with their labels, splits and groups.

    Columns, by these names or the usual others, which are then said: ``path``, relative to the table's folder, and
    ``label``; or ``labels``, of which a cell holds the names of several classes between ``|``; or, with neither, a
    column of 0 and 1 for each class. ``split`` may say train, val or test; a row where it is empty is of the split of
    another row of its group, else of train, and it is from these rows that a split which no row names is held out.
    ``group`` may name what belongs together.

    Args:
        class_names: in the order that the classes are wanted in; None for sorted, or the order of the columns.

    Raises:
        DataError: a column is missing, a cell cannot be understood, or a file is not there; with the rows' numbers.
    """
    if not table.numbers:
        raise DataError(f"{table.name} must have a row for each picture, got only the header.")
    taken = _columns_taken(table)
    files = _files(table, taken["path"])
    labels, names = _labels(table, taken, class_names)
    groups = table.columns[taken["group"]] if "group" in taken else None
    stated = _stated_splits(table, taken.get("split"), groups)
    rows_of = {split: [row for row, own in enumerate(stated) if own == split] for split in ("train", "val", "test")}
    free = [row for row, own in enumerate(stated) if not own]
    stays = torch.tensor([True] * len(rows_of["train"]) + [False] * len(free)) if rows_of["train"] and free else None
    rows_of["train"] += free
    if not rows_of["train"]:
        raise DataError(f"{table.name} must have rows of the split train, got {listed(sorted(set(stated)))} only.")
    by_split = {split: rows for split, rows in rows_of.items() if rows}
    numbered = {split: [groups[row] for row in rows] for split, rows in by_split.items()} if groups else None
    listing = Listing(
        files={split: [files[row] for row in rows] for split, rows in by_split.items()},
        labels={split: labels[rows] for split, rows in by_split.items()},
        class_names=names,
        groups=numbered_groups(numbered) if numbered else None,
        stays=stays,
    )
    check_classes(listing.labels["train"], names, table.name)
    return listing


def _rows(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Give the rows that are not blank, each with the number of the line that it begins in."""
    while True:
        line = reader.line_num + 1
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}, line {line}: the row must be valid CSV: {error}. Correct its quotation marks."
            ) from error
        if any(cells):
            yield line, cells


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]], name: str) -> dict[str, list[str]]:
    """Return the columns that have a name; one without is the row numbers that a frame was saved with."""
    twice = [column for column, count in Counter(column.lower() for column in header if column).items() if count > 1]
    if twice:
        raise DataError(f"The columns of {name} must have different names, got {twice[0]!r} twice. Rename one.")
    return {column: [cells[place] for cells in rows] for place, column in enumerate(header) if column}


def _text(cell: object) -> str:
    """Return a cell of a frame as a table has it: a whole number without a point, a list with ``|`` between."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, Iterable):
        return "|".join(map(_text, cell))
    text = str(cell)
    return "" if text in _NOTHING else text.removesuffix(".0")


def _columns_taken(table: Table) -> dict[str, str]:
    """Return which column has the path, the label and so on; say it where they are not called so."""
    taken: dict[str, str] = {}
    for role, names in COLUMN_NAMES.items():
        found = sorted(
            (column for column in table.columns if column.lower() in names), key=lambda one: one.lower() != role
        )
        if len(found) > 1 and found[0].lower() != role:
            raise DataError(
                f"{table.name} must have one column for the {role}, got {listed(found)}. Call one {role!r}."
            )
        if found:
            taken[role] = found[0]
    if "path" not in taken:
        near = next((near for column in table.columns if (near := suggest(column, COLUMN_NAMES["path"]))), "")
        raise DataError(f"{table.name} must have a column 'path', got {listed(list(table.columns))}.{near}")
    if "label" in taken and "labels" in taken:
        both = listed([taken["label"], taken["labels"]])
        raise DataError(f"{table.name} must have a column of one label or of several, got both {both}. Remove one.")
    _say_columns(table, taken)
    return taken


def _say_columns(table: Table, taken: dict[str, str]) -> None:
    renamed = [f"{column!r} as the {role}" for role, column in taken.items() if column.lower() != role]
    if renamed:
        _LOGGER.warning("Of %s are taken: %s.", table.name, ", ".join(renamed))
    rest = [column for column in table.columns if column not in taken.values()]
    if rest and ("label" in taken or "labels" in taken):
        _LOGGER.warning("Columns of %s that are left out: %s.", table.name, listed(rest))


def _files(table: Table, column: str) -> list[str]:
    """Return the path of each picture, having seen that it is there and that none comes twice."""
    cells = table.columns[column]
    if empty := [row for row, cell in enumerate(cells) if not cell]:
        raise DataError(f"{table.name}: each row must have a path, got none in {table.where(empty)}.")
    if urls := [row for row, cell in enumerate(cells) if re.match(r"[A-Za-z][\w+.-]+://", cell)]:
        raise DataError(f"{table.name} must name files, got addresses: {table.at(urls, cells)}. Download them first.")
    folder = os.path.abspath(table.folder)
    files = [_file(folder, cell) for cell in cells]
    if absent := [row for row, file in enumerate(files) if not os.path.isfile(file)]:
        raise DataError(
            f"{table.name} must name files that exist, relative to {folder}; {len(absent):,} of {len(files):,} do not: "
            f"{table.at(absent, cells)}. Correct the paths."
        )
    first: dict[str, int] = {}
    if again := [row for row, file in enumerate(files) if first.setdefault(file, row) != row]:
        raise DataError(
            f"{table.name} must name each picture once, got some again: {table.at(again, cells)}, the first on "
            f"{table.unit} {table.numbers[first[files[again[0]]]]} already. Remove the rows; the names of several "
            "classes of a picture go into one cell of a column 'labels', with | between."
        )
    return files


def _file(folder: str, cell: str) -> str:
    """Return the path that a cell means; one with the backslashes of Windows is taken where such a file is there."""
    file, turned = (os.path.normpath(os.path.join(folder, one)) for one in (cell, cell.replace("\\", "/")))
    return turned if turned != file and not os.path.isfile(file) and os.path.isfile(turned) else file


def _labels(table: Table, taken: dict[str, str], class_names: Sequence[str] | None) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels, (N,) int64 or (N, K) uint8, and the names of the classes."""
    if "label" in taken:
        cells = table.columns[taken["label"]]
        if empty := [row for row, cell in enumerate(cells) if not cell]:
            raise DataError(f"{table.name}: each picture must have a label, got none in {table.where(empty)}.")
        if several := [row for row, cell in enumerate(cells) if "|" in cell]:
            _LOGGER.warning(
                "%s: a label with | in it is one class: %s. Call the column 'labels' if it means several.",
                table.name,
                table.at(several, cells),
            )
        names = _class_names([[cell] for cell in cells], table, class_names)
        number_of = {name: number for number, name in enumerate(names)}
        return torch.tensor([number_of[cell] for cell in cells], dtype=torch.int64), names
    if "labels" in taken:
        between = re.compile(f"[{re.escape(table.separators)}]")
        found = [[one.strip() for one in between.split(cell) if one.strip()] for cell in table.columns[taken["labels"]]]
        names = _class_names(found, table, class_names)
        number_of = {name: number for number, name in enumerate(names)}
        labels = torch.zeros(len(found), len(names), dtype=torch.uint8)
        for row, own in enumerate(found):
            labels[row, [number_of[name] for name in own]] = 1
        return labels, names
    return _marked_labels(table, [column for column in table.columns if column not in taken.values()], class_names)


def _class_names(found: Sequence[Sequence[str]], table: Table, class_names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names in the order that is asked for, or sorted, whole numbers as such; refuse others."""
    present = {name for own in found for name in own}
    if class_names is None:
        if not present:
            raise DataError(f"{table.name} must have labels, got a column that is empty.")
        return tuple(sorted(present, key=(lambda name: (int(name), name)) if all(map(_is_number, present)) else None))
    for row, own in enumerate(found):
        for name in own:
            if name not in class_names:
                raise DataError(
                    f"{table.name}, {table.where([row])}: the label must be of the {len(class_names)} classes, "
                    f"got {name!r}.{suggest(name, class_names)}"
                )
    return tuple(class_names)


def _is_number(name: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", name) is not None


def _marked_labels(
    table: Table, columns: Sequence[str], class_names: Sequence[str] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels of one column of 0 and 1 per class: (N, K) uint8."""
    names = tuple(columns) if class_names is None else tuple(class_names)
    if not columns or set(names) != set(columns):
        raise DataError(
            f"{table.name} must have a column 'label', a column 'labels', or one of 0 and 1 for each class, "
            f"got {listed(list(table.columns))}."
        )
    for column in names:
        cells = table.columns[column]
        if wrong := [row for row, cell in enumerate(cells) if cell.lower() not in _ABSENT + _PRESENT]:
            raise DataError(
                f"{table.name} must have a column 'label' or 'labels', or only columns of 0 and 1 beside path, split "
                f"and group, got {listed(list(table.columns))} with {table.at(wrong, cells)} in {column!r}."
                f"{suggest(column, (*COLUMN_NAMES['label'], *COLUMN_NAMES['labels']))}"
            )
    if len(names) == 1:
        raise DataError(
            f"{table.name} must have 0 and 1 for two classes at least, got one, {names[0]!r}. "
            "Call the column 'label' to tell 0 from 1."
        )
    _LOGGER.warning("Of %s are taken as classes, 0 or 1 each: %s.", table.name, listed(names))
    marks = [[int(cell.lower() in _PRESENT) for cell in table.columns[column]] for column in names]
    return torch.tensor(marks, dtype=torch.uint8).T.contiguous(), names  # (K, N) → (N, K)


def _stated_splits(table: Table, column: str | None, groups: Sequence[str] | None) -> list[str]:
    """Return the split that each row states, itself or by another row of its group; ``""`` where none does."""
    if column is None:
        return [""] * len(table.numbers)
    cells = table.columns[column]
    if wrong := [row for row, cell in enumerate(cells) if cell and cell.lower() not in SPLIT_NAMES]:
        raise DataError(
            f"{table.name}: a split must be train, val or test, got {table.at(wrong, cells)}."
            f"{suggest(cells[wrong[0]], SPLIT_NAMES)}"
        )
    stated = [SPLIT_NAMES[cell.lower()] if cell else "" for cell in cells]
    if groups is None:
        return stated
    of_group = {group: split for group, split in zip(groups, stated, strict=True) if group and split}
    return [split or of_group.get(group, "") for group, split in zip(groups, stated, strict=True)]
