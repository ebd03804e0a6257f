from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import striate as st
from striate.drawing import grid
from striate.drawing.colours import Scale
from striate.drawing.grid import GAP, MARGIN, Group, Sheet, Tile, draw_grid, draw_legend

Pixels = NDArray[np.uint8]


def _pixels(sheet: Sheet) -> Pixels:
    return np.asarray(sheet.image)


def _sheet(*tiles: Tile, side: int = 8, scale: Scale | None = None, columns: int | None = None) -> Pixels:
    """A sheet with tiles alone, which begin at the margins."""
    return _pixels(draw_grid([Group(tiles, scale=scale, side=side, columns=columns)], title=""))


def _picture() -> torch.Tensor:
    """2×4: no mirror image or rotation of it is itself."""
    return torch.tensor([[0, 40, 80, 120], [160, 200, 240, 255]], dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_neither_mirrored_nor_turned(channels: int) -> None:
    picture = torch.stack([_picture() // (number + 1) for number in range(channels)])
    drawn = _sheet(Tile(picture), side=16)[MARGIN : MARGIN + 8, MARGIN : MARGIN + 16]
    expected = picture.expand(3, -1, -1).permute(1, 2, 0).numpy().repeat(4, 0).repeat(4, 1)
    assert np.array_equal(drawn, expected)


def test_values_take_the_colours_of_their_scale() -> None:
    values = torch.tensor([[-1.0, 0.0], [0.5, torch.nan]])
    scale = Scale("diverging", -1, 1)
    drawn = _sheet(Tile(values), side=8, scale=scale)[MARGIN : MARGIN + 8, MARGIN : MARGIN + 8]
    assert np.array_equal(drawn, scale.colours(values).numpy().repeat(4, 0).repeat(4, 1))


def test_a_tile_may_have_a_scale_of_its_own() -> None:
    tiles = [Tile(torch.ones(2, 2), scale=Scale("grey", 0, 1)), Tile(torch.ones(2, 2))]
    drawn = _sheet(*tiles, scale=Scale("grey", 0, 2))
    assert drawn[MARGIN, MARGIN].tolist() == [255] * 3
    assert drawn[MARGIN, MARGIN + 8 + GAP].tolist() == [128] * 3


def test_a_large_picture_is_shrunk_to_the_mean_of_its_pixels() -> None:
    picture = torch.zeros(1, 64, 64, dtype=torch.uint8)
    picture[:, :, 32:] = 200
    drawn = _sheet(Tile(picture), side=8)[MARGIN : MARGIN + 8, MARGIN : MARGIN + 8, 0]
    assert (drawn[:, :3] == 0).all()
    assert (drawn[:, 5:] == 200).all()


def test_a_box_is_around_its_pixels() -> None:
    drawn = _sheet(Tile(torch.zeros(1, 10, 10, dtype=torch.uint8), box=(2, 4, 5, 8)), side=40)
    pink = (drawn == [0xFF, 0x2D, 0x95]).all(2)[MARGIN:, MARGIN:]
    rows, columns = np.nonzero(pink)
    assert (rows.min(), rows.max() + 1) == (2 * 4, 5 * 4)
    assert (columns.min(), columns.max() + 1) == (5 * 4, 9 * 4)
    assert not pink[2 * 4 + 2 : 5 * 4 - 2, 5 * 4 + 2 : 9 * 4 - 2].any()  # a frame of 2 px, not a patch


def test_a_box_of_one_pixel_on_a_shrunken_tile() -> None:
    drawn = _sheet(Tile(torch.zeros(1, 200, 200, dtype=torch.uint8), box=(100, 100, 150, 150)), side=40)
    rows, columns = np.nonzero((drawn == [0xFF, 0x2D, 0x95]).all(2))
    assert abs(rows.mean() - MARGIN - 20) <= 2
    assert abs(columns.mean() - MARGIN - 30) <= 2


def test_negative_values_of_green_and_red_carry_a_dash() -> None:
    values = torch.tensor([[-1.0, 1.0], [0.0, -0.4]])
    scale = Scale("green-red", -1, 1)
    drawn = _sheet(Tile(values), side=20, scale=scale)[MARGIN : MARGIN + 20, MARGIN : MARGIN + 20]
    plain = scale.colours(values).numpy().repeat(10, 0).repeat(10, 1)
    changed = (drawn != plain).any(2).reshape(2, 10, 2, 10).any((1, 3))
    assert changed.tolist() == [[True, False], [False, True]]


def test_tiles_follow_each_other_in_rows() -> None:
    tiles = [Tile(torch.full((1, 2, 2), value, dtype=torch.uint8)) for value in (10, 20, 30)]
    drawn = _sheet(*tiles, columns=2)
    step = 8 + GAP
    assert [int(drawn[MARGIN + y * step, MARGIN + x * step, 0]) for y, x in ((0, 0), (0, 1), (1, 0), (1, 1))] == [
        10, 20, 30, 255,
    ]  # fmt: skip


def test_the_legend_runs_from_the_lowest_to_the_highest_value(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    draw = grid.ImageDraw.ImageDraw.text

    def noted(self: object, place: object, words: str, *rest: object, **options: object) -> None:
        written.append(words)
        draw(self, place, words, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(grid.ImageDraw.ImageDraw, "text", noted)
    bar = np.asarray(draw_legend(Scale("grey", -0.25, 1234.5, "volts")))
    assert written == ["−0.25", "1.23e+03", "volts"]
    row = bar[6, 1:219, 0].astype(int)
    assert row[0] <= 2
    assert row[-1] >= 253
    assert (np.diff(row) >= 0).all()
    written.clear()
    draw_legend(Scale("diverging", -3, 3))
    draw_legend(Scale.of(torch.zeros(2), "diverging"))
    assert written == ["−3", "0", "3", "0", "0", "0"]


def test_a_legend_is_drawn_only_where_a_tile_uses_it() -> None:
    own = Tile(torch.ones(2, 2), scale=Scale("grey", 0, 1))
    shared = Tile(torch.ones(2, 2))
    scale = Scale("heat", 0, 1)
    assert len(_sheet(own, scale=scale)) < len(_sheet(own, shared, scale=scale))


@pytest.mark.parametrize("name", ["$x$", "<b>&", "a\x00\x1b\tb", "x" * 300, "日本 ‮abc", ""])
def test_any_name_can_be_written(name: str) -> None:
    sheet = draw_grid(
        [Group([Tile(torch.ones(2, 2), name)], name, Scale("grey", 0, 1, name))],
        title=name,
        subtitle=name,
        notes=[name],
    )
    assert sheet.image.width <= grid.WIDEST + 2 * MARGIN
    assert sheet.png()[:4] == b"\x89PNG"


def test_the_same_sheet_is_the_same_bytes_and_reads_back() -> None:
    groups = [Group([Tile(_picture()[None], "one")], "heading")]
    first, second = (draw_grid(groups, title="title").png() for _ in range(2))
    assert first == second
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(first))), _pixels(draw_grid(groups, title="title")))


def test_a_sheet_is_written_as_png_alone(tmp_path: Path) -> None:
    sheet = draw_grid([Group([Tile(_picture()[None])])], title="title")
    sheet.write(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == sheet.png()
    with pytest.raises(st.FileError, match=r"must end in \.png, got .*sheet\.jpg\. Try .*sheet\.png"):
        sheet.write(tmp_path / "sheet.jpg")


def test_numbers_are_written_upon_large_values_alone() -> None:
    values = torch.tensor([[0.0, 1.0]])
    scale = Scale("grey", 0, 1)
    for side, written in ((100, True), (20, False)):
        plain = _sheet(Tile(values), side=side, scale=scale)
        assert (_sheet(Tile(values, numbers=True), side=side, scale=scale) != plain).any() == written
