"""The layers of a network: shapes, receptive fields, parameters, multiply-adds, memory."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import groupby

from torch import nn

from striate.core.spec import Spec
from striate.networks import contract
from striate.networks.geometry import Geometry, ReceptiveField, Sharing, multiply_adds, sharing
from striate.networks.graph import Graph, Node, observe, trace

BYTES = 4  # of a float32

# Operations that a network does between its layers and that change what a unit is; activations and reshapes do not.
_SHOWN = ("conv", "max_pool", "avg_pool", "adaptive_", "linear", "matmul", "cat", "pad", "upsample_", "mean", "amax")


@dataclass(frozen=True)
class LayerRow:
    """One layer, in the order in which the network runs them.

    Args:
        name: its path in the network; for an operation between layers, where it happens and what it is.
        kind: its class, or the operation.
        output: its output's shape for one picture, without N.
        parameters: its own; 0 where it has run before.
        multiply_adds: of its convolutions and matrix products, for one picture.
        field: what its units see of the picture; None where that is not known.
        sharing: what weight sharing saves; None where it is no convolution.
        node: the graph's name of its output.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int = 0
    field: ReceptiveField | None = None
    sharing: Sharing | None = None
    node: str = ""

    @property
    def activation_bytes(self) -> int:
        """What its output takes for one picture in float32."""
        return BYTES * math.prod(self.output)

    @property
    def in_words(self) -> list[str]:
        """Name, kind, output, what it sees, parameters and multiply-adds, for a table; empty where there are none."""
        counts = (f"{count:,}" if count else "" for count in (self.parameters, self.multiply_adds))
        return [self.name, self.kind, in_words(self.output), field_in_words(self.field), *counts]


@dataclass(frozen=True)
class Summary:
    """A network in numbers.

    Args:
        rows: its layers.
        parameters: of the whole network, shared ones counted once.
        trainable: those that learn.
        auxiliary: those of auxiliary heads, which are gone at evaluation.
        geometry: what each unit sees, and the graph.
    """

    rows: tuple[LayerRow, ...]
    parameters: int
    trainable: int
    auxiliary: int
    geometry: Geometry

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not known, in sentences."""
        return self.geometry.notes

    @property
    def multiply_adds(self) -> int:
        """Of all convolutions and matrix products, for one picture, at evaluation."""
        return self.geometry.multiply_adds

    @property
    def activation_bytes(self) -> int:
        """What the layers' outputs take for one picture in float32; training keeps all of them."""
        return sum(row.activation_bytes for row in self.rows)

    def training_bytes(self, batch_size: int) -> int:
        """Return about what training takes: weights, gradients and two averages, and a batch's activations twice."""
        return 4 * BYTES * self.parameters + 2 * batch_size * self.activation_bytes

    def __str__(self) -> str:
        names = max([len(row.name) for row in self.rows] + [5])
        lines = [f"{'layer':{names}} {'kind':18} {'output':>14} {'sees':>11} {'parameters':>12} {'multiply-adds':>15}"]
        lines += [
            f"{row.name:{names}} {row.kind:18} {in_words(row.output):>14} {field_in_words(row.field):>11} "
            f"{row.parameters:>12,} {row.multiply_adds:>15,}"
            for row in self.rows
        ]
        total = f"{self.parameters:,} parameters, {self.trainable:,} of them trainable"
        return "\n".join([*lines, f"{total}; {self.multiply_adds:,} multiply-adds for one picture", *self.notes])


def in_words(shape: tuple[int, ...]) -> str:
    """``(16, 10, 10)`` → ``16×10×10``."""
    return "×".join(map(str, shape))


def field_in_words(field: ReceptiveField | None) -> str:
    """``15×15``; ``?`` where it is not known."""
    return "?" if field is None else in_words(field.size)


def summary(network: nn.Module, spec: Spec) -> Summary:
    """Return the layers of a network, which is traced and left as it was.

    Args:
        network: any module; on the meta device it takes no memory.
        spec: what it takes and what its logits mean.

    Raises:
        NetworkError: it does not fit the pictures.
    """
    return _of_graph(trace(network, spec), network)


def layout(network: nn.Module, spec: Spec) -> Summary:
    """Return the layers without receptive fields: enough to know whether they fit in memory, and faster."""
    return _of_graph(observe(network, spec), network)


def _of_graph(graph: Graph, network: nn.Module) -> Summary:
    knowledge = Geometry(graph)
    leaves = contract.leaves_of(network)
    counted: set[str] = set()
    rows = []
    for name, nodes in _layers(graph, leaves):
        last = nodes[-1]
        shared = [found for found in (sharing(node, graph) for node in nodes) if found]
        rows.append(
            LayerRow(
                name=name or last.kind,
                kind=last.kind if last.module in leaves else last.operation,
                output=last.shape[1:],
                parameters=_count(leaves[last.module]) if last.module in leaves.keys() - counted else 0,
                multiply_adds=sum(multiply_adds(node, graph) for node in nodes),
                field=knowledge.receptive_field(last.name) if graph.traced else None,
                sharing=shared[0] if shared else None,
                node=last.name,
            )
        )
        counted.add(last.module)
    return Summary(
        rows=tuple(rows),
        parameters=_count(network),
        trainable=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        auxiliary=sum(map(_count, contract.auxiliary_heads_of(network))),
        geometry=knowledge,
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _layers(graph: Graph, leaves: Container[str]) -> Iterator[tuple[str, list[Node]]]:
    """Yield the name of each layer and its nodes: those of one call of a leaf module, or one operation between them."""
    if not graph.traced:
        yield from ((node.module, [node]) for node in graph.nodes[1:])
        return
    for (module, _), group in groupby(graph.nodes[1:], key=lambda node: (node.module, node.module in leaves)):
        nodes = list(group)
        if module in leaves:
            yield module, nodes
            continue
        for node in nodes:
            joins = len(node.inputs) > 1
            if joins or node.operation.startswith(_SHOWN):
                yield (f"{module}.{node.operation}" if module else node.operation), [node]
