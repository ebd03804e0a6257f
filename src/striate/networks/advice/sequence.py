"""Advice on what follows what: plain depth, biases before norms, layers without a non-linearity, a second softmax."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from striate.core.finding import Finding
from striate.networks.advice.layers import IDENTITIES, NORMS, is_convolution, weight_name, weight_shape, where
from striate.networks.graph import Graph, Node

_DOZEN = 12
_SEVERAL = "?"  # more than one layer leads to a node

# They keep the scale of what passes, as a norm does; LocalResponseNorm is a module of several operations.
_NORMALISING = NORMS | {"selu"}

_MOVES = ("slice", "select", "narrow", "pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d")
_SIZES = ("mean", "sum", "pixel_shuffle", "pixel_unshuffle", "upsample_nearest2d", "upsample_bilinear2d")
_MEANS = [f"{kind}avg_pool{axes}d" for kind in ("", "adaptive_") for axes in (1, 2, 3)]
_LINEAR = IDENTITIES | (NORMS - {"layer_norm", "rms_norm"}) | frozenset([*_MOVES, *_SIZES, *_MEANS, "neg"])
_JOINS = frozenset(["add", "sub", "cat", "concat", "concatenate", "stack"])
_SCALES = frozenset(["mul", "div", "add", "sub", "rsub"])

_OWN = {"cross_entropy": "softmax", "focal": "softmax", "bce": "sigmoid"}


def plain_depth(graph: Graph, layers: Sequence[Node]) -> Iterator[Finding]:
    """Yield ``deep-and-plain``: more than a dozen layers with weights in a row and none of what makes depth trainable.

    A row ends where ways meet (sums, concatenations, gates) and at a norm; SELU and local response normalisation
    count as norms. Plain networks of that depth start only from careful weights (Simonyan & Zisserman, ICLR 2015,
    section 3.1, had to start from shallower ones), and deeper ones get worse (He et al., CVPR 2016, figure 1).
    """
    weighted = {node.name for node in layers}
    last: dict[str, str] = {}  # name of a node → the layer before it; a norm in between makes it ""
    rows: dict[str, list[Node]] = {}  # name of a layer → the row that it ends
    continued: set[str] = set()
    for node in graph.nodes:
        before = {last[name] for name in node.inputs}
        last[node.name] = before.pop() if len(before) == 1 else _SEVERAL if before else ""
        if node.operation in _NORMALISING or node.kind == "LocalResponseNorm":
            last[node.name] = ""
        if node.name in weighted:
            rows[node.name] = [*rows.get(last[node.name], []), node]
            continued.add(last[node.name])
            last[node.name] = node.name
    for name, row in rows.items():
        if name not in continued and len(row) > _DOZEN:
            message = (
                f"From {where(row[0])} to {where(row[-1])}, {len(row)} layers with weights follow one another without "
                "a skip connection or a norm: gradients shrink or grow on the way, and training is slow to start."
            )
            fix = "Put batch norm after each convolution, or add skip connections."
            yield Finding("deep-and-plain", "warning", where(row[0]), message, {"layers": len(row)}, fix)


def needless_biases(graph: Graph, layers: Sequence[Node]) -> Iterator[Finding]:
    """Yield ``bias-before-norm``, once for the network: the mean that the norm takes away contains the bias."""
    found = [node for node in layers if "bias" in node.constants and _goes_to_norm(node, graph)]
    if not found:
        return
    count = sum(math.prod(graph.constants[node.constants["bias"]]) for node in found)
    others = f" and {len(found) - 1} more layer{'s' * (len(found) > 2)} have" if len(found) > 1 else " has"
    message = (
        f"{where(found[0])}{others} a bias right before batch norm, which takes it away again and adds its "
        f"own: {count:,} parameters do nothing."
    )
    fix = 'Leave them out: bias=False ("nobias" in a network\'s text).'
    yield Finding("bias-before-norm", "note", where(found[0]), message, {"layers": len(found), "biases": count}, fix)


def _goes_to_norm(node: Node, graph: Graph) -> bool:
    users = graph.users[node.name]
    return bool(users) and all(user.operation == "batch_norm" for user in users)


def missing_non_linearities(graph: Graph, layers: Sequence[Node]) -> Iterator[Finding]:
    """Yield ``no-non-linearity``: a layer whose input is linear in the outputs of other layers, so both are one.

    Linear are batch norm (in evaluation), average pooling, padding, dropout, reshaping and multiplication by
    constants. Group and instance norm count as linear: they do no more than scale whole maps by what a picture needs.
    Layer norm does not, which transformers and ConvNeXt have in place of an activation.
    A sum or concatenation is linear where all that is joined is; where one part is not (a residual stream), what
    follows cannot be merged with a layer before it. Two pairs are meant to be linear and are left alone: a depthwise
    convolution with a pointwise one (Chollet, Xception, CVPR 2017, section 4.7, found a non-linearity between them
    harmful), and a 1×1 or fully connected layer to fewer channels than before it and after the next, a linear
    bottleneck (Sandler et al., MobileNetV2, CVPR 2018, section 3.2). Both need fewer weights than the layer that
    they amount to.
    """
    weighted = {node.name for node in layers}
    linear: dict[str, frozenset[str]] = {}  # name of a node → the layers that it is a linear function of
    for node in graph.nodes:
        behind = [linear[name] for name in node.inputs]
        linear[node.name] = frozenset().union(*behind) if _is_linear(node) and all(behind) else frozenset()
        if node.name not in weighted:
            continue
        linear[node.name] = frozenset({node.name})
        if behind and behind[0]:
            before = [one for one in layers if one.name in behind[0] and not _is_factor(one, node, graph)]
            yield from [_missing(node, before)] if before else []


def _is_linear(node: Node) -> bool:
    if len(node.inputs) == 1:
        is_scale = node.operation in _SCALES and not (node.operation == "div" and "self" in node.constants)
        return node.operation in _LINEAR | _JOINS or is_scale or weight_name(node) is not None
    return node.operation in _JOINS


def _is_factor(one: Node, two: Node, graph: Graph) -> bool:
    """Whether two layers in a row are a layer deliberately taken apart."""
    first, second = weight_shape(one, graph), weight_shape(two, graph)
    if not (first and second):
        return False
    pointwise = [math.prod(weight[2:]) == 1 for weight in (first, second)]
    depthwise = [_is_depthwise(node, graph) for node in (one, two)]
    if (depthwise[0] and pointwise[1]) or (pointwise[0] and depthwise[1]):
        return True
    return len(first) == len(second) and pointwise[0] and first[0] < min(first[1], second[0])


def _is_depthwise(node: Node, graph: Graph) -> bool:
    return is_convolution(node) and int(node.options.get("groups", 1)) > 1 and weight_shape(node, graph)[1] == 1


def _missing(node: Node, before: Sequence[Node]) -> Finding:
    names = " and ".join(where(one) for one in before[:2]) + (" and others" if len(before) > 2 else "")
    message = (
        f"Between {names} and {where(node)} everything is linear, so that together they can do no more than one "
        "layer could."
    )
    fix = "Put an activation between them, such as ReLU, or leave one of them out."
    return Finding("no-non-linearity", "warning", where(node), message, {"layers": len(before) + 1}, fix)


def second_softmax(graph: Graph, loss: str) -> Iterator[Finding]:
    """Yield ``softmax-before-loss``: the network ends in what the loss applies itself.

    Twice normalised, a sure answer is at most e times as likely as any other, and gradients shrink with it. A softmax
    whose logarithm is taken does no harm: the softmax of that is the same.
    """
    for name in graph.outputs:
        node = graph[name]
        while node.operation in IDENTITIES | {"clamp"} and len(node.inputs) == 1:
            node = graph[node.inputs[0]]
        if node.operation == _OWN.get(loss):
            message = (
                f"The network ends in {node.operation}, and the loss ({loss.replace('_', '-')}) applies its own: it "
                "needs logits. Applied twice, it flattens the answers, and the network hardly learns."
            )
            fix = f"Let the network return what goes into {where(node)}."
            yield Finding("softmax-before-loss", "warning", where(node), message, {}, fix)
