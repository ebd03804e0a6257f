"""A graph folded to what a person draws: layers with their norms and activations, and how branches part and join.

First, operations become layers: a convolution, a pooling or a fully connected layer takes its norm, activation and
dropout with it, before or after. Then the layers become series and branches in parallel: what every path goes through
is in series; what lies between two such layers is in parallel, each part again a series (series-parallel graphs,
Valdes, Tarjan & Lawler 1982). Where paths cross, the layers are kept in order and their connections are not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from striate.networks.graph import PICTURE, Graph, Node

Role = Literal["picture", "convolution", "pooling", "fully connected", "other", "join"]

_POOLINGS = ("max_pool", "avg_pool", "adaptive_", "lp_pool", "fractional_max", "MaxPool", "AvgPool", "Adaptive")
_REDUCTIONS = ("mean", "amax", "sum", "logsumexp")
_FULLY = ("linear", "Linear", "addmm")
_OTHERS = ("upsample", "pixel_shuffle", "grid_sampler", "Upsample")
_RESHAPES = ("flatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "contiguous", "Flatten")
_NORMS = ("norm", "Norm")


@dataclass(frozen=True)
class Layer:
    """Operations that are drawn as one.

    Args:
        name: that of its last node.
        role: decides how it is drawn.
        inputs: names of the layers that it takes, in order.
        main: the node that says what it is; None where only norms, activations and the like are left.
        before, after: the nodes around the main one, or around a join's sign, by calls of modules.
        shape: (C, H, W) or (K,) of its output, reshaping left out.
    """

    name: str
    role: Role
    inputs: tuple[str, ...]
    main: Node | None
    shape: tuple[int, ...]
    before: tuple[tuple[Node, ...], ...] = ()
    after: tuple[tuple[Node, ...], ...] = ()

    @property
    def nodes(self) -> Iterator[Node]:
        """In order."""
        for call in self.before:
            yield from call
        if self.main is not None:
            yield self.main
        for call in self.after:
            yield from call

    @property
    def module(self) -> str:
        """The path of the module that says what it is."""
        nodes = [self.main] if self.main else list(self.nodes)
        return nodes[0].module


@dataclass(frozen=True)
class Branching:
    """Series in parallel, an empty one handing on what comes in; ``join`` is None where an outer join takes them."""

    branches: tuple[tuple[Part, ...], ...]
    join: Layer | None


@dataclass(frozen=True)
class Crossing:
    """Layers whose connections are not series and parallel, or not known."""

    layers: tuple[Layer, ...]


Part = Layer | Branching | Crossing


def fold(graph: Graph) -> tuple[Part, ...]:
    """Return a network as a series of layers and branchings, the picture first."""
    layers, owner = _layers(graph)
    first, rest = layers[0], layers[1:]
    if not graph.traced:
        return (first, Crossing(tuple(rest))) if rest else (first,)
    return (first, *_series(first.name, rest, tuple(owner.get(name, name) for name in graph.outputs)))


def layers_of(parts: Sequence[Part]) -> Iterator[Layer]:
    """Yield every layer, joins included."""
    for part in parts:
        if isinstance(part, Layer):
            yield part
        elif isinstance(part, Crossing):
            yield from part.layers
        else:
            for branch in part.branches:
                yield from layers_of(branch)
            if part.join is not None:
                yield part.join


# Operations to layers


@dataclass(frozen=True)
class _Call:
    """The nodes of one call of a leaf module, or one operation."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]

    @property
    def last(self) -> Node:
        return self.nodes[-1]


def _layers(graph: Graph) -> tuple[list[Layer], dict[str, str]]:
    """Return the layers of a graph, and the last node of each call → the layer that it went into."""
    calls = _without_lists(_calls(graph))
    users = dict.fromkeys(graph.outputs, 1)
    for call in calls:
        for name in call.inputs:
            users[name] = users.get(name, 0) + 1
    layers: dict[str, Layer] = {}
    owner: dict[str, str] = {}
    for call in calls:
        made = _layer(call, graph)
        made = replace(made, inputs=tuple(dict.fromkeys(owner[name] for name in made.inputs)))
        source = layers[made.inputs[0]] if len(made.inputs) == 1 else None
        if source is not None and users[call.inputs[0]] == 1 and source.role != "picture":
            together = _together(source, made)
            if together is not None:
                del layers[source.name]
                owner = {last: made.name if name == source.name else name for last, name in owner.items()}
                made = together
        layers[made.name] = made
        owner[call.last.name] = made.name
    return list(layers.values()), owner


def _together(source: Layer, made: Layer) -> Layer | None:
    """Return both as one layer, or None where they are two."""
    name = made.name
    if made.main is None and made.role == "other":  # norms, activations, dropout, reshapes
        loose = source.main is None and source.role == "other"
        if loose or made.shape == source.shape:
            if source.role == "join" and any(n.operation.endswith(_NORMS) for n in made.nodes):
                return None  # a norm after a join belongs to what follows it
            shape = made.shape if loose else source.shape
            return replace(source, name=name, shape=shape, after=source.after + made.after)
        return None
    if source.main is None and source.role == "other" and made.role != "join":
        return replace(made, inputs=source.inputs, before=source.after + made.before)
    return None


def _layer(call: _Call, graph: Graph) -> Layer:
    """Return a call as a layer of its own."""
    last = call.last
    shape = _shape(call, graph)
    role = _role(call, graph)
    if role == "picture":
        return Layer(last.name, role, (), last, last.shape[1:])
    if role == "join":
        return Layer(last.name, role, call.inputs, last, shape)
    mains = [node for node in call.nodes if role != "other" and _node_role(node, graph) == role]
    if mains:
        at = call.nodes.index(mains[0])
        rest = tuple((node,) for node in call.nodes[at + 1 :])
        return Layer(last.name, role, call.inputs, mains[0], shape, tuple((n,) for n in call.nodes[:at]), rest)
    if role == "other" and last.operation.startswith(_OTHERS):
        return Layer(last.name, role, call.inputs, last, shape)
    return Layer(last.name, "other", call.inputs, None, shape, (), (call.nodes,))


def _shape(call: _Call, graph: Graph) -> tuple[int, ...]:
    """Return the shape of the output; where it is only reshaped, that of what was reshaped."""
    node = call.last
    while node.operation.startswith(_RESHAPES) and node.inputs:
        before = graph[node.inputs[0]]
        if len(before.shape) < len(node.shape) or math.prod(before.shape) != math.prod(node.shape):
            break
        node = before
    return node.shape[1:]


def _role(call: _Call, graph: Graph) -> Role:
    if call.last.operation == PICTURE:
        return "picture"
    if len(call.inputs) > 1:
        return "join"
    if len(call.nodes) == 1:
        return _node_role(call.last, graph)
    roles = [_node_role(node, graph) for node in call.nodes]
    for role in ("convolution", "fully connected", "pooling"):
        if role in roles and not any(len(set(node.inputs)) > 1 for node in call.nodes):
            return role
    return "other"


def _node_role(node: Node, graph: Graph) -> Role:
    operation = node.operation
    if operation.startswith(("conv", "Conv")):
        return "convolution"
    if operation in _FULLY or (operation in ("matmul", "mm") and node.constants):
        return "fully connected"
    if operation.startswith(_POOLINGS) or "Pool" in operation:
        return "pooling"
    if operation in _REDUCTIONS and node.inputs:
        before = graph[node.inputs[0]].shape
        wide = (
            (len(before) > 3 or operation in ("mean", "amax"))
            and len(before) > 2
            and before[1] == (node.shape[1] if len(node.shape) > 1 else 0)
        )
        return "pooling" if wide and math.prod(node.shape) < math.prod(before) else "other"
    return "other"


def _calls(graph: Graph) -> list[_Call]:
    """Return the calls of a graph: of a leaf module where what it does has one input, one output and one main node."""
    inner = {node.module for node in graph.nodes}
    parents = {path[: at + 1].rstrip(".") for path in inner for at, sign in enumerate(path) if sign == "."}
    nodes = list(graph.nodes)
    calls, at = [], 0
    while at < len(nodes):
        module = nodes[at].module
        end = at + 1
        if graph.traced and module and module not in parents:
            while end < len(nodes) and nodes[end].module == module:
                end += 1
        run = nodes[at:end]
        whole = _as_one(run, graph) if len(run) > 1 else None
        calls += [whole] if whole else [_Call((node,), tuple(dict.fromkeys(node.inputs))) for node in run]
        at = end
    return calls


def _as_one(run: Sequence[Node], graph: Graph) -> _Call | None:
    names = {node.name for node in run}
    inputs = tuple(dict.fromkeys(name for node in run for name in node.inputs if name not in names))
    used = [n for n in run[:-1] if any(u.name not in names for u in graph.users[n.name]) or n.name in graph.outputs]
    mains = [n for n in run if _node_role(n, graph) in ("convolution", "fully connected")]
    return _Call(tuple(run), inputs) if len(inputs) == 1 and not used and len(mains) <= 1 else None


def _without_lists(calls: list[_Call]) -> list[_Call]:
    """Let each concatenation take an earlier one where it begins with the same tensors, as dense blocks do.

    A dense block may be written [x], [x, a], [x, a, b] …; then every layer crosses every other, though
    [[x, a], b] is the same. A concatenation of one tensor is that tensor.
    """
    flat: dict[tuple[str, ...], str] = {}
    same: dict[str, str] = {}
    found = []
    for call in calls:
        inputs = tuple(same.get(name, name) for name in call.inputs)
        if call.last.operation == "cat" and len(inputs) == 1:
            same[call.last.name] = inputs[0]
            continue
        if call.last.operation == "cat":
            all_of_it = inputs
            for length in range(len(inputs) - 1, 1, -1):
                if inputs[:length] in flat:
                    inputs = (flat[inputs[:length]], *inputs[length:])
                    break
            flat.setdefault(all_of_it, call.last.name)
        found.append(replace(call, inputs=inputs))
    return found


# Layers to series and branches


def _series(start: str, region: Sequence[Layer], leaving: Sequence[str]) -> list[Part]:
    """Return what lies after ``start`` as a series.

    Args:
        region: the layers after ``start``, in order.
        leaving: the layers whose outputs are used outside, in that order; some may be of other regions.
    """
    cuts = _cuts(start, region, leaving)
    parts: list[Part] = []
    between: list[Layer] = []
    for layer in region:
        if layer.name not in cuts:
            between.append(layer)
            continue
        if between or len(layer.inputs) > 1:
            parts.append(_parallel(start, between, layer, layer.inputs))
        else:
            parts.append(layer)
        start, between = layer.name, []
    if between:
        parts.append(_parallel(start, between, None, leaving))
    return parts


def _cuts(start: str, region: Sequence[Layer], leaving: Sequence[str]) -> set[str]:
    """Return the layers that every path from the start goes through: those that no edge jumps over."""
    place = {start: 0} | {layer.name: index for index, layer in enumerate(region, 1)}
    reach = [0] * len(place)  # how far the edges that leave each place go
    for layer in region:
        for name in layer.inputs:
            if name in place:
                reach[place[name]] = max(reach[place[name]], place[layer.name])
    for name in leaving:
        if place.get(name):
            reach[place[name]] = len(place)
    furthest, cuts = reach[0], set()
    for index, layer in enumerate(region, 1):
        if furthest <= index:
            cuts.add(layer.name)
        furthest = max(furthest, reach[index])
    return cuts


def _parallel(start: str, between: Sequence[Layer], join: Layer | None, wanted: Sequence[str]) -> Part:
    """Return the branches from ``start`` to a join that takes the ``wanted`` layers."""
    groups = _connected(between)
    direct = start in wanted
    if len(groups) == 1 and not direct:
        return Crossing((*between, *([join] if join else [])))
    order = {name: index for index, name in enumerate(wanted)}
    branches: list[tuple[int, tuple[Part, ...]]] = [(order[start], ())] if direct else []
    for layers in groups:
        place = min((order[layer.name] for layer in layers if layer.name in order), default=len(order))
        branches.append((place, tuple(_series(start, layers, wanted))))
    branches.sort(key=lambda branch: branch[0])
    return Branching(tuple(parts for _, parts in branches), join)


def _connected(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Return the groups of layers that feed each other, each in order."""
    leader = {layer.name: layer.name for layer in layers}
    for layer in layers:
        for name in layer.inputs:
            if name in leader:
                old, new = leader[layer.name], leader[name]
                leader = {one: new if head == old else head for one, head in leader.items()}
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(leader[layer.name], []).append(layer)
    return list(groups.values())
