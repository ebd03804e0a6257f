"""The registry of the zoo: what `build` looks names up in and `striate models` lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from striate.core.errors import NetworkError
from striate.core.registry import Registry
from striate.core.spec import Spec


@dataclass(frozen=True)
class ZooEntry:
    """One network of the zoo.

    Args:
        factory: called with ``shape`` (C, H, W), ``classes`` K and the network's own options by keyword.
        year: of the paper.
        title: what it is, in a few words.
        paper: authors, title, venue.
        shape: (C, H, W) that the paper used.
        classes: K that the paper used.
    """

    factory: Callable[..., nn.Module]
    year: int
    title: str
    paper: str
    shape: tuple[int, int, int]
    classes: int

    @property
    def spec(self) -> Spec:
        """The pictures that the paper used, not normalised."""
        return Spec.of(self.shape, self.classes)


ZOO: Registry[ZooEntry] = Registry("network", "striate models", NetworkError)


def enter(
    name: str, *, year: int, title: str, paper: str, shape: tuple[int, int, int], classes: int
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Return a decorator that enters a factory into the zoo and leaves it as it is."""

    def add(factory: Callable[..., nn.Module]) -> Callable[..., Any]:
        ZOO.add(name)(ZooEntry(factory, year, title, paper, shape, classes))
        return factory

    return add
