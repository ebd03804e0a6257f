"""Recording what flows through a network: the outputs of its layers for some pictures, and the gradients there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError, suggest
from striate.networks import contract
from striate.prediction.predictor import Classifier

LISTED = 12  # names in an error


@dataclass(frozen=True, eq=False)
class Recording:
    """What was seen of one forward pass.

    Args:
        logits: (N, K).
        activations: name → output (N, …), as it was when the layer returned it, whatever was done to it in place later.
        gradients: name → gradient of the sum that was asked about, of the same shape; empty where none was asked for,
            and without the layers that the sum does not depend on.
    """

    logits: Tensor
    activations: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor] = field(default_factory=dict)


def record(
    network: nn.Module | Classifier,
    inputs: Tensor,
    where: Sequence[str] | None = None,
    *,
    gradient_of: Callable[[Tensor], Tensor] | None = None,
) -> Recording:
    """Run a network once, in evaluation mode, and keep what some of its layers return.

    A layer that the network uses several times is kept as it was the last time. Hooks are removed however it ends.

    Args:
        network: any module.
        inputs: (N, C, H, W) float, normalised; see `striate.inspection.subject.Subject`.
        where: names of stages or paths of modules; all stages that return tensors where None.
        gradient_of: logits (N, K) → a number per picture or one; the gradients of its sum are kept too. Where it is
            None nothing is kept for a backward pass.

    Raises:
        NetworkError: there is no such layer, it was not run, or it returns no tensor.
    """
    module = network.network if isinstance(network, Classifier) else network
    layers = modules_named(module, where)
    activations: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        activations[name] = output.detach().clone()  # what follows may work in place
        if output.requires_grad:
            seen: Any = output
            seen.register_hook(lambda gradient: gradients.__setitem__(name, gradient.detach().clone()))

    with contract.evaluating(module), watching(layers, keep), torch.set_grad_enabled(gradient_of is not None):
        if gradient_of is not None:
            # Of a copy that is no leaf, so that gradients exist everywhere and layers may work on the input in place.
            inputs = inputs.detach().clone().requires_grad_().mul(1)
        logits = module(inputs)
        if gradient_of is not None:
            asked = gradient_of(logits).sum()
            torch.autograd.grad(asked, [inputs], allow_unused=True)  # the parameters' own gradients are left alone
    missing = [name for name in layers if name not in activations]
    if missing and where is not None:
        raise NetworkError(f"The layer {missing[0]!r} returned no tensor: the network does not use it when it answers.")
    in_order = [name for name in layers if name in activations]
    return Recording(
        logits.detach(),
        {name: activations[name] for name in in_order},
        {name: gradients[name] for name in in_order if name in gradients},
    )


def modules_named(network: nn.Module, where: Sequence[str] | None = None) -> dict[str, nn.Module]:
    """Return modules by the names of stages or by their paths; all stages where ``where`` is None.

    Raises:
        NetworkError: there is none of a name; the nearest is suggested and all stages are listed.
    """
    stages = contract.stages_of(network) or {"": network}
    if where is None:
        return stages
    known: dict[str, nn.Module] = {path: module for path, module in network.named_modules() if path} | stages
    found: dict[str, nn.Module] = {}
    for name in [where] if isinstance(where, str) else where:
        if name not in known:
            raise NetworkError(
                f"The network has no layer {name!r}.{suggest(name, known)} Its stages are {listed(list(stages))}; "
                "paths of modules, as `striate summary` lists them, are names too."
            )
        found[name] = known[name]
    return found


def listed(names: Sequence[str]) -> str:
    """Return names in a row, the first of them where they are many."""
    return ", ".join([*names[:LISTED], *(["…"] if len(names) > LISTED else [])])


@contextmanager
def watching(layers: Mapping[str, nn.Module], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call ``see(name, output)`` whenever one of the layers returns a tensor; the hooks are removed however it ends."""

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                see(name, output)

        return hook

    hooks = [module.register_forward_hook(hook_for(name)) for name, module in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
