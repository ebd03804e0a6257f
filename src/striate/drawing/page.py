"""One self-contained HTML page out of sections: words, tables, pictures, findings; nothing in it is fetched or run.

A page opens from a file, on a phone, in the dark and on paper. Every word that it is given is escaped.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import final

from PIL import Image

from striate.core import files
from striate.core.finding import Finding
from striate.drawing.grid import Sheet
from striate.drawing.svg import Drawing

LARGEST = 4_900_000  # bytes of a page, so that it goes by mail
FEWEST = 320  # px of width that a sheet is not shrunk under
SHRUNK = 0.75  # of its width, each time the page is too large
WIDE = 640  # px from which a phone shows a picture at this part of its size and lets it be moved:
LEGIBLE = 0.62
EVIDENCE = 6  # numbers of a finding that are written out, at most


@dataclass(frozen=True)
class Value:
    """A number as it is, for programs, and in words, for people.

    Args:
        value: as computed.
        words: what is shown.
        name: what a program finds it by; none where empty.
    """

    value: float
    words: str
    name: str = ""


Cell = str | Value
Row = Sequence[Cell]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph.

    Args:
        words: in plain text.
        faint: smaller and paler: what explains the rest.
    """

    words: str
    faint: bool = False


@dataclass(frozen=True)
class Headline:
    """The one number that matters, large, with what it means under it."""

    value: Value
    words: str


@dataclass(frozen=True)
class Table:
    """A table, whose columns named in ``numbers`` are aligned to the right.

    Args:
        headers: of the columns.
        rows: as many cells each as there are headers.
        numbers: some of the headers.
        caption: over it; none where empty.
    """

    headers: Sequence[str]
    rows: Sequence[Row]
    numbers: Sequence[str] = ()
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Figure:
    """A picture; figures and tables that follow each other stand side by side where there is room.

    Args:
        picture: a sheet or a drawing.
        description: what is seen, for who cannot see it.
        caption: under it; none where empty.
    """

    picture: Sheet | Drawing
    description: str
    caption: str = ""


@dataclass(frozen=True)
class Code:
    """Lines to be typed or copied as they are."""

    text: str


@dataclass(frozen=True)
class Findings:
    """What was found, each with its evidence and its fix."""

    findings: Sequence[Finding]


@dataclass(frozen=True, eq=False)
class Details:
    """Content that is folded away until it is asked for; on paper it is there."""

    heading: str
    content: Sequence[Paragraph | Table | Figure | Code | Findings]


Content = Paragraph | Headline | Table | Figure | Code | Findings | Details


@dataclass(frozen=True, eq=False)
class Section:
    """Content under a heading, which the page's list of contents names."""

    heading: str
    content: Sequence[Content]


@final
class Page(str):
    """An HTML document."""

    __slots__ = ()

    def write(self, path: str | Path) -> None:
        """Write it to a file, atomically.

        Raises:
            FileError: the name does not end in .html, or it cannot be written.
        """
        files.check_ending(path, ".html", "page")
        files.write_text(Path(path), self)


def draw_page(sections: Sequence[Section], *, title: str, subtitle: str = "", largest: int = LARGEST) -> Page:
    """Draw a page; the same sections are the same bytes.

    Args:
        sections: in their order.
        title, subtitle: over them.
        largest: bytes; where it would have more, the largest sheets are shrunk, and what even then does not fit is left
            out with a sentence in its place.
    """
    figures = list(_figures(sections))
    words = len(_page(sections, {id(one): "" for one in figures}, title, subtitle).encode())
    return _page(sections, _fitted(figures, largest - words), title, subtitle)


def _page(sections: Sequence[Section], pictures: dict[int, str], title: str, subtitle: str) -> Page:
    bodies = [_section(number, section, pictures) for number, section in enumerate(sections, 1)]
    links = "\n".join(
        f'<li><a href="#section-{number}">{_clean(section.heading)}</a></li>'
        for number, section in enumerate(sections, 1)
    )
    under = f'<p class="subtitle">{_clean(subtitle)}</p>' if subtitle else ""
    return Page(
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{_clean(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{_clean(title)}</h1>{under}</header>\n"
        f'<nav aria-label="Contents"><ul>\n{links}\n</ul></nav>\n<main>\n' + "\n".join(bodies) + "\n</main>\n"
        "</body>\n</html>\n"
    )


def _section(number: int, section: Section, pictures: dict[int, str]) -> str:
    name = f"section-{number}"
    content = _contents(section.content, pictures)
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{_clean(section.heading)}</h2>\n{content}\n</section>'


def _contents(content: Iterable[Content], pictures: dict[int, str]) -> str:
    """Write one part after the other, and figures and tables that follow each other side by side."""
    parts = []
    for beside, run in groupby(content, key=lambda part: isinstance(part, Figure | Table)):
        written = "\n".join(_content(part, pictures) for part in run)
        parts.append(f'<div class="beside">\n{written}\n</div>' if beside else written)
    return "\n".join(parts)


def _content(part: Content, pictures: dict[int, str]) -> str:
    match part:
        case Paragraph():
            kind = ' class="faint"' if part.faint else ""
            return f"<p{kind}>{_clean(part.words)}</p>"
        case Headline():
            return f'<p class="headline"><strong>{_cell(part.value)}</strong> <span>{_clean(part.words)}</span></p>'
        case Table():
            return _table(part)
        case Figure():
            caption = f"<figcaption>{_clean(part.caption)}</figcaption>" if part.caption else ""
            return f"<figure>{pictures[id(part)]}{caption}</figure>"
        case Code():
            return f'<pre tabindex="0"><code>{_clean(part.text, lines=True)}</code></pre>'
        case Findings():
            return '<ul class="findings">\n' + "\n".join(map(_finding, part.findings)) + "\n</ul>"
        case Details():
            inside = _contents(part.content, pictures)
            return f"<details>\n<summary>{_clean(part.heading)}</summary>\n{inside}\n</details>"


def _table(table: Table) -> str:
    kinds = [' class="number"' if header in table.numbers else "" for header in table.headers]
    head = "".join(
        f'<th scope="col"{kind}>{_clean(header)}</th>' for header, kind in zip(table.headers, kinds, strict=True)
    )
    rows = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in table.rows
    )
    caption = f"<caption>{_clean(table.caption)}</caption>" if table.caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n'
        "</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _clean(cell)
    name = f' data-name="{_clean(cell.name)}"' if cell.name else ""
    return f'<data value="{cell.value!r}"{name}>{_clean(cell.words)}</data>'


def _finding(finding: Finding) -> str:
    fix = f" <em>{_clean(finding.fix)}</em>" if finding.fix else ""
    few = finding.numbers if len(finding.numbers) <= EVIDENCE else {}  # the message says what matters of many
    numbers = ", ".join(f"{name} {value:g}" for name, value in few.items())
    evidence = f' <span class="faint">({_clean(numbers)})</span>' if numbers else ""
    severity = finding.severity if finding.severity in ("note", "warning", "error") else "note"
    return (
        f'<li class="{severity}"><b>{severity}: {_clean(finding.where)}</b> {_clean(finding.message)}{evidence}{fix}'
        "</li>"
    )


def _figures(sections: Iterable[Section]) -> Iterator[Figure]:
    parts = [part for section in sections for part in section.content]
    while parts:
        part = parts.pop(0)
        if isinstance(part, Details):
            parts = [*part.content, *parts]
        elif isinstance(part, Figure):
            yield part


def _fitted(figures: Sequence[Figure], room: int) -> dict[int, str]:
    """Return each figure's picture as HTML, all together in ``room`` bytes."""
    numbers = {id(one): number for number, one in enumerate(figures, 1)}
    images = {id(one): one.picture.image for one in figures if isinstance(one.picture, Sheet)}
    written = {id(one): _picture(one, numbers[id(one)]) for one in figures}
    descriptions = {id(one): one.description for one in figures}
    while written and sum(len(one.encode()) for one in written.values()) > room:
        shrinkable = [name for name, image in images.items() if image.width > FEWEST]
        name = max(shrinkable or written, key=lambda one: len(written[one]))
        if name not in shrinkable:
            if written[name].startswith("<p>"):
                break  # nothing is left but words
            left_out = f"A picture of {len(written[name]) / 1e6:.1f} MB is left out to keep this page small:"
            written[name] = f"<p>{left_out} {_clean(descriptions[name])}</p>"
            images.pop(name, None)
            continue
        width = max(FEWEST, round(images[name].width * SHRUNK))
        height = max(1, round(images[name].height * width / images[name].width))
        images[name] = images[name].resize((width, height), Image.Resampling.BOX)
        written[name] = _image(images[name], descriptions[name], numbers[name])
    return written


def _picture(figure: Figure, number: int) -> str:
    if isinstance(figure.picture, Sheet):
        return _image(figure.picture.image, figure.description, number)
    return _svg(figure.picture, figure.description, number)


def _image(image: Image.Image, description: str, number: int) -> str:
    """Return an image in the page's own text; it is unpacked when it comes into sight."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<div class="picture" tabindex="0"><img alt="{_clean(description)}" loading="lazy" '
        f'width="{image.width}" height="{image.height}"{_least(image.width)} id="figure-{number}" '
        f'src="data:image/png;base64,{data}"></div>'
    )


def _svg(drawing: Drawing, description: str, number: int) -> str:
    """Return a drawing as an element of the page: its names are made its own, as several drawings share one page."""
    body = drawing[drawing.index("<svg") :].strip()
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    mine, label = f"figure-{number}-", f' aria-label="{_clean(description)}"'

    def rename(tag: re.Match[str]) -> str:
        words = re.sub(r'(\sid="|\s(?:xlink:)?href="#|url\(#)', lambda before: before[0] + mine, tag[0])
        return re.sub(r'\saria-labelledby="[^"]*"', "", words)

    body = re.sub(r"<[A-Za-z][^>]*>", rename, body)
    width = re.search(r'<svg[^>]*?\swidth="([\d.]+)"', body)
    least = _least(float(width[1])) if width else ""
    return f'<div class="picture" tabindex="0"><svg{label}{least}{body.removeprefix("<svg")}</div>'


def _least(width: float) -> str:
    """Return the width under which a picture's words could not be read, as a property of its element."""
    return f' style="--least:{width * LEGIBLE:.0f}px"' if width > WIDE else ""


def _clean(words: str, *, lines: bool = False) -> str:
    """Escape what HTML reads as markup; characters that it cannot hold become a sign of their absence."""
    kept = "\n\t" if lines else ""
    return escape("".join(one if one.isprintable() or one in kept else "\N{REPLACEMENT CHARACTER}" for one in words))


_STYLE = """
:root { --ink: #1a1a1a; --faint: #5a5a5a; --paper: #ffffff; --panel: #f4f5f7; --edge: #d5d8dd; --link: #0b57a4;
  --note: #0b57a4; --warning: #8a5a00; --error: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --faint: #a9adb3; --paper: #16181b; --panel: #212429;
  --edge: #3c4148; --link: #8ab8ef; --note: #8ab8ef; --warning: #e9b95b; --error: #ff9a91; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 74rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 0 0 .7rem; scroll-margin-top: 1rem; }
.subtitle, .faint, figcaption, caption { color: var(--faint); }
.subtitle { margin: 0; }
.faint, figcaption { font-size: .9rem; }
a { color: var(--link); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: 1.2rem 0 0; padding: .7rem 0;
  border-block: 1px solid var(--edge); }
nav a { text-decoration: none; padding: .15rem 0; display: inline-block; }
nav a:hover, nav a:focus-visible { text-decoration: underline; }
section { padding: 1.8rem 0 .6rem; border-bottom: 1px solid var(--edge); }
section:last-child { border-bottom: 0; }
p { margin: 0 0 .8rem; max-width: 46rem; }
.headline { font-size: 1.05rem; }
.headline strong { display: block; font-size: 2.9rem; line-height: 1.1; font-variant-numeric: tabular-nums; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; margin: 0 0 1rem; }
.beside > .scroll { margin-right: 1.5rem; }
figure { margin: 0; max-width: 100%; min-width: 0; }
figcaption { margin-top: .3rem; max-width: 46rem; }
.picture { max-width: 100%; overflow-x: auto; padding: .35rem; background: #ffffff; border: 1px solid var(--edge);
  border-radius: .4rem; }
.picture img, .picture svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.scroll { overflow-x: auto; max-width: 100%; margin: 0; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { text-align: left; padding-bottom: .3rem; font-size: .9rem; max-width: 88vw; }
th, td { text-align: left; padding: .28rem .8rem .28rem 0; border-bottom: 1px solid var(--edge);
  vertical-align: top; }
td { max-width: 30rem; }
th { color: var(--faint); font-weight: 600; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
pre { overflow-x: auto; background: var(--panel); border: 1px solid var(--edge); border-radius: .4rem;
  padding: .7rem .9rem; font: .87rem/1.5 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: normal; }
details { margin: 0 0 1rem; }
summary { cursor: pointer; padding: .35rem 0; color: var(--link); }
details[open] > summary { margin-bottom: .4rem; }
.findings { list-style: none; margin: 0 0 1rem; padding: 0; }
.findings li { border-left: 4px solid var(--note); padding: .3rem .8rem; margin-bottom: .5rem;
  background: var(--panel); }
.findings .warning { border-color: var(--warning); }
.findings .error { border-color: var(--error); }
.findings b { color: var(--note); }
.findings .warning b { color: var(--warning); }
.findings .error b { color: var(--error); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media screen and (max-width: 44rem) {
  body { padding-inline: .8rem; }
  h1 { font-size: 1.45rem; }
  .picture img, .picture svg { min-width: var(--least, 0); }
  nav a { padding: .4rem 0; }
  table { font-size: .87rem; }
  th, td { padding-right: .55rem; }
  .beside > .scroll { margin-right: 0; }
}
@media print {
  :root { --ink: #000000; --faint: #444444; --paper: #ffffff; --panel: #f6f6f6; --edge: #bbbbbb; --link: #000000;
    --note: #0b57a4; --warning: #8a5a00; --error: #b3261e; }
  @page { margin: 15mm 13mm; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  nav { display: none; }
  section { border: 0; padding: .8rem 0 0; }
  h2, caption, summary, figcaption { break-after: avoid; }
  figure, tr, pre, .findings li, .headline { break-inside: avoid; }
  .picture { border: 0; overflow: visible; }
  .picture img, .picture svg { max-height: 240mm; width: auto; margin: 0; }
  .scroll { overflow: visible; }
  table { font-size: 8.5pt; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  details::details-content { content-visibility: visible; block-size: auto; height: auto; display: block; }
  details > summary { list-style: none; color: var(--faint); }
}
"""
