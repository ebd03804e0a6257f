"""Grad-CAM: the last maps, weighted by how the class answers to each of them.

R. R. Selvaraju, M. Cogswell, A. Das, R. Vedantam, D. Parikh, D. Batra, "Grad-CAM: Visual Explanations from Deep
Networks via Gradient-based Localization", ICCV 2017, section 3: a map's weight is the mean of the class's gradient over
it; of the weighted sum what is positive is kept. The coarse map is laid over the picture where its units look: each
unit at the centre of its receptive field, linearly between them, as at the border beyond them. Where the receptive
fields are not known or not regular, the units are spread evenly instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.core.spec import Spec
from striate.inspection.record import modules_named, record
from striate.inspection.saliency.registry import METHODS, Method, at_once
from striate.networks.geometry import Geometry
from striate.networks.graph import Graph, Node, trace


@dataclass(frozen=True)
class Layer:
    """The maps that Grad-CAM reads.

    Args:
        path: of the module that returns them.
        size: of one map, units (height, width).
        rows, columns: the pixel at which each unit looks.
        placed: whether that is the centre of its receptive field; else the units are spread evenly.
    """

    path: str
    size: tuple[int, int]
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    placed: bool


def grad_cam(network: nn.Module, inputs: Tensor, targets: Tensor, *, layer: Layer | None = None) -> Tensor:
    """Return how much each place of the last maps speaks for the class, 0 where nothing does: (N, H, W).

    Args:
        network: in evaluation mode.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
        layer: see `find_layer`, which is asked where it is None.

    Raises:
        NetworkError: the network has no maps, or the class does not depend on them.
    """
    if layer is None:
        channels, rows, columns = inputs.shape[1:]
        layer = find_layer(network, trace(network, Spec.of((channels, rows, columns), 1)))
    coarse = torch.cat(
        [
            class_activation(network, part, wanted, layer.path)
            for part, wanted in zip(*(torch.split(one, at_once(inputs)) for one in (inputs, targets)), strict=True)
        ]
    )
    height, width = inputs.shape[-2:]
    return _along(layer.rows, height).to(coarse) @ coarse @ _along(layer.columns, width).to(coarse).T


def class_activation(network: nn.Module, inputs: Tensor, targets: Tensor, path: str) -> Tensor:
    """Return the map of Grad-CAM as coarse as the layer's: (N, h, w)."""
    recording = record(network, inputs, [path], gradient_of=lambda logits: logits.gather(1, targets[:, None]))
    if path not in recording.gradients:
        raise NetworkError(f"The logits must depend on the layer that Grad-CAM reads, and do not on {path!r}.")
    weights = recording.gradients[path].mean((2, 3), keepdim=True)
    return (weights * recording.activations[path]).sum(1).relu()


def find_layer(network: nn.Module, graph: Graph, name: str | None = None) -> Layer:
    """Return the layer whose maps Grad-CAM reads.

    It is the last one of a network with convolutions whose maps have more than one unit along each axis: nothing behind
    it knows a place, and nothing before it is nearer to the answer. Pooling is passed over, because what it pools is
    the same at a finer grain; and so is, where what feeds what is known, what other maps lead past, such as one branch
    of several. The maps are taken where a module returns them, so that they can be recorded.

    Args:
        graph: the trace of the network; one that was observed with hooks does, too.
        name: of a stage or the path of a module, to take this one.

    Raises:
        NetworkError: there is none, or the named one returns no maps.
    """
    if name is not None:
        return _placed(_named(network, graph, name), graph)
    first = next((at for at, node in enumerate(graph.nodes) if "conv" in node.operation.lower()), len(graph.nodes))
    maps = [
        node
        for node in graph.nodes[first:]
        if _has_extent(node) and "pool" not in node.operation.lower() and _is_returned(node, graph)
    ]
    alone = _passed_by_nothing(graph)
    found = next((node for node in reversed(maps) if node.name in alone), maps[-1] if maps else None)
    if found is None:
        others = ", ".join(f"{method!r}" for method in METHODS if method != "grad_cam")
        raise NetworkError(
            "Grad-CAM needs a module that returns convolved maps of more than one unit along each axis, and the "
            f"network has none at this size of pictures. These methods need none: {others}."
        )
    return _placed(found, graph)


def _named(network: nn.Module, graph: Graph, name: str) -> Node:
    module = modules_named(network, [name])[name]
    path = next(path for path, one in network.named_modules() if one is module)
    node = graph.last_of(path)
    if not _has_extent(node):
        shape = ", ".join(map(str, node.shape[1:]))
        raise NetworkError(
            f"Grad-CAM needs a layer with maps of more than one unit along each axis; {name!r} returns (N, {shape})."
        )
    return Node(node.name, node.operation, node.shape, module=path)


def _has_extent(node: Node) -> bool:
    return len(node.shape) == 4 and min(node.shape[2:]) > 1


def _is_returned(node: Node, graph: Graph) -> bool:
    """Whether this is what the module that it belongs to returns."""
    return bool(node.module) and graph.last_of(node.module) is node


def _passed_by_nothing(graph: Graph) -> set[str]:
    """Return the nodes that everything after them hangs on; all where what feeds what is not known."""
    if not graph.traced:
        return {node.name for node in graph.nodes}
    place = {node.name: at for at, node in enumerate(graph.nodes)}
    alone, reached = set(), 0  # the last place that takes what was made before
    for at, node in enumerate(graph.nodes):
        if reached <= at:
            alone.add(node.name)
        reached = max([reached, *(place[user.name] for user in graph.users[node.name])])
    return alone


def _placed(node: Node, graph: Graph) -> Layer:
    size = (node.shape[2], node.shape[3])
    picture = graph.nodes[0].shape[2:]
    field = Geometry(graph).receptive_field(node.name)
    if field is None or not field.regular or None in (*field.jump, *field.offset) or len(field.size) != 2:
        rows, columns = (
            tuple((unit + 0.5) * pixels / units - 0.5 for unit in range(units))
            for units, pixels in zip(size, picture, strict=True)
        )
        return Layer(node.module, size, rows, columns, placed=False)
    rows, columns = (
        tuple(float(offset or 0) + unit * float(jump or 0) + (extent - 1) / 2 for unit in range(units))
        for units, extent, jump, offset in zip(size, field.size, field.jump, field.offset, strict=True)
    )
    return Layer(node.module, size, rows, columns, placed=True)


def _along(centres: tuple[float, ...], pixels: int) -> Tensor:
    """Return the weight of each unit for each pixel along one axis: (pixels, units) float64; rows sum to 1."""
    places = torch.tensor(centres, dtype=torch.float64)
    pixel = torch.arange(pixels, dtype=torch.float64).clamp(places[0], places[-1])
    right = torch.searchsorted(places, pixel).clamp(1, len(places) - 1)
    left = right - 1
    share = (pixel - places[left]) / (places[right] - places[left])
    weights = torch.zeros(pixels, len(places), dtype=torch.float64)
    weights[torch.arange(pixels), left] = 1 - share
    weights[torch.arange(pixels), right] += share
    return weights


METHODS.add("grad_cam")(
    Method("Grad-CAM", grad_cam, "how much the last maps speak for the class at this place", "Selvaraju et al. 2017")
)
