"""Pages: whole HTML, every name escaped, names of drawings apart, nothing fetched, small enough."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from striate.core.errors import FileError
from striate.core.finding import Finding
from striate.drawing.curves import Curve, Plane, draw_curves
from striate.drawing.grid import Sheet
from striate.drawing.page import (
    Code,
    Content,
    Details,
    Figure,
    Findings,
    Headline,
    Page,
    Paragraph,
    Section,
    Table,
    Value,
    draw_page,
)
from striate.drawing.svg import document, line, text

NASTY = "<script>alert(\"1\")</script> & 'x' \\1 \x00"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Reads a page as strictly as XML: every element is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def page_of(*content: Content) -> Page:
    return draw_page([Section("One", content)], title="A page")


def noise(side: int) -> Sheet:
    pixels = torch.randint(0, 256, (side, side, 3), generator=torch.Generator().manual_seed(side))
    return Sheet(Image.fromarray(pixels.to(torch.uint8).numpy()))


def drawing(words: str = "x") -> Figure:
    return Figure(document(line([(0, 0), (5, 5)]) + text(words, 1, 9, 9), 40, 20, title=words, description="d"), words)


def every_kind(words: str) -> list[Content]:
    finding = Finding("a-code", "warning", words, words, {words: 1.0}, words)
    plane = Plane([Curve([0, 1], [0, 1], words), Curve([0, 1], [1, 1])], words, words, words)
    return [
        Paragraph(words),
        Paragraph(words, faint=True),
        Headline(Value(0.5, words, words), words),
        Table([words, "n"], [[words, Value(2, words)]], ["n"], words),
        Figure(noise(8), words, words),
        drawing(words),
        Figure(draw_curves(plane, description=words), words),
        Code(words),
        Findings([finding]),
        Details(words, [Paragraph(words), Figure(noise(9), words)]),
    ]


def test_is_a_whole_document() -> None:
    reader = read(draw_page([Section("First", every_kind("x")), Section("Second", [])], title="T", subtitle="S"))
    assert reader.of("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in reader.of("meta")
    assert len(reader.of("h1")) == 1
    targets = [link["href"] for link in reader.of("a")]
    assert targets == [f"#{heading['id']}" for heading in reader.of("h2")]
    assert len(targets) == 2
    assert all(image["alt"] and image["loading"] == "lazy" for image in reader.of("img"))


def test_no_name_is_read_as_markup() -> None:
    page = draw_page([Section(NASTY, every_kind(NASTY))], title=NASTY, subtitle=NASTY)
    reader = read(page)
    clean = every_kind("x")
    plain = read(draw_page([Section("x", clean)], title="x", subtitle="x"))
    assert [tag for tag, _ in reader.elements if tag != "text"] == [tag for tag, _ in plain.elements if tag != "text"]
    assert not reader.of("script")
    shown = NASTY.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    assert sum(words.strip() == shown for words in reader.words) >= 10
    assert reader.of("img")[0]["alt"] == shown
    assert reader.of("data")[0]["data-name"] == shown


def test_nothing_is_fetched_or_run() -> None:
    reader = read(page_of(*every_kind("x")))
    for tag, attributes in reader.elements:
        assert tag not in {"script", "link", "iframe", "object", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href"}:
                assert value is not None
                assert value.startswith(("data:image/png;base64,", "#"))
    style = re.search("<style>(.*?)</style>", page_of(), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_drawings_keep_their_names_apart() -> None:
    plane = Plane([Curve([0, 1], [0, 1], "a")])
    same = Figure(draw_curves(plane), "curves")
    again = Figure(draw_curves(plane), "curves")
    page = page_of(same, again, drawing(), drawing())
    reader = read(page)
    names = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert len(names) > 20
    pointed = re.findall(r"url\(#([^)]*)\)", page) + re.findall(r'href="#([^"]*)"', page)
    assert pointed
    assert set(pointed) <= set(names)
    assert [svg["aria-label"] for svg in reader.of("svg")] == ["curves", "curves", "x", "x"]


def test_a_number_is_there_as_computed() -> None:
    exact = 0.1 + 0.2
    data = read(page_of(Table(["a"], [[Value(exact, "30.0 %", "accuracy")]]))).of("data")
    assert data == [{"value": repr(exact), "data-name": "accuracy"}]
    assert float(data[0]["value"] or "") == exact


def test_a_sheet_is_embedded_as_it_is() -> None:
    sheet = noise(40)
    source = read(page_of(Figure(sheet, "noise"))).of("img")[0]["src"]
    assert source is not None
    image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    assert image.tobytes() == sheet.image.tobytes()


def test_figures_and_tables_stand_side_by_side() -> None:
    page = page_of(drawing(), Table(["a"], [["b"]]), Paragraph("between"), drawing())
    beside = page.split('<div class="beside">')[1:]
    assert [part.count("<figure>") + part.count("<table>") for part in beside] == [2, 1]


def test_a_large_page_shrinks_its_sheets() -> None:
    words = page_of(drawing())
    page = draw_page([Section("One", [Figure(noise(600), "n"), drawing(), Figure(noise(60), "n")])], title="A page",
                     largest=len(words) + 900_000)  # fmt: skip
    assert len(page.encode()) <= len(words) + 900_000
    large, small = read(page).of("img")
    assert large["width"] == "450"  # 600 × 0.75
    assert small["width"] == "60"


def test_what_cannot_shrink_is_left_out_in_words() -> None:
    page = draw_page([Section("One", [Figure(noise(300), "the noise"), drawing("y")])], title="A page", largest=30_000)
    assert len(page.encode()) <= 30_000
    assert not read(page).of("img")
    assert "A picture of 0.4 MB is left out to keep this page small: the noise" in page
    assert len(read(page).of("svg")) == 1
    assert read(draw_page([Section("One", [drawing("y")])], title="A page", largest=10)).of("svg") == []


def test_the_same_sections_are_the_same_bytes() -> None:
    assert page_of(*every_kind("x")) == page_of(*every_kind("x"))


def test_is_written_to_an_html_file_only(tmp_path: Path) -> None:
    page = page_of(Paragraph("ä"))
    page.write(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page
    with pytest.raises(FileError, match=r"must end in \.html, got .*a\.txt\. Try .*a\.html\."):
        page.write(tmp_path / "a.txt")
