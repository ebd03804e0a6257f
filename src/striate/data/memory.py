"""Whether pictures fit into memory, asked before any is read."""

from __future__ import annotations

import math

from striate.core import machine
from striate.core.errors import DataError
from striate.core.spec import InputSpec


def check_memory(pictures: int, spec: InputSpec, which: str, fix: str, *, needed: int | None = None) -> None:
    """Refuse more pictures than the system's memory takes as uint8 (N, C, H, W).

    Args:
        which: what is said of the pictures, such as ``of mnist``.
        fix: what to do about it, a sentence.
        needed: their bytes, where they are kept larger besides.

    Raises:
        DataError: they take more than is free.
    """
    needed = needed or pictures * math.prod(spec.shape)
    free = machine.available_system_memory()
    if needed > free:
        raise DataError(
            f"The {pictures:,} pictures {which} take {machine.in_words(needed)} "
            f"at {spec.height}×{spec.width}; {machine.in_words(free)} of memory are free. {fix}"
        )
