"""What the operations of a graph are to the advice: layers with weights, windows, norms, linear operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from striate.networks.graph import Graph, Node
from striate.networks.shapes import Window, same_padding

NORMS = frozenset(["batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"])
_VIEWS = ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze")
RESHAPES = frozenset([*_VIEWS, "permute", "transpose", "contiguous", "clone"])
IDENTITIES = RESHAPES | frozenset(["dropout", "feature_dropout", "alpha_dropout", "alias", "detach", "to", "_to_copy"])


def weight_layers(graph: Graph, network: nn.Module) -> tuple[Node, ...]:
    """Return the convolutions and matrix products whose weights are parameters, frozen ones included.

    A filter that is a buffer (blur pooling) is no weight layer; one that a module computes from its own parameters
    (LeNet-5's connection table) is.
    """
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    buffers = {name for name, _ in network.named_buffers(remove_duplicate=False)}
    learning = {path for path, module in network.named_modules() if any(True for _ in module.parameters(recurse=False))}

    def has_weights(node: Node) -> bool:
        weight = weight_name(node)
        if weight is None:
            return False
        return weight in parameters or (weight not in buffers and node.module in learning)

    return tuple(node for node in graph.nodes if has_weights(node))


def weight_name(node: Node) -> str | None:
    """Return the name of the weight of a convolution or matrix product; None for every other operation."""
    if node.operation.startswith("conv") or node.operation in ("linear", "Linear"):
        return node.constants.get("weight")
    if node.operation in ("matmul", "mm"):
        return node.constants.get("other") or node.constants.get("mat2")
    return None


def weight_shape(node: Node, graph: Graph) -> tuple[int, ...]:
    """Return the shape of a layer's weight, such as (outputs, inputs, 3, 3); empty where that is not known."""
    return graph.constants.get(weight_name(node) or "", ())


def is_convolution(node: Node) -> bool:
    """Whether a window of weights is moved over a map."""
    return node.operation.startswith("conv") and "transpose" not in node.operation


def is_pool(node: Node) -> bool:
    """Whether a window without weights is moved over a map."""
    return node.operation.startswith(("max_pool", "avg_pool"))


def sliding(node: Node, graph: Graph) -> tuple[Window, ...]:
    """Return the window of a convolution or pool along each axis; empty for every other operation."""
    if is_convolution(node):
        kernel: Sequence[int] = weight_shape(node, graph)[2:]
    elif is_pool(node):
        kernel = _numbers(node, "kernel_size", int(node.operation[-2]), 1)  # max_pool2d
    else:
        return ()
    count = len(kernel)
    strides = _numbers(node, "stride", count, 1) if is_convolution(node) else _numbers(node, "stride", count, 0)
    strides = [stride or size for stride, size in zip(strides, kernel, strict=True)]
    dilations, ceil = _numbers(node, "dilation", count, 1), bool(node.options.get("ceil_mode"))
    sizes = graph[node.inputs[0]].shape[-count:] if count else ()
    return tuple(
        Window(k, s, *padding, d, ceil)
        for k, s, d, padding in zip(kernel, strides, dilations, _paddings(node, kernel, dilations, sizes), strict=True)
    )


def _paddings(
    node: Node, kernel: Sequence[int], dilations: Sequence[int], sizes: Sequence[int]
) -> list[tuple[int, int]]:
    """Return (before, after) along each axis."""
    words = node.options.get("padding")
    if words == "same":
        return [same_padding(n, d * (k - 1) + 1, 1) for n, k, d in zip(sizes, kernel, dilations, strict=True)]
    if words == "valid":
        return [(0, 0)] * len(kernel)
    return [(pad, pad) for pad in _numbers(node, "padding", len(kernel), 0)]


def _numbers(node: Node, option: str, count: int, default: int) -> list[int]:
    """Return an option that is one number or one per axis."""
    value = node.options.get(option)
    given = [int(value)] if isinstance(value, int) else [int(one) for one in value or ()]
    return given * count if len(given) == 1 else given or [default] * count


def where(node: Node) -> str:
    """Return the path of the layer that a node is; the operation's name where it is no layer."""
    return node.module or node.operation


def times(sizes: Iterable[int]) -> str:
    """Return sizes in words, such as 3×3."""
    return "×".join(map(str, sizes))
