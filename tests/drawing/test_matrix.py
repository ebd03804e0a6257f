from __future__ import annotations

from xml.etree import ElementTree

import pytest
import torch

from striate.drawing.matrix import NUMBERED, draw_matrix

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def cells(drawing: str) -> dict[str, ElementTree.Element]:
    """Return the rectangles that say what they are."""
    found = {}
    for element in ElementTree.fromstring(drawing).iter(f"{SVG}rect"):
        title = element.find(f"{SVG}title")
        if title is not None:
            found[title.text or ""] = element
    return found


def test_rows_are_what_it_is_and_columns_what_was_said() -> None:
    made = cells(draw_matrix(torch.tensor([[8, 2], [0, 5]]), ["cat", "dog"]))
    assert set(made) == {
        "cat, said to be cat: 8 (80.0%)", "cat, said to be dog: 2 (20.0%)", "dog, said to be dog: 5 (100.0%)"
    }  # fmt: skip
    right, wrong, below = (made[name] for name in sorted(made))
    assert float(wrong.attrib["x"]) > float(right.attrib["x"])
    assert wrong.attrib["y"] == right.attrib["y"]
    assert float(below.attrib["y"]) > float(right.attrib["y"])
    assert below.attrib["fill"] == "#fde725"  # all of the row: the colour of 1


def test_counts_and_names_are_written_where_there_is_room() -> None:
    few = texts(draw_matrix(torch.eye(3, dtype=torch.int64) * 12345, ["a", "b", "c"], title="Three"))
    assert {"Three", "is", "said to be", "12345"} <= set(few)
    assert few.count("a") == 2
    many = NUMBERED + 1
    written = texts(draw_matrix(torch.eye(many, dtype=torch.int64) * 77, [f"k{n}" for n in range(many)]))
    assert "77" not in written
    assert "k0" in written
    thousand = texts(draw_matrix(torch.eye(200, dtype=torch.int64), [f"k{n}" for n in range(200)]))
    assert "k0" not in thousand
    assert any("one of 200 classes" in words for words in thousand)


def test_long_and_wicked_names_are_cut_and_escaped() -> None:
    drawing = draw_matrix(torch.tensor([[3, 1], [1, 3]]), ["<script>alert(1)</script>\x00 & more of the same", 'b"'])
    assert "<script" not in drawing
    shown = [words for words in texts(drawing) if words.startswith("<script")]
    assert len(shown) == 2
    assert all(words.endswith("…") for words in shown)
    assert any("more of the same" in name for name in cells(drawing))


def test_nothing_leaves_the_drawing() -> None:
    for classes in (1, 3, 30, 90):
        drawing = draw_matrix(torch.ones(classes, classes, dtype=torch.int64), ["a long name of a class"] * classes)
        root = ElementTree.fromstring(drawing)
        wide, high = float(root.attrib["width"]), float(root.attrib["height"])
        for element in root.iter(f"{SVG}rect"):
            box = {key: float(element.attrib.get(key, 0)) for key in ("x", "y", "width", "height")}
            assert box["x"] + box["width"] <= wide + 0.5
            assert box["y"] + box["height"] <= high + 0.5


def test_counts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"must be \(2, 2\) for 2 names, got \(3, 3\)"):
        draw_matrix(torch.eye(3), ["a", "b"])
