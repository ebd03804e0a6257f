"""The grammar of one layer: convolutions, pools, fully connected layers, and the suffixes behind them.

conv       = ( "conv" | "conv1d" | "conv3d" ) count [ "@" size ] { geometry | suffix }   size: 3x3
geometry   = "stride" size | "pad" ( size | "same" | "valid" )
           | "padmode" ( "zeros" | "mirror" | "nearest" | "wrap" | "constant" number )
           | "dilation" size | "groups" ( integer | "depthwise" ) | "nobias"
pool       = ( "maxpool" | "avgpool" | "sumpool" | "l2pool" | "medianpool" | "blurpool" ) size
             { "stride" size | "pad" size | "ceil" }
           | ( "gap" | "gmp" ) | "adaptive" ( "avg" | "max" ) size
fc         = "fc" count { suffix | "nobias" }
suffix     = "bn" | "lrn" | "dropout" number | activation              applied in the order written
activation = "relu" | "leaky" [number] | "prelu" | "elu" | "selu" | "gelu" | "silu" | "sigmoid" | "tanh"
           | "scaledtanh" | "softplus" | "maxout" integer | "softmax"
size       = integer { "x" integer }                                   one integer means all axes alike
"""

from __future__ import annotations

from typing import Literal, cast, final

from striate.core.errors import suggest
from striate.networks.layers import KERNELS
from striate.networks.text.cursor import Cursor
from striate.networks.text.mistakes import Span
from striate.networks.text.tokens import Token
from striate.networks.text.tree import (
    AdaptivePool,
    Convolution,
    Fixed,
    Flatten,
    FullyConnected,
    GlobalPool,
    Layer,
    PadMode,
    Place,
    Pool,
    Size,
    Suffix,
    Suffixes,
)

AXES = {"conv": 2, "conv1d": 1, "conv3d": 3}
POOLS = ("maxpool", "avgpool", "sumpool", "l2pool", "medianpool", "blurpool")
ACTIVATIONS = (
    *("relu", "leaky", "prelu", "elu", "selu", "gelu", "silu", "softplus", "maxout"),
    *("sigmoid", "tanh", "scaledtanh", "softmax"),
)
SUFFIXES = ("bn", "lrn", "dropout", *ACTIVATIONS)
GEOMETRY = ("stride", "pad", "padmode", "dilation", "groups", "nobias")
PAD_MODES = ("zeros", "mirror", "nearest", "wrap", "constant")

WORDS_FIRST = (*AXES, *POOLS, "gap", "gmp", "adaptive", "fc", "flatten", "fixed", *SUFFIXES)
"""What a layer may begin with."""

WORDS_AFTER = (*GEOMETRY, "ceil", *SUFFIXES)
"""What may follow within one."""


def layer(cursor: Cursor) -> Layer:
    """Take one layer; the next token is one of ``WORDS_FIRST``."""
    word = cursor.token.text
    if word in AXES:
        return _convolution(cursor)
    if word in POOLS:
        return _pool(cursor)
    if word in SUFFIXES:
        return _suffix(cursor)
    if word == "fc":
        return _fully_connected(cursor)
    start = cursor.take()
    if word == "adaptive":
        kind = _choice(cursor, ("avg", "max"))
        return AdaptivePool(kind, _shortest(cursor.size("the output size")), place=Place(cursor.since(start)))
    if word == "fixed":
        return Fixed(_choice(cursor, tuple(KERNELS)), place=Place(cursor.since(start)))
    place = Place(start.span)
    return Flatten(place=place) if word == "flatten" else GlobalPool(word, place=place)


def suffixes(cursor: Cursor) -> Suffixes:
    """Take all suffixes that come next."""
    taken = []
    while cursor.token.text in SUFFIXES:
        taken.append(_suffix(cursor))
    return tuple(taken)


def _convolution(cursor: Cursor) -> Convolution:
    start = cursor.take()
    axes = AXES[start.text]
    parts = {"filters": cursor.token.span}
    filters = cursor.integer("the number of filters")
    kernel: Size = (3,) * axes
    if cursor.take_mark("@"):
        parts["kernel"] = cursor.token.span
        kernel = _axes(cursor, "the filter size", axes)
    read = _Geometry(axes)
    taken: list[Suffix] = []
    while (token := cursor.token).text in (*GEOMETRY, *SUFFIXES):
        if token.text in SUFFIXES:
            taken.append(_suffix(cursor))
        else:
            _once(cursor, parts)
            read.take(cursor)
            parts[token.text] = cursor.since(token)
    return Convolution(
        filters, kernel, read.stride, read.padding, read.dilation, read.padmode, read.padvalue, read.groups,
        read.bias, tuple(taken), place=Place(cursor.since(start), parts),
    )  # fmt: skip


@final
class _Geometry:
    """What the geometry words of a convolution have said so far."""

    def __init__(self, axes: int) -> None:
        self.axes = axes
        self.stride: Size = (1,) * axes
        self.padding: Size | Literal["same"] = (0,) * axes
        self.dilation: Size = (1,) * axes
        self.padmode: PadMode = "zeros"
        self.padvalue = 0.0
        self.groups: int | Literal["depthwise"] = 1
        self.bias = True

    def take(self, cursor: Cursor) -> None:
        """Take one geometry word with its value."""
        match cursor.take().text:
            case "stride":
                self.stride = _axes(cursor, "the stride", self.axes)
            case "pad":
                self.padding = self._padding(cursor)
            case "padmode":
                self.padmode = cast("PadMode", _choice(cursor, PAD_MODES))
                if self.padmode == "constant":
                    self.padvalue = cursor.number("the number to pad with")
            case "dilation":
                self.dilation = _axes(cursor, "the dilation", self.axes)
            case "groups":
                depthwise = cursor.token.text == "depthwise" and bool(cursor.take())
                self.groups = "depthwise" if depthwise else cursor.integer('the number of groups, or "depthwise"')
            case _:
                self.bias = False

    def _padding(self, cursor: Cursor) -> Size | Literal["same"]:
        if cursor.token.kind == "word":
            return "same" if _choice(cursor, ("same", "valid")) == "same" else (0,) * self.axes
        return _axes(cursor, 'the padding, or "same" or "valid",', self.axes, least=0)


def _pool(cursor: Cursor) -> Pool:
    start = cursor.take()
    parts = {"size": cursor.token.span}
    size = _shortest(cursor.size("the size of the window"))
    sizes: dict[str, Size] = {}
    ceil = False
    while (token := cursor.token).text in ("stride", "pad", "ceil"):
        _once(cursor, parts)
        cursor.take()
        if token.text == "ceil":
            ceil = True
        else:
            least = 1 if token.text == "stride" else 0
            sizes[token.text] = _shortest(cursor.size(f"the {token.text}", least))
        parts[token.text] = cursor.since(token)
    stride, padding = sizes.get("stride"), sizes.get("pad")
    return Pool(
        start.text,
        size,
        stride=None if stride == size else stride,
        padding=None if padding == (0,) else padding,
        ceil=ceil,
        place=Place(cursor.since(start), parts),
    )


def _fully_connected(cursor: Cursor) -> FullyConnected:
    start = cursor.take()
    parts = {"features": cursor.token.span}
    features = cursor.integer("the number of features")
    taken: list[Suffix] = []
    while (token := cursor.token).text in ("nobias", *SUFFIXES):
        if token.text == "nobias":
            _once(cursor, parts)
            parts["nobias"] = cursor.take().span
        else:
            taken.append(_suffix(cursor))
    return FullyConnected(features, "nobias" not in parts, tuple(taken), place=Place(cursor.since(start), parts))


def _suffix(cursor: Cursor) -> Suffix:
    start = cursor.take()
    value: float | None = None
    if start.text == "dropout":
        value = cursor.number("the probability to drop (such as 0.5)", 0, 0.999)
    elif start.text == "maxout":
        value = cursor.integer("the number of channels per maximum")
    elif start.text == "leaky" and cursor.token.kind in ("number", "size"):
        value = cursor.number("the slope below 0 (such as 0.01)", 0, 1)
    return Suffix(start.text, value, place=Place(cursor.since(start)))


def _axes(cursor: Cursor, what: str, axes: int, least: int = 1) -> Size:
    """Take a size and give it one number per axis."""
    token = cursor.token
    size = cursor.size(what, least)
    if len(size) not in (1, axes):
        like = "x".join(str(size[0]) for _ in range(axes))
        count = "one number" if axes == 1 else f"one or {axes} numbers"
        cursor.fail(token.span, f"{what} must have {count} here, not {len(size)}.", f'Try "{like}".')
    return size * axes if len(size) == 1 else size


def _shortest(size: Size) -> Size:
    return size[:1] if len(set(size)) == 1 else size


def _choice(cursor: Cursor, choices: tuple[str, ...]) -> str:
    token = cursor.token
    if token.text not in choices:
        near = suggest(token.text, choices).strip() if token.kind == "word" else ""
        cursor.expected(f"one of {', '.join(choices)}", near)
    return cursor.take().text


def _once(cursor: Cursor, parts: dict[str, Span]) -> None:
    """Fail where the next word was written before."""
    token: Token = cursor.token
    if token.text in parts:
        cursor.fail(token.span, f"{token.text!r} is written twice for one layer.", "Remove one of them.")
