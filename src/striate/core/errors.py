"""The errors that a person can mend, and the words they are written in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_MOST_LISTED = 5


class StriateError(Exception):
    """Says in one sentence what must hold, what was received and the nearest fix.

    ``exit_status`` is what the command line ends with: 2 where the usage was wrong, 1 where a run or check failed.
    """

    exit_status = 2


class DataError(StriateError):
    """Pictures, labels or a data set that cannot be used."""


class NetworkError(StriateError):
    """A network that cannot be built, or does not fit its input."""


class RecipeError(StriateError):
    """A hyper-parameter out of its range, or several that contradict each other."""


class FileError(StriateError):
    """A file or folder that cannot be read or written."""


class TrainingError(StriateError):
    """A run that had to stop, with its last good state saved."""

    exit_status = 1


def expect(value: object, kind: type | tuple[type, ...], error: type[StriateError], must: str) -> None:
    """Refuse a value that is of another kind: what ``must`` says, such as ``"x must be a Spec"``, and what it is."""
    if not isinstance(value, kind):
        raise error(f"{must}, got {type(value).__name__}.")


def reason(error: Exception) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]


def suggest(word: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice nearest to ``word``, or ``""`` where none is near."""
    by_letters = {_letters(choice): choice for choice in choices}
    near = difflib.get_close_matches(_letters(word), list(by_letters), n=1, cutoff=0.6)
    return f" Did you mean {by_letters[near[0]]!r}?" if near else ""


def listed(names: Sequence[str]) -> str:
    """Return names as an error gives them: ``'a', 'b'``, the first five at most."""
    return first_of(list(map(repr, names)))


def first_of(words: Sequence[str], most: int = _MOST_LISTED) -> str:
    """Return the first words, and how many more there are: ``a, b and 3 more``."""
    rest = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + rest


def first_lines(sentences: Sequence[str], most: int = _MOST_LISTED) -> str:
    """Return the first sentences, a line each, and how many more there are."""
    rest = [f"… and {len(sentences) - most:,} more"] if len(sentences) > most else []
    return "\n".join(f"  {line}" for line in [*sentences[:most], *rest])


def _letters(word: str) -> str:
    return "".join(character for character in word.lower() if character.isalnum())
