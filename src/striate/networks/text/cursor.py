"""Reading tokens one after the other, and saying what should have stood there."""

from __future__ import annotations

from typing import NoReturn, final

from striate.networks.text.mistakes import NetworkTextError, Span
from striate.networks.text.tokens import Token, tokens
from striate.networks.text.tree import Size

LIMIT = 1_000_000
"""No number in a text is larger: a slip of the finger must not become a week of memory allocation."""


@final
class Cursor:
    """A position in the tokens of a source text."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._tokens = list(tokens(source))
        self._position = 0

    @property
    def token(self) -> Token:
        """The next token, not yet taken."""
        return self._tokens[self._position]

    @property
    def after(self) -> Token:
        """The one behind it."""
        return self._tokens[min(self._position + 1, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Return the next token and move behind it."""
        token = self.token
        self._position = min(self._position + 1, len(self._tokens) - 1)
        return token

    def take_mark(self, mark: str) -> bool:
        """Move behind ``mark`` if it comes next, and say whether it did."""
        found = self.token.kind == "mark" and self.token.text == mark
        if found:
            self.take()
        return found

    def skip_newlines(self) -> None:
        """Move behind all line ends that come next."""
        while self.token.kind == "newline":
            self.take()

    def since(self, start: Token) -> Span:
        """From ``start`` to the last token taken."""
        last = self._tokens[max(0, self._position - 1)]
        return Span(start.span.start, max(start.span.end, last.span.end))

    def fail(self, span: Span, sentence: str, fix: str = "") -> NoReturn:
        """Raise the error of this text."""
        raise NetworkTextError(self.source, span, sentence, fix)

    def expected(self, what: str, fix: str = "") -> NoReturn:
        """Fail at the next token, which is not ``what`` must stand there."""
        self.fail(self.token.span, f"{what} must stand here, not {self._described()}.", fix)

    def integer(self, what: str, least: int = 1) -> int:
        """Take one whole number."""
        token = self.token
        if token.kind != "size" or not token.text.isdigit():
            self.fail(
                token.span,
                f"{what} must be a whole number, not {self._described()}.",
                f'Try "{max(least, 2)}".',
            )
        self.take()
        return self._bounded(token, token.text, what, least)

    def size(self, what: str, least: int = 1) -> Size:
        """Take a size such as ``3`` or ``3x5``."""
        token = self.token
        if token.kind != "size":
            self.fail(token.span, f"{what} must be a size such as 3 or 3x5, not {self._described()}.", 'Try "3".')
        self.take()
        return tuple(self._bounded(token, part, what, least) for part in token.text.replace("×", "x").split("x"))

    def number(self, what: str, least: float = -LIMIT, most: float = LIMIT) -> float:
        """Take a number that may have a sign, a point and an exponent."""
        token = self.token
        if token.kind not in ("size", "number") or not token.text.isascii() or "x" in token.text:
            self.fail(token.span, f"{what} must be a number, not {self._described()}.")
        self.take()
        value = float(token.text)
        if not least <= value <= most:
            self.fail(token.span, f"{what} must lie from {least:g} to {most:g}, not {_short(token.text)}.")
        return value

    def _bounded(self, token: Token, digits: str, what: str, least: int) -> int:
        digits = digits.lstrip("0") or "0"
        if len(digits) > len(str(LIMIT)) or int(digits) > LIMIT:
            self.fail(
                token.span,
                f"{what} must be at most {LIMIT:,}, not {_short(digits)}.",
                "Write a smaller number.",
            )
        if int(digits) < least:
            self.fail(token.span, f"{what} must be at least {least}, not {digits}.", f'Try "{least}".')
        return int(digits)

    def _described(self) -> str:
        names = {"end": "the end of the text", "newline": "the end of the line"}
        return names.get(self.token.kind, repr(_short(self.token.text)))


def _short(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:27]}…"
