"""The page of an audit: the findings, and under each the first pictures that it is about."""

from __future__ import annotations

from collections.abc import Iterator

from striate.data.audit import Audit
from striate.data.audit.found import Found, counted
from striate.data.audit.material import Material
from striate.drawing.grid import Group, Tile, draw_grid
from striate.drawing.page import Content, Details, Figure, Findings, Page, Paragraph, Section, Table, draw_page

SHOWN = 24  # pictures of a finding
LISTED = 500  # names
CAPTION = 28  # characters of a name under a picture


def audit_page(audit: Audit, name: str) -> Page:
    """Draw the page of an audit: one file, with thumbnails."""
    material = audit.material
    sections = [
        Section("What was found", [_verdict(audit), *([Findings(audit.findings)] if audit.found else [])]),
        Section("Pictures", [_counts(material)]),
        *(_section(material, one) for one in audit.found if one.pictures),
    ]
    return draw_page(sections, title=f"Audit of {name}", subtitle=counted(len(material.names)))


def _section(material: Material, found: Found) -> Section:
    return Section(found.finding.code.replace("-", " "), list(_evidence(material, found)))


def _verdict(audit: Audit) -> Paragraph:
    if not audit.found:
        return Paragraph("Nothing: every picture can be read, and none is there twice.")
    severities = [one.severity for one in audit.findings]
    kinds = [counted(severities.count(kind), kind) for kind in ("error", "warning", "note") if kind in severities]
    return Paragraph(", ".join(kinds) + ".")


def _counts(material: Material) -> Table:
    rows = [
        [name, *(f"{count:,}" for count in column)]
        for name, column in zip(material.class_names, material.counts().T.tolist(), strict=True)
    ]
    return Table(["class", *material.splits], rows, material.splits, caption="Pictures of each class in each split")


def _evidence(material: Material, found: Found) -> Iterator[Content]:
    """Yield a finding's words, its first pictures, and the names of all."""
    yield Findings([found.finding])
    entries = [(together, found.remarks[n] if found.remarks else "") for n, together in enumerate(found.pictures)]
    shown: list[tuple[int, ...]] = []
    for together, _ in entries:
        if sum(map(len, shown)) + len(together) > SHOWN:
            break
        shown.append(together)
    shown = [tuple(p for p in one if material.usable[p]) for one in shown or [found.pictures[0][:SHOWN]]]
    groups = [Group(_tiles(material, one)) for one in _rows(shown)]
    if any(group.tiles for group in groups):
        sheet = draw_grid(groups, title="")
        yield Figure(
            sheet, f"Pictures: {found.finding.message}", "Those that belong together share a row." * (len(groups) > 1)
        )
    rows = [[", ".join(material.names[p] for p in together[:8]), remark] for together, remark in entries[:LISTED]]
    more = [Paragraph(f"… and {len(entries) - LISTED:,} more: `--json` lists all.")] if len(entries) > LISTED else []
    headers = ["pictures", "remark"] if found.remarks else ["pictures"]
    table = Table(headers, [row[: len(headers)] for row in rows])
    yield Details(f"The names of {'all' if not more else 'the first'} {len(rows):,}", [table, *more])


def _rows(shown: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return what stands in one row: pictures that belong together, or all where each stands alone."""
    return shown if any(len(one) > 1 for one in shown) else [tuple(picture for one in shown for picture in one)]


def _tiles(material: Material, pictures: tuple[int, ...]) -> list[Tile]:
    return [
        Tile(material.thumbnails[one], f"{_shortened(material.names[one])}\n{material.label_name(one)}")
        for one in pictures
    ]


def _shortened(name: str) -> str:
    return name if len(name) <= CAPTION else "…" + name[-CAPTION + 1 :]
