"""A window that stops before the end of its input: the warning, and the fixes computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from striate.networks.shapes import Window, slide

Windows = Sequence[Window]

_FARTHEST = 64  # fixes farther away are not worth the search

_AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


@dataclass(frozen=True)
class Lost:
    """What no window reaches: a sentence, the fix, the numbers."""

    sentence: str
    fix: str
    numbers: dict[str, float]


def lost_pixels(over: Windows, sizes: Sequence[int], noun: str, *, can_hang_over: bool) -> Lost | None:
    """Return what to say of windows that leave real pixels at the end unseen, or None where they leave none.

    Where the stride is longer than the window, pixels are skipped everywhere on purpose: the last ones count
    only where they are more than those between two windows.

    Args:
        over: the windows, one per axis.
        sizes: of the input, one per axis.
        noun: what the window is called: ``"filter"`` or ``"window"``.
        can_hang_over: whether the layer offers ``ceil``.
    """
    lost = [_missed(window, size) for window, size in zip(over, sizes, strict=True)]
    if not any(lost):
        return None
    axis = next(axis for axis, count in enumerate(lost) if count)
    window = over[axis]
    extents, strides = _times([w.extent for w in over]), _same([w.stride for w in over])
    sentence = (
        f"a {extents} {noun} moved by {strides} over {_times(sizes)} stops at "
        f"{_formula(window, sizes[axis])} = {window.exact(sizes[axis]):.2f}: {_unseen(lost)} never seen."
    )
    fixes = [f'"{words}" ({_times(slide(w, sizes))})' for words, w in _fixes(over, sizes, can_hang_over)]
    names = (f"lost_{name}s" for name in _AXES[len(lost)])
    numbers: dict[str, float] = dict(zip(names, lost, strict=True))
    return Lost(sentence, f"Try {', or '.join(fixes)}.", numbers)


def _missed(window: Window, size: int) -> int:
    lost = window.lost(size)
    return lost if lost > max(0, window.stride - window.extent) else 0


def _fixes(over: Windows, sizes: Sequence[int], can_hang_over: bool) -> Iterator[tuple[str, Windows]]:
    """The two nearest changes: hang over the end, or pad; and a shorter stride."""
    if can_hang_over:
        yield "ceil", [replace(window, ceil=True) for window in over]
    elif padded := _padded(over, sizes):
        yield f"pad {padded[0].before}", padded
    slower = _slower(over, sizes)
    yield f"stride {_same([window.stride for window in slower]).replace('×', 'x')}", slower


def _padded(over: Windows, sizes: Sequence[int]) -> Windows | None:
    """The least padding that makes the outputs whole, else the least that loses nothing."""
    least = max(window.before for window in over) + 1
    most = min(least + _FARTHEST, min(window.extent for window in over))
    wider = [[replace(window, before=pad, after=pad) for window in over] for pad in range(least, most)]
    whole = (fixed for fixed in wider if not any(w.room(n) % w.stride for w, n in zip(fixed, sizes, strict=True)))
    return next(whole, None) or next((fixed for fixed in wider if _covers(fixed, sizes)), None)


def _slower(over: Windows, sizes: Sequence[int]) -> Windows:
    """The longest shorter stride that loses nothing; 1 never does."""
    fastest = max(window.stride for window in over) - 1
    for stride in (*range(fastest, max(1, fastest - _FARTHEST), -1), 1):
        fixed = [replace(window, stride=min(window.stride, stride)) for window in over]
        if _covers(fixed, sizes):
            break
    return fixed


def _covers(over: Windows, sizes: Sequence[int]) -> bool:
    return not any(_missed(window, size) for window, size in zip(over, sizes, strict=True))


def _formula(window: Window, size: int) -> str:
    padding = window.before + window.after
    added = f" + {padding}" if padding else ""
    return f"({size}{added} − {window.extent})/{window.stride} + 1"


def _unseen(lost: Sequence[int]) -> str:
    """Such as: the last 2 rows and columns are."""
    named = [(count, name) for count, name in zip(lost, _AXES[len(lost)], strict=True) if count]
    counts = {count for count, _ in named}
    if len(counts) == 1:
        together = " and ".join(_plural(count, name) for count, name in named)
        return f"the last {_number(counts.pop())}{together} {'is' if named == [(1, named[0][1])] else 'are'}"
    return " and ".join(f"the last {_number(count)}{_plural(count, name)}" for count, name in named) + " are"


def _number(count: int) -> str:
    return f"{count} " if count > 1 else ""


def _plural(count: int, name: str) -> str:
    return f"{name}s" if count > 1 else name


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _same(sizes: Sequence[int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else _times(sizes)
