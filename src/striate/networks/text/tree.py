"""A network text as a tree; ``str`` of every node is its canonical text.

Equality ignores where a node was written, and sizes are kept with one number per axis where the layer's name
says how many there are, so that ``conv 8@3`` and ``conv 8@3x3`` are equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

from striate.networks.text.mistakes import NOWHERE, Span

Size = tuple[int, ...]
PadMode = Literal["zeros", "mirror", "nearest", "wrap", "constant"]


@final
@dataclass(frozen=True)
class Place:
    """Where a node stands in its source, and where its parts do."""

    whole: Span = NOWHERE
    parts: Mapping[str, Span] = field(default_factory=dict)

    def of(self, *names: str) -> Span:
        """The place of the first of these parts that was written, else of the whole."""
        return next((self.parts[name] for name in names if name in self.parts), self.whole)


@dataclass(frozen=True, kw_only=True)
class Node(ABC):
    """What all nodes share: a place, which does not count when two are compared."""

    place: Place = field(default_factory=Place, compare=False, repr=False)

    @abstractmethod
    def __str__(self) -> str:
        """The canonical text."""


@final
@dataclass(frozen=True)
class Suffix(Node):
    """Applied after a layer, or alone: ``bn``, ``lrn``, ``dropout`` or an activation, with its number."""

    name: str
    value: float | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name} {number_text(self.value)}"


Suffixes = tuple[Suffix, ...]


@final
@dataclass(frozen=True)
class Convolution(Node):
    """``conv``, ``conv1d`` or ``conv3d``; all sizes have one number per axis."""

    filters: int
    kernel: Size
    stride: Size
    padding: Size | Literal["same"]
    dilation: Size
    padmode: PadMode = "zeros"
    padvalue: float = 0.0
    groups: int | Literal["depthwise"] = 1
    bias: bool = True
    suffixes: Suffixes = ()

    def __str__(self) -> str:
        axes = len(self.kernel)
        words = [
            {1: "conv1d", 2: "conv", 3: "conv3d"}[axes],
            f"{self.filters}@{'x'.join(map(str, self.kernel))}",
        ]
        if self.stride != (1,) * axes:
            words.append(f"stride {size_text(self.stride)}")
        if self.padding == "same":
            words.append("pad same")
        elif self.padding != (0,) * axes:
            words.append(f"pad {size_text(self.padding)}")
        if self.padmode == "constant":
            words.append(f"padmode constant {number_text(self.padvalue)}")
        elif self.padmode != "zeros":
            words.append(f"padmode {self.padmode}")
        if self.dilation != (1,) * axes:
            words.append(f"dilation {size_text(self.dilation)}")
        if self.groups != 1:
            words.append(f"groups {self.groups}")
        if not self.bias:
            words.append("nobias")
        return " ".join([*words, *map(str, self.suffixes)])


@final
@dataclass(frozen=True)
class Pool(Node):
    """A sliding pool such as ``maxpool 3 stride 2``; the stride defaults to the size."""

    kind: str
    size: Size
    stride: Size | None = None
    padding: Size | None = None
    ceil: bool = False

    def __str__(self) -> str:
        words = [self.kind, size_text(self.size)]
        if self.stride is not None:
            words.append(f"stride {size_text(self.stride)}")
        if self.padding is not None:
            words.append(f"pad {size_text(self.padding)}")
        return " ".join([*words, "ceil"] if self.ceil else words)


@final
@dataclass(frozen=True)
class GlobalPool(Node):
    """``gap`` or ``gmp``: one number per map, flat."""

    kind: str

    def __str__(self) -> str:
        return self.kind


@final
@dataclass(frozen=True)
class AdaptivePool(Node):
    """``adaptive avg 7x7``: an output of fixed size."""

    kind: str
    size: Size

    def __str__(self) -> str:
        return f"adaptive {self.kind} {size_text(self.size)}"


@final
@dataclass(frozen=True)
class FullyConnected(Node):
    """``fc 84 tanh``; what is not flat is flattened first."""

    features: int
    bias: bool = True
    suffixes: Suffixes = ()

    def __str__(self) -> str:
        words = [f"fc {self.features}", *([] if self.bias else ["nobias"])]
        return " ".join([*words, *map(str, self.suffixes)])


@final
@dataclass(frozen=True)
class Flatten(Node):
    """``flatten``: (C, H, W) → (C · H · W,)."""

    def __str__(self) -> str:
        return "flatten"


@final
@dataclass(frozen=True)
class Fixed(Node):
    """``fixed sobel``: a hand-made kernel on every channel."""

    kernel: str

    def __str__(self) -> str:
        return f"fixed {self.kernel}"


@final
@dataclass(frozen=True)
class Repeat(Node):
    """``3x( … )``: independent copies, one after the other."""

    times: int
    body: NetworkText

    def __str__(self) -> str:
        return f"{self.times}x({self.body})"


@final
@dataclass(frozen=True)
class Add(Node):
    """``add( body ; shortcut )``; without a shortcut the identity, or a strided 1×1 projection."""

    body: NetworkText
    shortcut: NetworkText | None = None
    suffixes: Suffixes = ()

    def __str__(self) -> str:
        branches = str(self.body) if self.shortcut is None else f"{self.body} ; {self.shortcut}"
        return " ".join([f"add({branches})", *map(str, self.suffixes)])


@final
@dataclass(frozen=True)
class Concat(Node):
    """``concat( a ; b ; c )``: branches side by side along the channels."""

    branches: tuple[NetworkText, ...]
    suffixes: Suffixes = ()

    def __str__(self) -> str:
        return " ".join([f"concat({' ; '.join(map(str, self.branches))})", *map(str, self.suffixes)])


Layer: TypeAlias = (
    Convolution | Pool | GlobalPool | AdaptivePool | FullyConnected | Flatten | Fixed | Suffix | Repeat | Add | Concat
)


@final
@dataclass(frozen=True)
class Item(Node):
    """A layer with its label, if it has one."""

    layer: Layer
    label: str | None = None

    def __str__(self) -> str:
        return str(self.layer) if self.label is None else f"{self.label}: {self.layer}"


@final
@dataclass(frozen=True)
class NetworkText:
    """Items one after the other. ``source`` is the text that their places refer to; branches have none."""

    items: tuple[Item, ...]
    source: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        return " | ".join(map(str, self.items))


def size_text(size: Size) -> str:
    """``2`` where all axes agree, else ``2x1``."""
    return str(size[0]) if len(set(size)) == 1 else "x".join(map(str, size))


def number_text(number: float) -> str:
    """The shortest text that reads as the same number."""
    return str(int(number)) if number == int(number) else repr(float(number))
