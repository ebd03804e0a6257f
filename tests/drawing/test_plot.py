"""Labelled points: every label there, none over another, none cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.drawing.plot import Point, plot_points
from tests.drawing.reading import marks, overlaps, size

points = st.builds(
    Point, st.floats(0.01, 100), st.floats(40, 90), st.text("abcw_0123456789", min_size=1, max_size=20), st.text("ab")
)


def plot(given_points: list[Point]) -> str:
    return plot_points(given_points, title="Accuracy", x_title="cost", y_title="top-1, %", notes=["A note."])


@given(st.lists(points, min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_every_label_is_there_and_none_hides_another(several: list[Point]) -> None:
    drawing = plot(several)
    words = [mark for mark in marks(drawing) if mark.words != "top-1, %"]  # it is turned
    labels = [mark.words for mark in words]
    assert all(labels.count(one.label) >= [two.label for two in several].count(one.label) for one in several)
    assert overlaps(words) == []
    width, height = size(drawing)
    assert all(one.left >= 0 and one.right <= width and one.top >= 0 and one.bottom <= height for one in words)


def test_points_that_coincide_are_told_apart() -> None:
    drawing = plot([Point(1.0, 70.0, f"network{number}") for number in range(12)])
    words = [mark for mark in marks(drawing) if mark.words.startswith("network")]
    assert len(words) == 12
    assert overlaps(words) == []


def test_the_best_is_above_and_the_cheapest_at_the_left() -> None:
    cheap, dear = Point(1.0, 60.0, "cheap"), Point(10.0, 80.0, "dear")
    at = {mark.words: mark for mark in marks(plot([cheap, dear]))}
    assert at["cheap"].left < at["dear"].left
    assert at["cheap"].top > at["dear"].top
    assert plot([cheap, dear]) == plot([cheap, dear])


@pytest.mark.parametrize("wrong", [[], [Point(0.0, 1.0, "nothing")]])
def test_without_a_cost_there_is_nothing_to_plot(wrong: list[Point]) -> None:
    with pytest.raises(ValueError, match="every x above 0"):
        plot(wrong)
