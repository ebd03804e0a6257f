"""Pictures that are there more than once: within a class, with another label, and in more than one split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from striate.core.errors import first_of
from striate.core.finding import Severity
from striate.data.audit.found import Found, counted, found
from striate.data.audit.likeness import find_alike
from striate.data.audit.material import Material

MANY = 0.01  # part of a split or of all pictures from which duplicates are worth more than a note

Copies = tuple[int, ...]


def duplicates(material: Material, *, quick: bool = False) -> list[Found]:
    """Find copies: ``leaks``, ``near-leaks``, ``conflicting-labels``, ``duplicates`` and ``near-duplicates``.

    A picture and its copy are reported once, by the worst that is wrong with them: the split, the label, or nothing but
    that one of them is superfluous.

    Args:
        quick: in the search for near ones, see `find_alike`.
    """
    exact = list(_equal(material))
    known = {picture: number for number, copies in enumerate(exact) for picture in copies}
    alike = find_alike(material.thumbnails, material.usable & ~material.blank, quick=quick)
    near = [
        (one, other) for one, other in alike.pairs.tolist() if known.get(one, -1) != known.get(other, -2)
    ]  # fmt: skip
    result = [
        _leaks(material, [copies for copies in exact if _spans(material.split, copies)]),
        _near_leaks(material, [pair for pair in near if _spans(material.split, pair)]),
        _conflicts(material, [copies for copies in [*exact, *near] if _spans(material.label, copies)]),
        _superfluous(material, _harmless(material, exact), "duplicates", "equal to another of the same class"),
        _superfluous(
            material, _harmless(material, near), "near-duplicates", "nearly equal to another of the same class"
        ),
    ]
    return [one for one in result if one is not None]


def leaked(material: Material, copies: Iterable[Copies]) -> dict[int, set[int]]:
    """Return, by split, which of its pictures have a copy in an earlier split."""
    result: dict[int, set[int]] = {}
    for together in copies:
        first = min(material.split[list(together)])
        for picture in together:
            if material.split[picture] != first:
                result.setdefault(int(material.split[picture]), set()).add(picture)
    return result


def _equal(material: Material) -> Iterator[Copies]:
    """Yield the pictures of equal pixels, as thumbnails, which those of equal files are among."""
    by_pixels: dict[bytes, list[int]] = {}
    pixels = material.thumbnails.flatten(1).numpy()
    for picture in np.flatnonzero(material.usable).tolist():
        by_pixels.setdefault(hashlib.blake2b(pixels[picture], digest_size=16).digest(), []).append(picture)
    return (tuple(copies) for copies in by_pixels.values() if len(copies) > 1)


def _spans(values: np.ndarray[tuple[int], np.dtype[np.int64]], copies: Copies) -> bool:
    return len(set(values[list(copies)].tolist())) > 1


def _harmless(material: Material, copies: Iterable[Copies]) -> list[Copies]:
    return [one for one in copies if not _spans(material.split, one) and not _spans(material.label, one)]


def _leaks(material: Material, copies: list[Copies]) -> Found | None:
    if not copies:
        return None
    words, numbers = _said(material, copies)
    return found(
        "leaks",
        "error",
        _where(material, copies),
        f"LEAK: {words}, pixel for pixel: {_pairs_named(material, copies)}.",
        "Remove one of each pair: a network that has seen a picture is not tested by it.",
        pictures=copies,
        numbers=numbers,
    )


def _near_leaks(material: Material, copies: list[Copies]) -> Found | None:
    if not copies:
        return None
    words, numbers = _said(material, copies)
    severity: Severity = "error" if max(numbers.values()) >= MANY else "warning"
    return found(
        "near-leaks",
        severity,
        _where(material, copies),
        f"LEAK: {words}, nearly unchanged: {_pairs_named(material, copies)}.",
        "Look at them (striate audit DATA --output page.html); remove one of each pair, or keep both in one split.",
        pictures=copies,
        numbers=numbers,
    )


def _conflicts(material: Material, copies: list[Copies]) -> Found | None:
    if not copies:
        return None
    names = [
        " = ".join(f"{material.names[one]} ({material.label_name(one)})" for one in together[:2]) for together in copies
    ]
    return found(
        "conflicting-labels",
        "warning",
        "labels",
        f"{counted(len(copies))} {'is' if len(copies) == 1 else 'are'} there with different labels: "
        f"{first_of(names, 3)}.",
        "Decide which label is right; one of each is an error, or the classes overlap.",
        pictures=copies,
    )


def _superfluous(material: Material, copies: list[Copies], code: str, what: str) -> Found | None:
    if not copies:
        return None
    superfluous = len({picture for together in copies for picture in together[1:]})
    share = superfluous / len(material.names)
    later = " A copy may land in a split that is held out." if material.splits != ("train", "val", "test") else ""
    return found(
        code,
        "warning" if share >= MANY or later else "note",
        "copies",
        f"{counted(superfluous)} ({share:.1%}) {'is' if superfluous == 1 else 'are'} {what}: "
        f"{_pairs_named(material, copies)}.{later}",
        "Remove them, or say what belongs together by groups.",
        pictures=copies,
        numbers={"superfluous": superfluous, "share": share},
    )


def _said(material: Material, copies: list[Copies]) -> tuple[str, dict[str, float]]:
    """Return how many pictures of each split have been seen before, in words and as shares by split."""
    words, numbers = [], {}
    for split, pictures in sorted(leaked(material, copies).items()):
        share = len(pictures) / int((material.split == split).sum())
        verb = "is" if len(pictures) == 1 else "are"
        words.append(f"{counted(len(pictures))} of {material.splits[split]} ({share:.1%}) {verb} in an earlier split")
        numbers[f"share_of_{material.splits[split]}"] = share
    return ", ".join(words), numbers


def _where(material: Material, copies: list[Copies]) -> str:
    splits = sorted({int(material.split[picture]) for together in copies for picture in together})
    return " / ".join(material.splits[split] for split in splits)


def _pairs_named(material: Material, copies: list[Copies]) -> str:
    return first_of([" = ".join(material.names[one] for one in together[:2]) for together in copies], 3)
