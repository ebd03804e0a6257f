"""A structural twin of a traced network, to measure what its units really see.

The same operations on one channel, in float64: pooling takes means, activations and norms hand on what they get,
filters are all ones over their number. Every path then carries a positive weight, so that the gradient of a unit with
respect to the picture is not 0 exactly where the unit sees it.
"""

from __future__ import annotations

import operator
import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from striate.networks import contract

HANDED_ON = {
    *("relu", "relu6", "hardtanh", "clamp", "clamp_min", "tanh", "sigmoid", "silu", "gelu", "softmax", "log_softmax"),
    *("batch_norm", "dropout", "mul", "div", "pow", "square", "sqrt", "neg", "abs", "sign", "sub", "rsub"),
}
JOINED = {"add", "mul", "sub", "maximum", "div"}


class Twin(fx.Interpreter):
    """Runs an exported program as its twin and keeps the output of every operation."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__(program.graph_module)
        self.values: dict[str, Any] = {}
        self._shapes = {node.name: node.meta.get("val") for node in program.graph.nodes}

    def run_node(self, n: fx.Node) -> Any:
        value = self._value(n)
        self.values[n.name] = value
        return value

    def _value(self, node: fx.Node) -> Any:
        if node.op != "call_function":
            return super().run_node(node)
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        module = [kind for _, kind in node.meta.get("nn_module_stack", {}).values()][-1:]
        if node.target is operator.getitem and isinstance(args[0], Tensor):
            return args[0]
        if node.target is operator.getitem:
            return args[0][args[1]]
        if module == ["torch.nn.modules.normalization.LocalResponseNorm"]:
            return args[0]  # it looks at other channels, of which the twin has none
        if not any(isinstance(value, Tensor) and value.requires_grad for value in _flat(args)):
            return super().run_node(node)  # a constant, on the meta device
        name = str(node.target.__name__).partition(".")[0].rstrip("_")  # type: ignore[union-attr]
        return self._run(name, list(args), kwargs)

    def _run(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        x = args[0]
        rest = args[1:]
        if name == "conv2d":
            size = rest[0].shape[2:]
            tail = [*rest[2:], *[[1, 1], [0, 0], [1, 1]][len(rest[2:]) :]][:3]
            ones = torch.ones(1, 1, *size, dtype=torch.float64) / (size[0] * size[1])
            return F.conv2d(x, ones, None, *tail)
        if name in ("max_pool2d", "avg_pool2d"):
            return _mean_pool(x, name, rest)
        if name in ("adaptive_avg_pool2d", "adaptive_max_pool2d"):
            return F.adaptive_avg_pool2d(x, rest[0])
        if name == "pad":
            return F.pad(x, rest[0]) if not any(rest[0][4:]) else F.pad(x, rest[0][:4])
        if name == "cat":
            return sum(x) / len(x)
        if name == "linear":
            return x.mean(-1, keepdim=True)
        if name in JOINED and rest and isinstance(rest[0], Tensor) and rest[0].requires_grad:
            return (x + rest[0]) / 2
        if name in HANDED_ON | JOINED:
            return x
        if name in ("flatten", "mean", "sum", "unsqueeze"):
            return getattr(torch.ops.aten, name)(x, *rest, **kwargs)
        if name in ("view", "reshape"):
            return x.flatten(1)
        if name == "slice":
            return _cut(x, *rest)
        raise NotImplementedError(name)


def _flat(args: tuple[Any, ...]) -> list[Any]:
    return [one for value in args for one in (value if isinstance(value, list | tuple) else [value])]


def _cut(x: Tensor, dimension: int, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    return x if dimension == 1 else x[(slice(None),) * dimension + (slice(start, end, step),)]


def _mean_pool(x: Tensor, name: str, rest: list[Any]) -> Tensor:
    kernel, stride, padding = rest[0], (rest[1] if len(rest) > 1 else rest[0]) or rest[0], [0, 0]
    if len(rest) > 2:
        padding = rest[2]
    ceil = bool(
        (rest[4] if len(rest) > 4 else False) if name == "max_pool2d" else (rest[3] if len(rest) > 3 else False)
    )
    return F.avg_pool2d(x, kernel, stride, padding, ceil_mode=ceil)


def run_twin(network: nn.Module, channels: int, side: int) -> tuple[Tensor, dict[str, Any]]:
    """Return the twin's picture (1, 1, H, W), which wants a gradient, and the output of every operation by name."""
    device = next(network.parameters()).device
    with contract.evaluating(network), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (torch.zeros(2, channels, side, side, device=device),), strict=False)
    twin = Twin(program)
    picture = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    constants = [
        torch.empty(node.meta["val"].shape, device="meta") if isinstance(node.meta.get("val"), Tensor) else None
        for node in program.graph.nodes
        if node.op == "placeholder"
    ]
    twin.run(*constants[:-1], picture)
    return picture, twin.values


def seen(picture: Tensor, output: Tensor, unit: tuple[int, int]) -> tuple[tuple[int, int], ...] | None:
    """Return the box around the pixels that a unit's gradient is not 0 at: (first, last) row and column."""
    (gradient,) = torch.autograd.grad(output[0, 0, unit[0], unit[1]], picture, retain_graph=True)
    return box_around(gradient)


def box_around(gradient: Tensor) -> tuple[tuple[int, int], ...] | None:
    """Return first and last row and column where a gradient (1, C, H, W) is not 0; None where it is 0 everywhere."""
    places = gradient[0].abs().sum(0).nonzero()
    if not len(places):
        return None
    return tuple(zip(places.amin(0).tolist(), places.amax(0).tolist(), strict=True))
