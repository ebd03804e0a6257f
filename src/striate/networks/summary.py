"""The layers of a network: shapes, parameters, memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.core.spec import Spec
from striate.networks import contract

BYTES = 4  # of a float32


@dataclass(frozen=True)
class LayerRow:
    """One layer, in the order in which the network runs them.

    Args:
        name: its path in the network.
        kind: its class.
        output: its output's shape for one picture, without N.
        parameters: its own; 0 where it has run before.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Summary:
    """A network in numbers.

    Args:
        rows: its layers.
        parameters: of the whole network, shared ones counted once.
        trainable: those that learn.
    """

    rows: tuple[LayerRow, ...]
    parameters: int
    trainable: int

    @property
    def activation_bytes(self) -> int:
        """What the layers' outputs take for one picture in float32; training keeps all of them."""
        return BYTES * sum(math.prod(row.output) for row in self.rows)

    def training_bytes(self, batch_size: int) -> int:
        """Return about what training takes: weights, gradients and two averages, and a batch's activations twice."""
        return 4 * BYTES * self.parameters + 2 * batch_size * self.activation_bytes

    def __str__(self) -> str:
        lines = [f"{'layer':24} {'kind':18} {'output':>16} {'parameters':>12}"]
        lines += [
            f"{row.name:24} {row.kind:18} {'×'.join(map(str, row.output)):>16} {row.parameters:>12,}"
            for row in self.rows
        ]
        return "\n".join([*lines, f"{self.parameters:,} parameters, {self.trainable:,} of them trainable"])


def summary(network: nn.Module, spec: Spec) -> Summary:
    """Return the layers of a network, which is run once on an empty picture.

    Args:
        network: may be on the meta device, where nothing is computed and no memory is taken.
        spec: what it takes and what its logits mean.

    Raises:
        NetworkError: it does not fit the pictures.
    """
    parameter = next(network.parameters(), torch.empty(0))
    picture = torch.zeros(1, *spec.input.shape, device=parameter.device)
    try:
        with _recording(network) as rows, contract.evaluating(network), torch.no_grad():
            network(picture)
    except RuntimeError as error:
        shape = "×".join(str(number) for number in spec.input.shape)
        raise NetworkError(f"The network cannot take a picture of {shape}: {str(error).splitlines()[0]}.") from error
    parameters = list(network.parameters())
    return Summary(
        rows=tuple(rows),
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    )


@contextmanager
def _recording(network: nn.Module) -> Iterator[list[LayerRow]]:
    """Yield the rows of the layers that run meanwhile; the hooks are removed however it ends."""
    rows: list[LayerRow] = []
    seen: set[nn.Module] = set()
    hooks = []

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            own = 0 if module in seen else sum(parameter.numel() for parameter in module.parameters())
            seen.add(module)
            if isinstance(output, Tensor):
                rows.append(LayerRow(name, type(module).__name__, tuple(output.shape[1:]), own))

        return hook

    for name, module in network.named_modules():
        if not any(module.children()):
            hooks.append(module.register_forward_hook(hook_for(name or type(module).__name__)))
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()
