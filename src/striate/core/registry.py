"""Registry: things by name, with a suggestion where the name is misspelt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from striate.core.errors import StriateError, suggest

T = TypeVar("T")


class Registry(Generic[T]):
    """A closed set of named things of one kind.

    Args:
        kind: what one of them is called in an error, such as ``"network"``.
        lists_all: the command that prints all names.
        error: the error raised for an unknown name.
    """

    def __init__(self, kind: str, lists_all: str, error: type[StriateError]) -> None:
        self._kind = kind
        self._lists_all = lists_all
        self._error = error
        self._entries: dict[str, T] = {}

    def add(self, name: str) -> Callable[[T], T]:
        """Return a decorator that enters what it decorates under ``name``; a second entry is a ValueError."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"There is already a {self._kind} named {name!r}.")
            self._entries[name] = entry
            return entry

        return enter

    def get(self, name: str) -> T:
        """Return the entry, or raise the registry's error with the nearest name."""
        if name not in self._entries:
            near = suggest(name, self._entries)
            raise self._error(f"No {self._kind} named {name!r}.{near} `{self._lists_all}` lists all.")
        return self._entries[name]

    def names(self) -> list[str]:
        """Return all names in the order in which they were added."""
        return list(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)
