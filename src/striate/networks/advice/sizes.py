"""Advice on sizes: one layer with most of the parameters, units that see little of the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import nn

from striate.core.finding import Finding
from striate.networks import contract
from striate.networks.advice.layers import RESHAPES, times, weight_name, weight_shape, where
from striate.networks.geometry import Geometry
from striate.networks.graph import PICTURE, Graph, Node

_POOLS = ("adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "max_pool")
_REDUCTIONS = frozenset(["mean", "sum", "amax", "max", "logsumexp"])


def heavy_layer(graph: Graph, network: nn.Module) -> Iterator[Finding]:
    """Yield ``one-heavy-layer``: a fully connected layer with more than half of the parameters.

    Its inputs are all places of a map of features, so that the mean of each map would need fewer weights (Lin et al.,
    Network in Network, ICLR 2014, section 3.2). A convolution as large as its map is such a layer: LeNet-5's C5 is
    called one by its authors. Not meant are networks without convolutions, which have no maps to average, and layers
    behind a global pool, which is the fix itself. Auxiliary heads are not counted. Works on an observed graph too.
    """
    total = _parameters(network) - sum(map(_parameters, contract.auxiliary_heads_of(network)))
    earlier: list[Node] = []
    for node in graph.nodes:
        own = sum(math.prod(graph.constants.get(name, (0,))) for name in node.constants.values())
        source = _flattened(node, graph, earlier)
        if source and 2 * own > total and any(one.operation.lower().startswith("conv") for one in earlier):
            yield _heavy(node, source, own, total, weight_shape(node, graph))
        earlier.append(node)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _flattened(node: Node, graph: Graph, earlier: list[Node]) -> Node | None:
    """Return the map whose places are all inputs of a fully connected layer; None for every other layer."""
    weight = weight_shape(node, graph)
    if weight_name(node) is None or not weight:
        return None
    maps = (one for one in reversed(earlier) if len(one.shape) > 2)
    source = graph[node.inputs[0]] if node.inputs and len(weight) > 2 else next(maps, None)
    if source is None:
        return None
    places = math.prod(source.shape[2:])
    if places == 1:
        return None
    if len(weight) > 2:
        is_whole = weight[2:] == source.shape[2:] and math.prod(node.shape[2:]) == 1
        return source if is_whole else None
    return source if math.prod(source.shape[1:]) in weight else None


def _heavy(node: Node, source: Node, own: int, total: int, weight: tuple[int, ...]) -> Finding:
    disguise = ", a convolution as large as its input and so a fully connected layer" if len(weight) > 2 else ""
    places = math.prod(source.shape[2:])
    message = (
        f"{own:,} of the network's {total:,} parameters ({own / total:.0%}) are in {where(node)}{disguise}: "
        f"it has weights for each of the {times(source.shape[2:])} places of {source.shape[1]} maps."
    )
    fix = (
        'Average each map before it (global average pooling, "gap" in a network\'s text): '
        f"{math.prod(weight) // places:,} weights are left of {math.prod(weight):,}."
    )
    return Finding("one-heavy-layer", "warning", where(node), message, {"parameters": own, "total": total}, fix)


def small_field(geometry: Geometry) -> Iterator[Finding]:
    """Yield ``small-field``: before a global pool, no unit sees half of the picture's height or width.

    A global pool forgets where things are, so what is not put together before it never is: the network classifies by
    a bag of local features (Brendel & Bethge, Approximating CNNs with Bag-of-local-Features models works surprisingly
    well on ImageNet, ICLR 2019). How large the objects are is not known. Half of each side is a quarter of the
    picture: an object that fills more of it is seen whole by no unit, and pictures for classification are usually
    framed more tightly than that. The field is the theoretical one; the effective one is smaller. A network that
    flattens its maps into a fully connected layer sees everything there. Of several global pools, the one counts
    whose units see most.
    """
    graph = geometry.graph
    pools = [node for node in graph.nodes if _is_last_global_pool(node, graph)]
    picture = graph[PICTURE].shape[2:]
    seen = [(node, field.size) for node in pools if (field := geometry.receptive_field(_map_of(node, graph).name))]
    if not seen or len(seen) < len(pools):
        return
    pool, size = max(seen, key=lambda one: min(s / side for s, side in zip(one[1], picture, strict=True)))
    shares = [own / side for own, side in zip(size, picture, strict=True)]
    if min(shares) >= 1 / 2:
        return
    share = math.prod(min(1.0, one) for one in shares)
    message = (
        f"Before the global pool, a unit sees {times(size)} pixels of pictures of {times(picture)}, {share:.1%} of "
        "their area: no unit sees an object whole that fills more, and the pool forgets where its parts are."
    )
    numbers = {"field": min(size), "side": picture[shares.index(min(shares))], "share": share}
    fix = "Add layers, strides or pools before it, or dilate; or train on smaller pictures."
    yield Finding("small-field", "warning", where(pool), message, numbers, fix)


def _is_last_global_pool(node: Node, graph: Graph) -> bool:
    """Whether a node makes one place of many by taking their mean, sum or maximum, and no map comes after it."""
    if not node.inputs or not (node.operation in _REDUCTIONS or node.operation.startswith(_POOLS)):
        return False
    before = graph[node.inputs[0]]
    if math.prod(before.shape[2:]) == 1 or math.prod(node.shape[2:]) > 1:
        return False
    waiting, known = [node], {node.name}
    while waiting:
        for user in graph.users[waiting.pop().name]:
            if math.prod(user.shape[2:]) > 1:
                return False  # a gate (squeeze and excitation): what it pools is not all that goes on
            if user.name not in known:
                known.add(user.name)
                waiting.append(user)
    return True


def _map_of(node: Node, graph: Graph) -> Node:
    """Return the map that a pool takes, before its places are put in one row."""
    source = graph[node.inputs[0]]
    while source.operation in RESHAPES and source.inputs:
        source = graph[source.inputs[0]]
    return source
