from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from striate.drawing.curves import COLOURS, Curve, Plane, draw_curves

SVG = "{http://www.w3.org/2000/svg}"


def _texts(drawing: str) -> list[str]:
    return ["".join(one.itertext()).strip() for one in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def _path(drawing: str, colour: str) -> list[tuple[float, float]]:
    """The corners of the longest line of a colour, in px, y downwards."""
    paths = [
        one for one in ElementTree.fromstring(drawing).iter(f"{SVG}path") if f"stroke: {colour}" in one.get("style", "")
    ]
    found = [[(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", one.get("d", ""))] for one in paths]
    return max(found, key=len)


def test_a_curve_is_where_its_numbers_are() -> None:
    plane = Plane([Curve([0, 1, 2], [0, 10, 5])], x_range=(0, 2), y_range=(0, 10))
    (x0, y0), (x1, y1), (x2, y2) = _path(draw_curves(plane), COLOURS[0])
    assert x0 < x1 < x2
    assert x1 - x0 == pytest.approx(x2 - x1, rel=1e-4)
    assert y1 < y2 < y0  # SVG counts downwards: the largest is the highest
    assert (y0 - y2) / (y0 - y1) == pytest.approx(0.5, rel=1e-4)


def test_logarithmic_axes_have_equal_steps_for_equal_ratios() -> None:
    plane = Plane([Curve([1, 10, 100], [2, 20, 200])], logarithmic="xy")
    (x0, y0), (x1, y1), (x2, y2) = _path(draw_curves(plane), COLOURS[0])
    assert x1 - x0 == pytest.approx(x2 - x1, rel=1e-3)
    assert y0 - y1 == pytest.approx(y1 - y2, rel=1e-3)


def test_polar_angles_run_counter_clockwise_from_the_right() -> None:
    plane = Plane([Curve([0, 90], [1, 1], form="line")], y_range=(0, 1), polar=True)
    points = _path(draw_curves(plane), COLOURS[0])
    assert points[0][0] > points[-1][0]  # 0° is to the right of 90°
    assert points[0][1] > points[-1][1]  # 90° is above 0°


def test_the_same_drawing_is_the_same_bytes() -> None:
    planes = [
        Plane([Curve([0, 1], [1, 2], "a", form=form)], "one") for form in ("line", "marks", "bars", "steps", "points")
    ]  # type: ignore[arg-type]
    assert draw_curves(planes) == draw_curves(planes)


@pytest.mark.parametrize("name", ["$x_1$ & <b>", "_begins below", "a\x00\x1bb", '"quoted"', "日本"])
def test_any_name_survives(name: str) -> None:
    plane = Plane([Curve([0, 1], [1, 2], name), Curve([0, 1], [2, 1], "other", form="bars")], name, name, name)
    drawing = draw_curves(plane, description=name)
    shown = name.replace("\x00", "\N{REPLACEMENT CHARACTER}").replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert _texts(drawing).count(shown) == 4  # title, both axes, legend
    assert "other" in _texts(drawing)
    title = ElementTree.fromstring(drawing).find(f"{SVG}title")
    assert title is not None
    assert title.text == shown


def test_the_legend_names_each_curve_by_its_own_colour() -> None:
    curves = [Curve([0, 1], [1, 2], "bars", form="bars"), Curve([0, 1], [2, 1]), Curve([0, 1], [3, 1], "line")]
    drawing = draw_curves(Plane(curves))
    words = _texts(drawing)
    assert words.index("bars") < words.index("line")
    (legend,) = [one for one in ElementTree.fromstring(drawing).iter(f"{SVG}g") if one.get("id") == "legend_1"]
    inside = ElementTree.tostring(legend, encoding="unicode")
    assert inside.index(COLOURS[0]) < inside.index(">bars<") < inside.index(COLOURS[2]) < inside.index(">line<")
    assert COLOURS[1] not in inside


def test_a_band_holds_its_curve() -> None:
    curve = Curve([0, 1], [2, 3], low=[1, 2], high=[3, 4])
    drawing = draw_curves(Plane([curve], y_range=(0, 5)))
    assert f"fill: {COLOURS[0]}; fill-opacity: 0.18" in drawing


def test_there_must_be_something_to_draw() -> None:
    with pytest.raises(ValueError, match="at least one plane to draw, got none"):
        draw_curves([])
