"""A forward pass observed: every operation on tensors, and the module that it happened in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from striate.core import machine
from striate.core.machine import Execution
from striate.networks.contract import Outputs
from striate.training.forward import seed_step
from striate.training.run import Run

# Told after every operation: its name, the path of the module that it happened in, its output.
Told = Callable[[str, str, Tensor], None]


@final
class _Operations(TorchFunctionMode):
    """Tells of every operation that returns a tensor; the operations are computed as they always are."""

    def __init__(self, told: Told, inside: list[str]) -> None:
        super().__init__()
        self._told, self._inside = told, inside

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor):
            self._told(getattr(func, "__name__", str(func)), self._inside[-1] if self._inside else "", output)
        return output


def execution_of(run: Run) -> Execution:
    """Return how the run's network is run."""
    return Execution(run.recipe.precision or "fp32", run.recipe.memory_format or "contiguous")


def answer(
    twin: nn.Module, pictures: Tensor, run: Run, told: Told | None = None, *, draw: int | None = None
) -> Tensor | Outputs:
    """Return what a copy of the network answers, with the dropout of the run's step.

    The global generators are left as they were.

    Args:
        twin: nothing that is done with a copy can change the run.
        pictures: (B, C, H, W), as the network sees them.
        told: of every operation, if anybody wants to know.
        draw: any number, for the dropout of no step but of this number.
    """
    with machine.keeping_draws(), execution_of(run).autocast():
        if draw is None:
            seed_step(run)
        else:
            machine.seed_draws(draw)
        if told is None:
            return twin(pictures)  # type: ignore[no-any-return]
        with _paths(twin) as inside, _Operations(told, inside):
            return twin(pictures)  # type: ignore[no-any-return]


@contextmanager
def _paths(twin: nn.Module) -> Iterator[list[str]]:
    """Keep the paths of the modules that are running; the hooks are removed however it ends."""
    inside: list[str] = []

    def leave(module: nn.Module, inputs: Any, outputs: Any) -> None:
        inside.pop()

    hooks = []
    for path, module in twin.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda module, inputs, path=path: inside.append(path)))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield inside
    finally:
        for hook in hooks:
            hook.remove()
