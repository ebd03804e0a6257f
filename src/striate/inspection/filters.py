"""The filters of a layer as pictures, and which of them are duplicates, negatives of each other, or dead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.core.finding import Finding, Severity
from striate.core.spec import Spec
from striate.drawing.colours import Palette, Scale
from striate.drawing.grid import MARKED, Group, Sheet, Tile, draw_grid
from striate.inspection.record import modules_named, record
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.networks import contract
from striate.networks.graph import PICTURE, Graph, Node, trace
from striate.networks.layers.fixed import FixedConv
from striate.prediction.predictor import Classifier

# Of two filters, |cosine| from which they say the same: what either answers beyond the other is then at most
# √(1 − 0.99²), 14 %, of its norm. Few weights are parallel by accident more easily, so the bound rises until random
# filters would be expected to give this many pairs in the whole layer.
PARALLEL, BY_ACCIDENT = 0.99, 0.01
NEGLIGIBLE = 1e-3  # norm, of the layer's median: beside the others, less than half a step of 8 bits
ENOUGH = 100  # pictures, from which a filter that is positive on none is worth a warning
PICTURES_AT_ONCE = 64
ROWS, COLUMNS = 12, 16  # filters × channels that are drawn of a deeper layer
MATRIX = (64, 160)  # of a layer whose filters are one value per channel

_LAYERS = (nn.Conv2d, nn.Linear, FixedConv)
_RESHAPES = ("flatten", "view", "_unsafe_view", "reshape", "contiguous", "clone", "squeeze", "unsqueeze", "dropout")
# What may lie between a layer and its rectification: it treats each filter alone.
_BETWEEN = ("batch_norm", "max_pool2d", "avg_pool2d", "dropout", "BatchNorm2d", "BatchNorm1d", "MaxPool2d", "AvgPool2d")
_RECTIFIERS = ("relu", "ReLU")


@final
@dataclass(frozen=True, eq=False)
class Filters:
    """The filters of one layer.

    Args:
        layer: path of its module.
        weights: (F, C, H, W) float32, one filter after the other; H and W are 1 where a filter has one weight per
            input. Of a fully connected layer they have the shape of the picture or maps that it is given.
        sees: ``picture`` where nothing with weights is between the picture and the layer, else ``features``.
        connected: whether the layer is fully connected.
        active: (F,) share of the pictures on which the filter is positive somewhere after rectification, 0–1; None
            where no pictures were given, or no ReLU follows the layer.
        findings: filters that are duplicates, negatives of each other, or dead.
    """

    layer: str
    weights: Tensor
    sees: str
    connected: bool
    active: Tensor | None
    findings: tuple[Finding, ...]

    def draw(self, most: int = 64) -> Sheet:
        """Draw the filters as tiles.

        Those upon 3-channel pictures are in colour; those upon one channel each, and the weights of fully connected
        layers upon the picture, take one tile each; all others are drawn by channel.

        Args:
            most: filters that are drawn, from the first; by channel, 12 at most.
        """
        count, channels, height, width = self.weights.shape
        if self.sees == PICTURE and channels == 3 and not self.connected:
            group, notes = self._in_colour(most)
        elif height == width == 1:
            group, notes = self._as_matrix()
        elif channels == 1:
            group, notes = self._one_channel(most)
        else:
            group, notes = self._by_channel(min(most, ROWS))
        notes += [f"{finding.message}" for finding in self.findings]
        what = "units" if self.connected else "filters"
        size = f"{channels}×{height}×{width}" if height * width > 1 else f"{channels}"
        title = f"{count} {what} of {self.layer or 'the network'}, {size} weights each"
        return draw_grid([group], title=title, subtitle=self._subtitle(), notes=notes)

    def _subtitle(self) -> str:
        if self.sees != PICTURE:
            return "What each filter adds up from the channels before it: a dark patch weighs much, a pale one nothing."
        if self.connected:
            return (
                "Each unit adds up the picture with these weights: bright pixels on green speak for it, on red against."
            )
        return "Each filter answers most where the picture looks like it."

    @property
    def _palette(self) -> Palette:
        return "green-red" if self.connected and self.sees == PICTURE else "diverging"

    def _caption(self, number: int) -> str:
        """The filter's number, its largest weight, and what was found about it."""
        about = [f.code.split("-")[0] for f in self.findings if f"filter {number}" in f.numbers]
        return "\n".join([f"{number}: ±{float(self.weights[number].abs().max()):.2g}", *about])

    def _in_colour(self, most: int) -> tuple[Group, list[str]]:
        tiles = [
            Tile((127.5 + 127.5 * _unit(one)).round().to(torch.uint8), self._caption(number))
            for number, one in enumerate(self.weights[:most])
        ]
        note = (
            "Red, green and blue of a tile are the weights upon the picture's red, green and blue. Each filter is on "
            "a scale of its own: mid-grey is 0, full colour its largest weight, which is written after its number."
        )
        return Group(tiles, side=80), [note, *self._left_out(len(tiles))]

    def _one_channel(self, most: int) -> tuple[Group, list[str]]:
        tiles = [Tile(_unit(one)[0], self._caption(number)) for number, one in enumerate(self.weights[:most])]
        meaning = "weight as a share of the filter's own largest, which is written after its number"
        scale = Scale(self._palette, -1, 1, meaning)
        return Group(tiles, scale=scale, side=self._side()), [*self._dashes(), *self._left_out(len(tiles))]

    def _by_channel(self, most: int) -> tuple[Group, list[str]]:
        shown = self.weights[:most, :COLUMNS]
        scale = Scale.of(shown, self._palette, "weight")
        columns = shown.shape[1]
        tiles = [Tile(one, f"{row}, {column}") for row, maps in enumerate(shown) for column, one in enumerate(maps)]
        note = (
            f"A row is a filter, a column a channel of its input; under each tile, both numbers. Channels drawn: "
            f"{columns} of {self.weights.shape[1]}."
        )
        side = self._side() if self._palette == "green-red" else 56
        group = Group(tiles, scale=scale, columns=columns, side=side)
        return group, [*self._dashes(), note, *self._left_out(len(shown))]

    def _as_matrix(self) -> tuple[Group, list[str]]:
        rows, columns = MATRIX
        shown = self.weights[:rows, :columns, 0, 0]
        scale = Scale.of(shown, self._palette, "weight")
        note = f"A row is a filter, a column an input. Inputs drawn: {shown.shape[1]} of {self.weights.shape[1]}."
        return Group([Tile(shown)], scale=scale, side=8 * max(shown.shape)), [note, *self._left_out(len(shown))]

    def _side(self) -> int:
        """Px of a tile: enough for the dashes where they are wanted and the sheet allows it."""
        longer = max(self.weights.shape[-2:])
        return min(480, MARKED * longer) if self._palette == "green-red" else 80

    def _dashes(self) -> list[str]:
        drawn = self._palette == "green-red" and self._side() // max(self.weights.shape[-2:]) >= MARKED
        return ["Negative weights are red and carry a dash; positive ones are green."] if drawn else []

    def _left_out(self, drawn: int) -> list[str]:
        left = len(self.weights) - drawn
        return [f"Drawn are the first {drawn} of {len(self.weights)}; {left} are left out."] if left else []


def filters(network: nn.Module | Classifier, where: str | None = None, *, pictures: Pictures | None = None) -> Filters:
    """Return the filters of a layer, and what is wrong with them.

    Args:
        network: any module, or a classifier.
        where: name of a stage or path of a module; its first layer with weights is taken. The first of the network
            where None.
        pictures: to see which filters are never positive after rectification.

    Raises:
        DataError: the pictures are none that the network takes.
        NetworkError: there is no such layer, or none with weights; or it is fully connected upon a picture whose size
            is not known.
    """
    subject = None if pictures is None else subject_of(network, pictures)
    module = network.network if isinstance(network, Classifier) else network
    spec = subject.spec if subject else network.spec if isinstance(network, Classifier) else contract.spec_of(network)
    graph = (subject.graph if subject else trace(module, spec)) if spec else None
    path, layer = _layer(module, where, graph)
    weights, sees = _seen(path, layer, module, graph, spec)
    active = _active(subject, path) if subject else None
    findings = (*_dead(path, weights), *_parallel(path, weights), *_never_positive(path, active, subject))
    return Filters(path, weights, sees, isinstance(layer, nn.Linear), active, findings)


def _layers(network: nn.Module, graph: Graph | None) -> dict[str, nn.Module]:
    """Return the layers with weights, path → module: in the order in which they run where that is known."""
    found = {path: one for path, one in network.named_modules() if isinstance(one, _LAYERS)}
    order = list(dict.fromkeys(node.module for node in graph.nodes if node.module in found)) if graph else []
    return {path: found[path] for path in [*order, *found]}


def _layer(network: nn.Module, where: str | None, graph: Graph | None) -> tuple[str, nn.Module]:
    layers = _layers(network, graph)
    if where is not None:
        whole = modules_named(network, [where])[where]
        inside = set(whole.modules())
        layers = {path: one for path, one in layers.items() if one in inside}
    if not layers:
        what = "The network" if where is None else f"The layer {where!r}"
        others = ", ".join(list(_layers(network, graph))[:12])
        fix = f" Layers with weights are {others}." if others else ""
        raise NetworkError(f"{what} has no convolution and no fully connected layer, so no filters.{fix}")
    return next(iter(layers.items()))


def _seen(
    path: str, layer: nn.Module, network: nn.Module, graph: Graph | None, spec: Spec | None
) -> tuple[Tensor, str]:
    """Return the weights as (F, C, H, W), and what they are upon."""
    own: Tensor = layer.weight.detach().float().cpu()  # type: ignore[operator]
    first = path == next(iter(_layers(network, graph)))
    node = next((one for one in graph.nodes if one.module == path and one.inputs), None) if graph else None
    before = _before(graph, node) if graph and graph.traced and node else None
    if not isinstance(layer, nn.Linear):
        alone = first if before is None else not any(_has_weights(one, graph) for one in before if graph)
        return own, PICTURE if alone else "features"
    if first and spec is None:
        raise NetworkError(
            "The first layer is fully connected, and the network does not say what size of pictures it takes. "
            "Pass st.Classifier(network, spec), or pictures."
        )
    shape = spec.input.shape if spec and (first if before is None else _only_reshaped(before)) else None
    if shape and math.prod(shape) == own.shape[1]:
        return own.view(-1, *shape), PICTURE
    return own.view(len(own), *_maps_before(before, own.shape[1])), "features"


def _before(graph: Graph, node: Node) -> list[Node]:
    """Return what a node depends on, nearest first."""
    found: dict[str, Node] = {}
    waiting = list(node.inputs)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = graph[name]
            waiting += graph[name].inputs
    return list(found.values())


def _has_weights(node: Node, graph: Graph | None) -> bool:
    shapes = graph.constants if graph else {}
    return any(argument == "weight" and len(shapes.get(name, ())) >= 2 for argument, name in node.constants.items())


def _only_reshaped(before: Sequence[Node]) -> bool:
    return all(node.operation in (PICTURE, *_RESHAPES) for node in before)


def _maps_before(before: Sequence[Node] | None, inputs: int) -> tuple[int, int, int]:
    """Return (C, H, W) of the maps that were flattened for a fully connected layer; (inputs, 1, 1) where none were."""
    for node in before or ():
        if len(node.shape) == 4 and math.prod(node.shape[1:]) == inputs:
            return node.shape[1], node.shape[2], node.shape[3]
        if node.operation not in _RESHAPES:
            break
    return inputs, 1, 1


def _active(subject: Subject, path: str) -> Tensor | None:
    """Return (F,) the share of pictures on which each filter passes its rectification somewhere."""
    last = _before_rectification(subject, path)
    if last is None:
        return None
    seen: list[Tensor] = []
    for start in range(0, len(subject.images), PICTURES_AT_ONCE):
        inputs = subject.prepare(subject.images[start : start + PICTURES_AT_ONCE])
        maps = record(subject.network, inputs, [last]).activations[last]
        seen.append((maps > 0).flatten(2).any(2) if maps.ndim > 2 else maps > 0)  # (n, F)
    return torch.cat(seen).double().mean(0).cpu()


def _before_rectification(subject: Subject, path: str) -> str | None:
    """Return the module whose output is rectified after a layer, where nothing between them mixes filters."""
    graph, leaves = subject.graph, contract.leaves_of(subject.network)
    node, last = graph.last_of(path), path
    while True:
        following = graph.nodes.index(node) + 1
        users = graph.users[node.name] if graph.traced else graph.nodes[following : following + 1]
        if len(users) != 1:
            return None
        node = users[0]
        if node.operation in _RECTIFIERS:
            return last
        if node.operation not in _BETWEEN or node.module not in leaves:
            return None
        last = node.module


def _dead(path: str, weights: Tensor) -> list[Finding]:
    norms = weights.flatten(1).norm(dim=1)
    bound = NEGLIGIBLE * float(norms.median())
    dead = (norms <= bound).nonzero().flatten().tolist()
    if not dead:
        return []
    message = (
        f"{_named(dead)} {'is' if len(dead) == 1 else 'are'} dead: the norm of the weights is at most {NEGLIGIBLE:g} "
        "of the layer's median."
    )
    numbers = {f"filter {one}": float(norms[one]) for one in dead}
    return [Finding("dead-filters", "warning", path, message, numbers, "Build the layer with fewer filters.")]


def _parallel(path: str, weights: Tensor) -> list[Finding]:
    """Find the filters that are multiples of each other; dead ones have no direction."""
    flat = weights.flatten(1)
    norms = flat.norm(dim=1)
    bound = parallel_from(len(flat), flat.shape[1])
    groups = _groups(flat, norms > NEGLIGIBLE * float(norms.median()), bound)
    findings = []
    for group in groups:
        for sign in (1, -1):
            same = [one for one, cosine in group.items() if cosine * sign > 0]
            if len(same) > 1:
                findings.append(_duplicates(path, weights, same, min(abs(group[one]) for one in same)))
    negated = [group for group in groups if len({cosine > 0 for cosine in group.values()}) == 2]
    if negated:
        pairs = [(_first(group, 1), _first(group, -1)) for group in negated]
        words = ", ".join(f"{a} and {b}" for a, b in pairs)
        message = (
            f"Filters {words} are each other's negatives: with a rectification after them, each pair keeps both "
            "signs of one answer."
        )
        numbers = {f"filter {one}": group[one] for group in negated for one in group}
        findings.append(Finding("negated-filters", "note", path, message, numbers))
    return findings


def parallel_from(count: int, weights: int) -> float:
    """Return the |cosine| from which two filters of a layer are called parallel.

    It is 0.99, or more where filters of so few weights, drawn at random, would be expected to give more than 0.01
    such pairs: two random directions of D dimensions have |cosine| ≥ t with the probability I(1 − t²; (D − 1)/2, 1/2)
    of the incomplete beta function. Filters of one weight are all parallel: the bound is infinite then.

    Args:
        count: filters of the layer.
        weights: of each filter.
    """
    if weights < 2 or count < 2:
        return math.inf
    pairs, half, rest = count * (count - 1) / 2, (weights - 1) / 2, 1 - PARALLEL**2
    # I(x; a, 1/2) is less than x^a / (a B(a, 1/2) √(1 − x)): nearly always enough, and SciPy takes a while to import.
    beta = math.lgamma(half) + math.lgamma(0.5) - math.lgamma(half + 0.5)
    if half * math.log(rest) - math.log(half * PARALLEL) - beta <= math.log(BY_ACCIDENT / pairs):
        return PARALLEL
    from scipy.special import betaincinv

    sine_squared = float(betaincinv(half, 0.5, min(1.0, BY_ACCIDENT / pairs)))
    return max(PARALLEL, math.sqrt(1 - sine_squared))


def _groups(flat: Tensor, alive: Tensor, bound: float) -> list[dict[int, float]]:
    """Return the filters that are parallel to one that comes before them: number → cosine to the first, which is 1."""
    precise = torch.float64 if flat.numel() <= 2**22 else torch.float32  # many weights need no more: see the bound
    units = flat.to(precise) / flat.to(precise).norm(dim=1, keepdim=True).clamp(min=1e-30)
    taken = ~alive
    groups = []
    for number in range(len(flat)):
        if taken[number]:
            continue
        cosines = (units[number:] @ units[number]).clamp(-1, 1)
        near = (cosines.abs() >= bound) & ~taken[number:]
        near[0] = True
        taken[number:] |= near
        if int(near.sum()) > 1:
            groups.append({number + i: float(cosines[i]) for i in near.nonzero().flatten().tolist()})
    return groups


def _duplicates(path: str, weights: Tensor, same: list[int], cosine: float) -> Finding:
    first = weights[same[0]]
    scales = [float(weights[one].norm() / first.norm()) for one in same]
    if all(torch.equal(weights[one], first) for one in same):
        how = "are equal"
    elif max(abs(scale - 1) for scale in scales) < 0.05:
        how = f"are nearly equal (|cosine| at least {_down(cosine)})"
    else:
        ratio = " : ".join(f"{scale:.2g}" for scale in scales)
        how = f"are equal up to scale (|cosine| at least {_down(cosine)}, norms {ratio})"
    numbers = {f"filter {one}": scale for one, scale in zip(same, scales, strict=True)} | {"cosine": cosine}
    fix = "Train with another seed or a smaller learning rate, or build the layer with fewer filters."
    return Finding("duplicate-filters", "warning", path, f"{_named(same)} {how}.", numbers, fix)


def _never_positive(path: str, active: Tensor | None, subject: Subject | None) -> list[Finding]:
    never = (active == 0).nonzero().flatten().tolist() if active is not None else []
    if not never or subject is None:
        return []
    message = (
        f"{_named(never)} {'is' if len(never) == 1 else 'are'} nowhere positive after rectification on the "
        f"{len(subject.images)} pictures."
    )
    fix = "Show it more pictures to be sure; a lower learning rate or a normalisation keeps filters alive."
    severity: Severity = "warning" if len(subject.images) >= ENOUGH else "note"
    return [Finding("silent-filters", severity, path, message, {f"filter {one}": 0.0 for one in never}, fix)]


def _first(group: dict[int, float], sign: int) -> int:
    return next(one for one, cosine in group.items() if cosine * sign > 0)


def _named(numbers: Iterable[int]) -> str:
    words = [str(number) for number in numbers]
    return f"Filter {words[0]}" if len(words) == 1 else f"Filters {', '.join(words[:-1])} and {words[-1]}"


def _down(cosine: float) -> str:
    """Round down, so that what is said is no more than what was found."""
    return f"{math.floor(min(cosine, 1.0) * 1000) / 1000:.3f}"


def _unit(weights: Tensor) -> Tensor:
    """Return weights divided by the largest; zeros stay."""
    return weights / weights.abs().max().clamp(min=1e-30)
