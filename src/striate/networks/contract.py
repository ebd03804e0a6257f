"""The contract of a network: images (N, C, H, W) in, logits (N, K) out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from striate.core import machine
from striate.core.errors import NetworkError, expect, reason
from striate.core.spec import Spec


@dataclass(frozen=True)
class Outputs:
    """What a network with auxiliary heads returns in training mode.

    Args:
        logits: (N, K).
        auxiliary: name of each auxiliary head → its logits (N, K); the network's ``auxiliary`` has their loss weights.
    """

    logits: Tensor
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)


def stages_of(network: nn.Module) -> dict[str, nn.Module]:
    """Return the network's stages, name → module, input to output; its children where it names none.

    Of a module that only wraps another one they are the other one's.
    """
    stages = getattr(network, "stages", None)
    if isinstance(stages, Mapping):
        return dict(stages)
    children = dict(network.named_children())
    for name, only in children.items() if len(children) == 1 else ():
        return {f"{name}.{path}": module for path, module in stages_of(only).items()} or children
    return children


def leaves_of(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that hold no others, path → module."""
    return {path: module for path, module in network.named_modules() if not any(module.children())}


def auxiliary_outputs_of(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the outputs that work in training alone; most networks have none."""
    auxiliary = getattr(network, "auxiliary", None)
    return tuple(auxiliary) if isinstance(auxiliary, Mapping) else ()


def auxiliary_heads_of(network: nn.Module) -> list[nn.Module]:
    """Return the modules that auxiliary outputs are named after, where they are named after modules."""
    modules = dict(network.named_modules())
    return [modules[path] for path in auxiliary_outputs_of(network) if path in modules]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Put the network into evaluation mode, and each of its modules back to what it was."""
    modes = {module: module.training for module in network.modules()}
    try:
        yield network.eval()
    finally:
        for module, training in modes.items():
            module.training = training


def expect_network(network: object) -> None:
    """Refuse what is no module.

    Raises:
        NetworkError: it is something else.
    """
    expect(network, nn.Module, NetworkError, 'network must be a module, such as st.build("lenet5", images.spec)')


def expect_spec(spec: object) -> None:
    """Refuse what is no Spec.

    Raises:
        NetworkError: it is something else.
    """
    expect(spec, Spec, NetworkError, "spec must be a Spec, such as images.spec")


def device_of(network: nn.Module) -> torch.device:
    """Return the device that a network is on; one without parameters is taken to be on the CPU."""
    return next(network.parameters(), torch.empty(0)).device


def check(network: nn.Module, spec: Spec) -> None:
    """Run the network on two empty pictures and refuse it where it does not keep the contract.

    Raises:
        NetworkError: it does not take pictures of this size and number of channels, or does not return (N, K).
    """
    images = torch.zeros(2, *spec.input.shape, device=device_of(network))
    try:
        with evaluating(network), torch.no_grad(), machine.keeping_draws():
            logits = network(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise NetworkError(why_not(network, spec, error)) from error
    wanted = (2, spec.task.classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        got = f"{tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(
            f"The network must return logits (N, {spec.task.classes}), one for each of the {spec.task.classes} "
            f"classes; for 2 pictures it returned {got}. Its last layer must have {spec.task.classes} outputs."
        )


def remember_spec(network: nn.Module, spec: Spec) -> None:
    """Note on the network what it was built or trained for."""
    network.striate_spec = spec  # type: ignore[assignment]


def spec_of(network: nn.Module) -> Spec | None:
    """Return what the network was built or trained for; None for a module that nobody has noted it on."""
    spec = getattr(network, "striate_spec", None)
    return spec if isinstance(spec, Spec) else None


def why_not(network: nn.Module, spec: Spec, error: Exception) -> str:
    """Say in a sentence why a network failed on the pictures of a Spec."""
    channels = first_channels(network)
    if channels is not None and channels != spec.input.channels:
        return (
            f"The network takes pictures with {_channels(channels)}, these have {spec.input.channels}. "
            f"Load them with channels={channels}, or build the network for {spec.input.channels}."
        )
    shape = "×".join(str(number) for number in spec.input.shape)
    return f"The network cannot take float32 pictures of {shape}: {reason(error)}."


def first_channels(network: nn.Module) -> int | None:
    """Return the channels that the first convolution takes, or None where the first layer is something else."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return module.in_channels
        if isinstance(module, nn.Linear):
            return None
    return None


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"
