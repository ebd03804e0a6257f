"""What an audit returns: findings, each with the pictures that it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from striate.core.finding import Finding, Severity


@final
@dataclass(frozen=True)
class Found:
    """A finding and its pictures.

    Args:
        finding: what is said.
        pictures: the numbers of the pictures; those that belong together, such as two duplicates, side by side.
        remarks: of each entry of ``pictures``, what is particular to it; none where empty.
    """

    finding: Finding
    pictures: Sequence[tuple[int, ...]] = ()
    remarks: Sequence[str] = field(default=())


def found(
    code: str,
    severity: Severity,
    where: str,
    message: str,
    fix: str,
    *,
    pictures: Iterable[tuple[int, ...]] = (),
    numbers: Mapping[str, float] | None = None,
    remarks: Sequence[str] = (),
) -> Found:
    """Return a Found; its numbers begin with how many entries it has."""
    entries = list(pictures)
    counted = {"count": float(len(entries))} if entries else {}
    return Found(Finding(code, severity, where, message, counted | dict(numbers or {}), fix), entries, remarks)


def counted(number: int, what: str = "picture") -> str:
    """Return ``"1 picture"`` or ``"1,234 pictures"``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
