"""Finding: what the audit of pictures, the advice on networks and the doctor of training all speak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing found, with its evidence and what to do about it.

    Args:
        code: a stable name in kebab-case, such as ``"lost-rows"``.
        severity: ``"note"``, ``"warning"`` or ``"error"``.
        where: the layer, step, file or class that it is about.
        message: one sentence.
        numbers: the evidence, by name.
        fix: what to change; empty where nothing needs to be.
    """

    code: str
    severity: Severity
    where: str
    message: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    fix: str = ""
