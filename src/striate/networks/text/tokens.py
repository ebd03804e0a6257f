"""A network text cut into words, sizes, numbers and marks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from striate.networks.text.mistakes import NetworkTextError, Span

Kind = Literal["word", "size", "number", "repeat", "mark", "newline", "end"]

# A size such as 5x5 is one token, and so is 3x before a parenthesis; a number has a sign, point or exponent.
_TOKEN = re.compile(
    r"""(?P<space> [ \t\r]+ | \#[^\n]* )
    | (?P<newline> \n )
    | (?P<repeat> \d+x (?=\s*\() )
    | (?P<number> [-+]? (?: \d+\.\d* | \.\d+ ) (?:e[-+]?\d+)? | [-+]\d+ (?:e[-+]?\d+)? | \d+e[-+]?\d+ )
    | (?P<size> \d+ (?:[x×]\d+)* )
    | (?P<word> [A-Za-z_]\w* )
    | (?P<mark> [|;:()@] )""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True)
class Token:
    """One token: its kind, its text, its place."""

    kind: Kind
    text: str
    span: Span


def tokens(source: str) -> Iterator[Token]:
    """Yield the tokens of a text without spaces and comments, then one of kind ``"end"``.

    Raises:
        NetworkTextError: a character that no token begins with.
    """
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            span = Span(position, position + 1)
            sentence = f"the character {source[position]!r} has no meaning in a network text."
            raise NetworkTextError(source, span, sentence, 'Remove it, or write "#" before a comment.')
        position = match.end()
        if match.lastgroup != "space":
            yield Token(cast("Kind", match.lastgroup), match.group(), Span(*match.span()))
    yield Token("end", "", Span(len(source), len(source)))
