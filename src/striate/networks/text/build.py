"""From a network text to a PyTorch module."""

from __future__ import annotations

from collections import OrderedDict
from typing import final

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.core.finding import Finding
from striate.networks import layers
from striate.networks.shapes import Shape
from striate.networks.text import modules
from striate.networks.text.fitting import suffix_shape
from striate.networks.text.grammar import parse
from striate.networks.text.initialise import Weighted, arriving, first_activation, following, initialise
from striate.networks.text.mistakes import Misfit, NetworkTextError
from striate.networks.text.plan import Planner, Step
from striate.networks.text.tree import (
    Add,
    Concat,
    Convolution,
    FullyConnected,
    NetworkText,
    Pool,
    Repeat,
    Suffix,
    Suffixes,
)


@final
class TextNetwork(nn.Module):
    """A network written as text: (N, *input_shape) → whatever its last layer leaves, (N, K) for a classifier.

    Made by ``build_text``. Its modules are PyTorch's own wherever PyTorch has them. State-dict names are
    ``body``, the stage's name and the module's within it: ``body.conv1.conv.weight``, ``body.conv1.bn.bias``.

    Attributes:
        text: the canonical text, from which it can be built again.
        input_shape: of one picture, such as (C, H, W).
        body: the stages one after the other.
        findings: warnings made while building.
    """

    def __init__(self, text: str, input_shape: Shape, body: nn.Sequential, findings: tuple[Finding, ...]) -> None:
        super().__init__()
        self.text = text
        self.input_shape = input_shape
        self.body = body
        self.findings = findings

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Name → module, in order: the item's label, else its kind and a running number."""
        return dict(self.body.named_children())

    @property
    def head(self) -> nn.Module | None:
        """The last convolution or fully connected layer, or None where there is none."""
        weighted = [module for module in self.modules() if isinstance(module, Weighted)]
        return weighted[-1] if weighted else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, *input_shape)."""
        out: Tensor = self.body(x)
        return out


def build_text(text: str | NetworkText, shape: Shape) -> TextNetwork:
    """Build the network of a text for one shape of input.

    All shapes are worked out before anything is allocated, and under ``torch.device("meta")`` nothing is.
    Weights are drawn as ``initialise`` says, from PyTorch's global generator.

    Args:
        text: the text, or what ``parse`` made of it.
        shape: of one picture without its N: (C, H, W), (C, L), (C, D, H, W), or (F,) where it is flat.

    Raises:
        NetworkTextError: the text is wrong, or does not fit the shape.
        NetworkError: the shape is none.
    """
    if not 1 <= len(shape) <= 4 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise NetworkError(f"A shape must be 1 to 4 positive integers such as (3, 32, 32), not {shape!r}.")
    network = parse(text) if isinstance(text, str) else text
    if not network.source:
        network = parse(str(network))  # made by hand: give its nodes their places
    planner = Planner()
    try:
        steps = planner.whole(network, shape)
    except Misfit as misfit:
        raise NetworkTextError(network.source, misfit.span, misfit.sentence, misfit.fix) from None
    return TextNetwork(str(network), shape, _sequence(steps, None), planner.findings)


def _sequence(steps: tuple[Step, ...], after: Suffix | None) -> nn.Sequential:
    """Stages one after the other; ``after`` is the activation that follows the last of them."""
    stages = ((step.name, _stage(step, met)) for step, met in zip(steps, following(steps, after), strict=True))
    return nn.Sequential(OrderedDict(stages))


def _stage(step: Step, after: Suffix | None) -> nn.Module:
    match step.layer:
        case Repeat():
            return _copies(step, after)
        case Add(suffixes=suffixes) | Concat(suffixes=suffixes):
            return _branches(step, suffixes, first_activation(suffixes, after))
        case Convolution() as layer:
            named = modules.convolution(layer, step.before)
            return _with_suffixes(named, layer.suffixes, layer.filters, step, after)
        case FullyConnected() as layer:
            return _with_suffixes(_fully_connected(layer, step.before), layer.suffixes, layer.features, step, after)
        case Pool() as layer:
            return modules.pool(layer, step.before)
        case Suffix() as layer:
            return modules.suffix(layer, step.before)
        case layer:
            return modules.plain(layer, step.before)


def _with_suffixes(
    named: dict[str, nn.Module], suffixes: Suffixes, channels: int, step: Step, after: Suffix | None
) -> nn.Sequential:
    """A weighted layer and its suffixes, the weights drawn for the activation that follows."""
    weighted = next(module for module in named.values() if isinstance(module, Weighted))
    initialise(weighted, first_activation(suffixes, after))
    return nn.Sequential(OrderedDict(_add_suffixes(named, suffixes, (channels, *step.after[1:]))))


def _add_suffixes(named: dict[str, nn.Module], suffixes: Suffixes, shape: Shape) -> dict[str, nn.Module]:
    """``named`` and then its suffixes, each named after its word: ``relu``, ``relu2`` the second time."""
    named = dict(named)
    for suffix in suffixes:
        times = sum(name.rstrip("0123456789") == suffix.name for name in named)
        named[f"{suffix.name}{times + 1}" if times else suffix.name] = modules.suffix(suffix, shape)
        shape = suffix_shape(suffix, shape)
    return named


def _fully_connected(layer: FullyConnected, shape: Shape) -> dict[str, nn.Module]:
    """``fc``, and ``flatten`` before it where maps arrive."""
    inputs = int(torch.Size(shape).numel())
    linear = nn.Linear(inputs, layer.features, bias=layer.bias)
    return {"fc": linear} if len(shape) == 1 else {"flatten": nn.Flatten(), "fc": linear}


def _copies(step: Step, after: Suffix | None) -> nn.Sequential:
    """Independent copies of a repeat, one after the other."""
    followed: list[Suffix | None] = []
    for copy in reversed(step.branches):  # what follows one copy is the beginning of the next
        followed.append(after)
        after = arriving(copy, after)
    copies = zip(step.branches, reversed(followed), strict=True)
    return nn.Sequential(*(_sequence(copy, met) for copy, met in copies))


def _branches(step: Step, suffixes: Suffixes, after: Suffix | None) -> nn.Module:
    """A sum or a concatenation, and its suffixes."""
    branches = [_sequence(branch, after) for branch in step.branches]
    if isinstance(step.layer, Concat):
        joined: nn.Module = layers.Concat(branches)
        shape = (sum(branch[-1].after[0] for branch in step.branches), *step.after[1:])
    else:
        shortcut = branches[1] if len(branches) > 1 else _projection(step, after)
        joined = layers.Residual(branches[0], shortcut)
        shape = step.branches[0][-1].after
    name = "concat" if isinstance(step.layer, Concat) else "add"
    return nn.Sequential(OrderedDict(_add_suffixes({name: joined}, suffixes, shape))) if suffixes else joined


def _projection(step: Step, after: Suffix | None) -> nn.Module | None:
    """The strided 1×1 shortcut (He et al. 2015, eq. 2), without bias; None for the identity."""
    stride = step.projection
    if stride is None:
        return None
    channels, filters = step.before[0], step.branches[0][-1].after[0]
    layer: Weighted = nn.Linear(channels, filters, bias=False)
    if stride:
        layer = modules.CONV[len(stride)](channels, filters, 1, stride, bias=False)
    initialise(layer, after)
    return layer
