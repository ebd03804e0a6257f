"""Where units are: a layer by its name, how many units it has, and at which moment of a pass their values are read.

A unit is one channel of a layer's output, or one number of a fully connected layer's. Its value is read after the batch
normalisation and the rectification that follow the layer, where they do and nothing else takes its output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.inspection.record import modules_named, watching
from striate.inspection.subject import Subject
from striate.networks import contract
from striate.networks.graph import Graph, Node

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@final
@dataclass(frozen=True, eq=False)
class Site:
    """A layer whose units are looked at.

    Args:
        name: of the layer.
        watched: the module whose output is read: the layer, or the batch normalisation that follows it.
        rectified: whether a unit's value is what ReLU leaves of that output.
        node: of the graph, to which the units' receptive fields belong; None where it is not known.
        units: how many there are.
        sides: (H, W) of each unit's map; empty where a unit is one number.
        uses: how often the network uses the layer for one picture; the last time counts.
    """

    name: str
    watched: nn.Module
    rectified: bool
    node: str | None
    units: int
    sides: tuple[int, ...]
    uses: int


def sites_of(subject: Subject, where: str | Sequence[str] | None = None) -> dict[str, Site]:
    """Return layers by name.

    Args:
        where: names of stages or paths of modules; every convolution and fully connected layer where None.

    Raises:
        NetworkError: there is no such layer, the network does not use it, or it has no units.
    """
    names = _layers(subject) if where is None else [where] if isinstance(where, str) else list(where)
    modules = modules_named(subject.network, names)
    read = {name: _reading(subject, module) for name, module in modules.items()}
    shapes, uses = _seen(subject, {name: watched for name, (watched, _, _) in read.items()})
    sites = {}
    for name, (watched, rectified, node) in read.items():
        shape = shapes.get(name)
        if where is None and (shape is None or len(shape) not in (2, 4)):
            continue
        if shape is None:
            raise NetworkError(f"The layer {name!r} returned no tensor: the network does not use it when it answers.")
        if len(shape) not in (2, 4):
            raise NetworkError(
                f"The layer {name!r} returns {tuple(shape)}, which are neither maps (N, C, H, W) nor numbers (N, K). "
                "Name a convolution or a fully connected layer."
            )
        sites[name] = Site(name, watched, rectified, node, shape[1], tuple(shape[2:]), uses[name])
    return sites


def unit_of(subject: Subject, unit: str) -> tuple[Site, int]:
    """Return the layer and the number of a unit written as ``layer:channel``, such as ``conv3:17``.

    Raises:
        NetworkError: it is not written so, or there is no such layer or channel.
    """
    layer, colon, channel = unit.rpartition(":")
    if not colon or not channel.strip().isdecimal():
        raise NetworkError(f"A unit must be written as layer:channel, such as 'conv3:17', got {unit!r}.")
    site = sites_of(subject, layer)[layer]
    if int(channel) >= site.units:
        last = site.units - 1
        raise NetworkError(f"The layer {layer!r} has units 0 to {last}, so there is no {unit!r}. Try '{layer}:{last}'.")
    return site, int(channel)


def respond(network: nn.Module, site: Site, inputs: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what ``choose`` takes of a layer's output before rectification; the pass ends there.

    Args:
        inputs: (N, C, H, W) float, normalised.
        choose: called at once with (N, units, …): what follows in the network may work in place.
    """
    taken: list[Tensor] = []

    def see(name: str, output: Tensor) -> None:
        taken.append(choose(output))
        if len(taken) == site.uses:
            raise _SeenError

    with contract.evaluating(network), watching({site.name: site.watched}, see):
        try:
            network(inputs)
        except _SeenError:
            return taken[-1]
    raise NetworkError(f"The layer {site.name!r} was used less often than before: the network is not deterministic.")


def sent_back(site: Site, answer: Tensor, to: Tensor) -> Tensor:
    """Return the gradient of the sum of what a layer's units answered.

    Args:
        to: the tensor that the answer was computed from.

    Raises:
        NetworkError: none comes back.
    """
    if not answer.requires_grad:
        raise NetworkError(
            f"No gradient comes back from layer {site.name!r}: the network detaches it from the picture. "
            "Look at its pictures with top_pictures, which needs none."
        )
    (gradient,) = torch.autograd.grad(answer.sum(), [to])
    return gradient


class _SeenError(Exception):
    """Ends a pass whose rest would be thrown away."""


def _layers(subject: Subject) -> list[str]:
    """Return the paths of convolutions and fully connected layers in the order of their use; without them, stages."""
    nodes = [node for node in subject.graph.nodes if node.operation.lower().startswith(("conv", "linear"))]
    paths = dict.fromkeys(node.module for node in nodes if node.module)
    return list(paths) or list(modules_named(subject.network))


def _seen(subject: Subject, layers: Mapping[str, nn.Module]) -> tuple[dict[str, tuple[int, ...]], Counter[str]]:
    """Return the shape of each layer's output for one picture, and how often it was used."""
    shapes: dict[str, tuple[int, ...]] = {}
    uses: Counter[str] = Counter()

    def see(name: str, output: Tensor) -> None:
        shapes[name] = tuple(output.shape)
        uses[name] += 1

    picture = torch.zeros(1, *subject.spec.input.shape, device=subject.device, dtype=subject.dtype)
    with contract.evaluating(subject.network), watching(layers, see), torch.no_grad():
        subject.network(picture)
    return shapes, uses


def _reading(subject: Subject, module: nn.Module) -> tuple[nn.Module, bool, str | None]:
    """Return the module to watch for a layer, whether ReLU follows it, and its node."""
    graph = subject.graph
    path = {module: path for path, module in subject.network.named_modules()}[module]
    inside = [node for node in graph.nodes if not path or f"{node.module}.".startswith(f"{path}.")]
    if not inside or not graph.traced:
        return module, False, None
    node, watched = inside[-1], module
    follower = _only_user(graph, node)
    if follower is not None and follower.operation == "batch_norm":
        norm = subject.network.get_submodule(follower.module)
        if isinstance(norm, _NORMS):
            watched, follower = norm, _only_user(graph, follower)
    return watched, follower is not None and follower.operation == "relu", node.name


def _only_user(graph: Graph, node: Node) -> Node | None:
    users = graph.users[node.name]
    return users[0] if len(users) == 1 and node.name not in graph.outputs else None
