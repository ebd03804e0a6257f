"""What is unusual about single picture files: unreadable, of another mode than the rest, rotated, tiny, narrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from striate.core.errors import first_of
from striate.data.audit.examine import Record
from striate.data.audit.found import Found, counted, found
from striate.data.audit.material import Material
from striate.data.decode import ALPHA_MODES, GREY_MODES

TINY = 32  # px of the shorter side under which there is little to see beside larger ones
EXTREME = 4.0  # proportions from which a crop to a square loses three quarters


def quality(material: Material) -> list[Found]:
    """Find what is wrong with single files; of pictures that are no files, those that are blank."""
    records = material.records
    blank = _blank(material)
    if records is None:
        return blank
    usable = [number for number, record in enumerate(records) if not record.problem]
    return [*_unreadable(material, records), *_modes(material, records, usable), *_rotated(material, records, usable),
            *_sizes(material, records, usable), *blank]  # fmt: skip


def _unreadable(material: Material, records: Sequence[Record]) -> list[Found]:
    bad = [number for number, record in enumerate(records) if record.problem]
    if not bad:
        return []
    reasons = [records[number].problem for number in bad]
    return [
        found(
            "unreadable",
            "error",
            "files",
            f"{counted(len(bad), 'file')} of {len(records):,} cannot be used: "
            + first_of([f"{material.names[n]} {why}" for n, why in zip(bad, reasons, strict=True)])
            + ".",
            "Copy them again or remove them.",
            pictures=[(number,) for number in bad],
            remarks=reasons,
        )
    ]


def _modes(material: Material, records: Sequence[Record], usable: Sequence[int]) -> list[Found]:
    """Report grey pictures among colour ones or the reverse, and modes that are converted with loss."""
    kinds = Counter("grey" if records[number].mode in GREY_MODES else "colour" for number in usable)
    rarer = min(kinds, key=lambda kind: (kinds[kind], kind)) if len(kinds) == 2 else None
    return [
        *_listed(
            material,
            [n for n in usable if rarer is not None and (records[n].mode in GREY_MODES) == (rarer == "grey")],
            "mixed-modes",
            f"are {rarer} among {counted(len(usable) - kinds[rarer or ''])} that are not",
            "They are converted to what most are; give --channels 1 if colour says nothing.",
        ),
        *_listed(
            material,
            [n for n in usable if records[n].mode == "CMYK"],
            "cmyk",
            "are in CMYK, for printing; they are converted without their colour profile",
            "Save them as RGB if their colours matter.",
        ),
        *_listed(
            material,
            [n for n in usable if records[n].mode in ALPHA_MODES],
            "transparent",
            "have an alpha channel; transparent parts are shown on white",
            "Nothing, if white is right.",
        ),
        *_listed(
            material,
            [n for n in usable if records[n].mode in ("P", "PA")],
            "palette",
            "have a palette of at most 256 colours",
            "Nothing, unless only some classes have one.",
        ),
    ]


def _rotated(material: Material, records: Sequence[Record], usable: Sequence[int]) -> list[Found]:
    return _listed(
        material,
        [number for number in usable if records[number].orientation != 1],
        "rotated",
        "are turned upright as EXIF says",
        "Nothing here; other programs may take them as they lie in the file.",
        remark=lambda number: f"EXIF orientation {records[number].orientation}",
    )


def _sizes(material: Material, records: Sequence[Record], usable: Sequence[int]) -> list[Found]:
    if not usable:
        return []
    sides = np.array([[records[number].height, records[number].width] for number in usable])
    short, long = sides.min(1), sides.max(1)
    tiny = short < TINY if np.median(short) >= 2 * TINY else np.zeros(len(usable), bool)

    def size(number: int) -> str:
        return f"{records[number].width} × {records[number].height}"

    chosen = np.array(usable)
    return [
        *_listed(
            material,
            chosen[tiny].tolist(),
            "tiny",
            f"are under {TINY} px, where half of all have {np.median(short):.0f} px or more",
            "Look at them: thumbnails and icons are often there by mistake.",
            severity="warning",
            remark=size,
        ),
        *_listed(
            material,
            chosen[long >= EXTREME * short].tolist(),
            "extreme-proportions",
            f"are at least {EXTREME:g} times as long as wide; a square of them shows a small part",
            "Cut them, or keep all of each with resize='pad'.",
            severity="warning",
            remark=size,
        ),
    ]


def _blank(material: Material) -> list[Found]:
    return _listed(
        material,
        np.flatnonzero(material.blank).tolist(),
        "blank",
        "are of one brightness nearly everywhere",
        "Look at them: there is little to learn from.",
        severity="warning",
    )


def _listed(
    material: Material,
    numbers: Sequence[int],
    code: str,
    what: str,
    fix: str,
    *,
    severity: str = "note",
    remark: Callable[[int], str] | None = None,
) -> list[Found]:
    """Return one finding about these pictures, or none."""
    if not numbers:
        return []
    share = len(numbers) / len(material.names)
    remarks = [remark(number) for number in numbers] if remark else []
    what = what.replace("are ", "is ", 1).replace("have ", "has ", 1) if len(numbers) == 1 else what
    return [
        found(
            code,
            "warning" if severity == "warning" else "note",
            "files" if material.records is not None else "pictures",
            f"{counted(len(numbers))} ({share:.1%}) {what}: {first_of([material.names[n] for n in numbers])}.",
            fix,
            pictures=[(number,) for number in numbers],
            numbers={"share": share},
            remarks=remarks,
        )
    ]
