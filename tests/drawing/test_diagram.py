"""The layout of volumes, branches and frames: nothing overlaps, nothing is cut, the same is the same bytes."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.drawing.diagram import Diagram, Fork, Frame, Item, Join, Stage, Step, draw_diagram
from striate.drawing.svg import SMALLEST, Drawing, text_width
from tests.drawing.reading import SVG, marks, overlaps, size

PICTURE = Step((3, 224, 224), "picture", captions=("3×224×224",))


def convolution(channels: int = 64, side: int = 56) -> Step:
    return Step((channels, side, side), "convolution", (f"conv 3×3, {channels}",), ("BN · ReLU",), ("shape", "params"))


def diagram(*items: Item, name: str = "") -> Diagram:
    return Diagram("title", "subtitle", "description", (Stage((PICTURE,)), Stage(items, name)), ("A note.",), ("Key.",))


def check(drawing: str) -> None:
    """Nothing overlaps and everything is on the page; the sign of a join is in its circle."""
    found = [mark for mark in marks(drawing) if mark.words not in ("+", "×")]
    assert overlaps(found) == []
    width, height = size(drawing)
    assert all(one.left >= 0 and one.right <= width and one.top >= 0 and one.bottom <= height for one in found)


steps = st.builds(convolution, st.integers(1, 4096), st.integers(1, 224))
joins = st.sampled_from([Join("+", ("ReLU",), ("64×56×56",)), Join("concat", (), ("512–1024×56×56",)), Join("×")])


def longer(items: st.SearchStrategy[Item]) -> st.SearchStrategy[Item]:
    branches = st.lists(st.lists(items, max_size=3).map(tuple), min_size=2, max_size=4).map(tuple)
    some = branches.filter(lambda lanes: any(lanes) and sum(not lane for lane in lanes) < 2)
    forks = st.builds(Fork, some, joins)
    return forks | st.builds(Frame, forks.map(lambda fork: (fork,)), st.just(("Block", "a.b")), st.integers(1, 9))


@given(
    st.lists(st.recursive(steps, longer, max_leaves=8), min_size=1, max_size=8),
    st.sampled_from(["", "stage: 3 × Block"]),
)
@settings(max_examples=30, deadline=None)
def test_nothing_overlaps_and_nothing_is_cut(items: list[Item], name: str) -> None:
    check(draw_diagram(diagram(*items, name=name)))


def test_the_checks_see_an_overlap() -> None:
    text = '<text x="5" y="10" font-size="9" text-anchor="start">{}</text>'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="20">{text.format("one")}{text.format("two")}</svg>'
    )
    assert len(overlaps(marks(svg))) == 1
    with pytest.raises(AssertionError):
        check(svg)


def test_the_same_diagram_is_the_same_bytes_and_shows_in_a_notebook() -> None:
    first, second = (draw_diagram(diagram(convolution())) for _ in range(2))
    assert first == second
    assert isinstance(first, Drawing)
    assert first._repr_svg_() == first


def test_it_can_be_read_aloud_and_every_word_can_be_read() -> None:
    root = ElementTree.fromstring(draw_diagram(diagram(convolution())))
    assert root.findtext(f"{SVG}title") == "title"
    assert root.findtext(f"{SVG}desc") == "description"
    sizes = [float(one.attrib["font-size"]) for one in root.iter(f"{SVG}text")]
    assert min(sizes) >= SMALLEST


def test_words_that_xml_reads_as_markup_stay_words() -> None:
    strange = Step((4, 4, 4), "other", ('<b> & "c"\x00',))
    words = {mark.words for mark in marks(draw_diagram(diagram(strange)))}
    assert '<b> & "c"�' in words


def test_height_and_width_share_one_scale() -> None:
    sides = (224, 56, 14)
    found = marks(draw_diagram(diagram(*(convolution(64, side) for side in sides))))
    heights = [mark.bottom - mark.top for mark in found if mark.kind == "volume"][1:]
    for side, height in zip(sides, heights, strict=True):
        assert height == pytest.approx(heights[0] * (side / 224) ** 0.5, abs=0.3)


def test_twice_the_channels_are_one_step_wider() -> None:
    found = marks(draw_diagram(diagram(*(convolution(channels, 56) for channels in (63, 127, 255)))))
    one, two, three = [mark.right - mark.left for mark in found if mark.kind == "volume"][1:]
    assert two - one == pytest.approx(three - two, abs=0.3)
    assert two > one


def test_a_long_diagram_is_broken_into_rows() -> None:
    short, long = (draw_diagram(diagram(*[convolution()] * count)) for count in (2, 40))
    assert short.count('class="row"') == 1
    assert long.count('class="row"') > 2
    assert size(long)[0] < 1600
    check(long)


def test_a_frame_that_stands_for_many_is_a_pile() -> None:
    once, often = (draw_diagram(diagram(Frame((convolution(),), ("Block",), times))) for times in (1, 7))
    assert once.count('rx="5"') == 1
    assert often.count('rx="5"') == 3


def test_an_uncertain_arrow_is_dashed() -> None:
    sure = draw_diagram(diagram(Step((8, 8, 8), "other")))
    unsure = draw_diagram(diagram(Step((8, 8, 8), "other", certain=False)))
    assert "stroke-dasharray" not in sure
    assert unsure.count("stroke-dasharray") == 1


def test_bold_and_wide_letters_are_wider() -> None:
    assert text_width("WWW", 10) > text_width("iii", 10)
    assert text_width("name", 10, bold=True) > text_width("name", 10)
