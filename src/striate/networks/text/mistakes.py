"""How a mistake in a network text is shown: its line, a caret span exactly under it, a sentence, a fix."""

from __future__ import annotations

from dataclasses import dataclass

from striate.core.errors import NetworkError
from striate.core.finding import Finding

_WIDEST_LINE = 100  # a longer line is cut around the mistake


@dataclass(frozen=True)
class Span:
    """Characters start … end − 1 of a text."""

    start: int
    end: int


NOWHERE = Span(0, 0)
"""The place of a node that was made by hand."""


class NetworkTextError(NetworkError):
    """A network text that cannot be read, or that does not fit its input.

    Args:
        source: the whole text.
        span: where in it the mistake is.
        sentence: what must hold and what was received.
        fix: what to write instead; empty where nothing can be proposed.
    """

    def __init__(self, source: str, span: Span, sentence: str, fix: str = "") -> None:
        super().__init__(underlined(source, span, sentence, fix))
        self.span = span
        self.sentence = sentence
        self.fix = fix


class Misfit(Exception):  # noqa: N818 - never leaves this package
    """A layer that does not fit where it stands; ``build_text`` makes a NetworkTextError of it."""

    def __init__(self, span: Span, sentence: str, fix: str) -> None:
        super().__init__(sentence)
        self.span = span
        self.sentence = sentence
        self.fix = fix


def underlined(source: str, span: Span, sentence: str, fix: str = "") -> str:
    """Return the line that ``span`` lies in, carets under it and the sentence beside them."""
    line_start = source.rfind("\n", 0, span.start) + 1
    line_end = source.find("\n", span.start)
    line = source[line_start : line_end if line_end >= 0 else len(source)]
    column = span.start - line_start
    carets = max(1, min(span.end, line_start + len(line)) - span.start)
    cut = max(0, column - _WIDEST_LINE // 2) if len(line) > _WIDEST_LINE else 0
    shown, column = line[cut : cut + _WIDEST_LINE], column - cut
    carets = min(carets, max(1, len(shown) - column))
    plain = "".join(character if character.isprintable() else " " for character in shown)
    margin = " " * (column + carets + 1)
    report = f"{plain}\n{' ' * column}{'^' * carets} {sentence}"
    return f"{report}\n{margin}{fix}" if fix else report


def underlined_finding(source: str, finding: Finding) -> str:
    """Return a finding of ``build_text`` with carets under its place in ``source``."""
    span = Span(int(finding.numbers["start"]), int(finding.numbers["end"]))
    return underlined(source, span, finding.message, finding.fix)
