"""Replay: the step that gave a value that is not finite is done again on a copy, and watched operation by operation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from striate.core.copying import copy_of
from striate.core.errors import first_of
from striate.core.finding import Finding
from striate.data.imageset import Split
from striate.data.preprocess import normalise
from striate.training.doctor.observed import answer, execution_of
from striate.training.forward import loss_of
from striate.training.run import Run, Seen

_MASKS = ("masked_fill", "masked_fill_", "full", "full_like", "where")  # which put infinities where they belong
SHOWN = 64  # pictures of val that are shown again
FEW = 0.25  # of the batch: fewer pictures are named, more are no matter of single pictures


@final
@dataclass(frozen=True)
class _Shown:
    """The pictures that are shown to a copy again.

    Args:
        pictures: (B, C, H, W) as the network sees them.
        names: of each, B.
        where: the step, or val.
        step: its number, 1 for the first.
        of: how many pictures there were.
        more: how many others were bad that are not shown again.
    """

    pictures: Tensor
    names: Sequence[str]
    where: str
    step: int
    of: int
    more: int = 0


def explain_loss(run: Run) -> Finding:
    """Return where the first value that is not finite came from, after the loss of a step was none.

    ======================== ==========================================================================================
    ``non-finite-weights``   a weight or a running statistic was none before the step
    ``non-finite-input``     the pictures as the network gets them: after normalisation and augmentation
    ``non-finite-picture``   an operation, for some pictures of the batch
    ``overflow``             an operation, for most pictures of the batch
    ``non-finite-loss``      nothing but the loss itself
    ======================== ==========================================================================================

    The copy has the weights and the batch of the step, and draws the same dropout.
    """
    assert run.seen is not None
    # The step has already put its own values into the running statistics, which it does not read.
    return _explained(copy_of(run.network), run.network.named_parameters(), _batch(run.seen, run), run)


@torch.no_grad()
def explain_val(run: Run, network: nn.Module, val: Split, logits: Tensor) -> Finding:
    """Return the same after the loss on val was not finite: a weight or statistic, a picture, an operation, the loss.

    Args:
        network: that answered: the run's own, or the average of its weights.
        logits: (N, K) of val.
    """
    # Another buffer than a statistic may hold an infinity on purpose.
    buffers = [(name, one) for name, one in network.named_buffers() if one.isnan().any() or "running_" in name]
    bad = (~logits.isfinite().all(1)).nonzero()[:, 0].cpu()
    some = bad[:SHOWN]
    pictures = execution_of(run).arrange(normalise(val.images[some], run.spec.input))
    names = [val.origins[one] for one in some.tolist()]
    shown = _Shown(pictures, names, "val", run.step, len(val), len(bad) - len(some))
    return _explained(copy_of(network).eval(), [*network.named_parameters(), *buffers], shown, run)


def _explained(twin: nn.Module, numbers: Iterable[tuple[str, Tensor]], shown: _Shown, run: Run) -> Finding:
    for name, tensor in numbers:
        if not _finite(tensor):
            return _of_weights(name, tensor, run)
    if not _finite(shown.pictures):
        return _of_input(shown, run)
    found = _first_operation(twin, shown, run) if len(shown.pictures) else None
    return _of_operation(*found, shown, run) if found else _of_loss(run, shown.where)


def explain_gradient(run: Run) -> Finding:
    """Return ``non-finite-gradient``: the loss of the step is finite, and a gradient is none.

    It is found on the way back from the loss: the first module whose output has a gradient that is not finite.
    """
    seen = run.seen
    assert seen is not None
    twin, found = copy_of(run.network), _Backward()
    found.watch(twin)
    with torch.enable_grad():
        outputs = answer(twin, seen.pictures, run)
        loss_of(run, outputs, seen.targets).backward()  # type: ignore[no-untyped-call]
    names = [name for name, p in run.network.named_parameters() if p.grad is not None and not _finite(p.grad)]
    path, rows = found.first or (None, None)
    who = _pictures(rows, _batch(seen, run)) if rows is not None and len(rows) == len(seen.pictures) else ""
    where = names[0] if path is None else f"the output of {path or 'the network'}"
    message = (
        f"The gradient of {where} is not finite{who} ({_step(run)}), though the loss is: {len(names)} of the network's "
        "parameters would have become so."
    )
    fix = "A square root, a norm or a logarithm has no slope at 0: add 1e-6 inside it. Else take a smaller --lr."
    numbers = {"step": float(run.step + 1), "parameters": float(len(names))}
    return Finding("non-finite-gradient", "error", path or names[0], message, numbers, fix)


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _batch(seen: Seen, run: Run) -> _Shown:
    """Return the batch of a step."""
    learned, index = run.learned, seen.index.tolist()
    names = [learned.origins[one % len(learned)] if isinstance(learned, Split) else f"number {one}" for one in index]
    return _Shown(seen.pictures, names, _step(run), run.step + 1, len(names))


def _first_operation(twin: nn.Module, shown: _Shown, run: Run) -> tuple[str, str, Tensor] | None:
    """Return the first operation with an output that is not finite: its name, its module, and which pictures (B,)."""
    found: list[tuple[str, str, Tensor]] = []
    count = len(shown.pictures)

    def tell(operation: str, where: str, output: Tensor) -> None:
        if not found and operation not in _MASKS and not _finite(output):
            by_picture = output.dim() > 0 and len(output) == count
            rows = ~output.flatten(1).isfinite().all(1) if by_picture and output.dim() > 1 else ~output.isfinite()
            found.append((operation, where, rows if by_picture else torch.ones(count, dtype=torch.bool)))

    with torch.no_grad():
        answer(twin, shown.pictures, run, tell)
    return found[0] if found else None


def _of_weights(name: str, tensor: Tensor, run: Run) -> Finding:
    count = int((~tensor.isfinite()).sum())
    message = (
        f"{count:,} of the {tensor.numel():,} numbers of {name} were not finite before {_step(run)}: an update before "
        "it overflowed."
    )
    numbers = {"step": float(run.step + 1), "numbers": float(count)}
    return Finding("non-finite-weights", "error", name, message, numbers, _lower_rate(run))


def _of_input(shown: _Shown, run: Run) -> Finding:
    rows = ~shown.pictures.flatten(1).isfinite().all(1)
    message = f"The pictures are not finite as the network gets them{_pictures(rows, shown)} ({shown.where})."
    numbers = {"step": float(shown.step), "pictures": float(rows.sum())}
    fix = "Check mean and std of the Spec, and the pictures that are named."
    return Finding("non-finite-input", "error", shown.where, message, numbers, fix)


def _of_operation(operation: str, where: str, rows: Tensor, shown: _Shown, run: Run) -> Finding:
    count = int(rows.sum()) + shown.more
    numbers = {"step": float(shown.step), "pictures": float(count), "batch": float(shown.of)}
    start = f"The first value that is not finite is in {where or 'the network'} (its {operation})"
    if count <= max(1, FEW * shown.of):
        message = f"{start}{_pictures(rows, shown)} ({shown.where})."
        fix = f"Look at the picture, and at what {where or 'the network'} divides by or takes the logarithm of."
        return Finding("non-finite-picture", "error", where or operation, message, numbers, fix)
    message = f"{start}, for {count} of the {shown.of} pictures ({shown.where}): the numbers grew out of range."
    return Finding("overflow", "error", where or operation, message, numbers, _lower_rate(run))


def _of_loss(run: Run, where: str) -> Finding:
    message = f"Weights, pictures and logits of {where} are finite, and the loss is not: the logits are too large."
    return Finding("non-finite-loss", "error", where, message, {"step": float(run.step)}, _lower_rate(run))


def _pictures(rows: Tensor, shown: _Shown) -> str:
    """Return `` for picture train[17] alone`` of those that are marked (B,), or how many there are."""
    names = list(itertools.compress(shown.names, rows.tolist()))
    if len(names) + shown.more > max(1, FEW * shown.of):
        return f", for {len(names) + shown.more} of the {shown.of} pictures"
    return f", for {'picture' if len(names) == 1 else 'the pictures'} {first_of(names)} alone" if names else ""


def _step(run: Run) -> str:
    return f"step {run.step + 1}, batch {run.step % run.steps_per_epoch + 1} of epoch {run.epoch + 1}"


def _lower_rate(run: Run) -> str:
    return f"Try a lower learning rate (--lr {run.recipe.learning_rate / 10:g})."


@final
class _Backward:
    """Notes the first module, from the loss back, whose output gets a gradient that is not finite."""

    def __init__(self) -> None:
        self.first: tuple[str, Tensor | None] | None = None

    def watch(self, twin: nn.Module) -> None:
        """Watch the backward pass of a copy; the hooks go with it."""
        for path, module in twin.named_modules():
            module.register_forward_hook(self._after(path))

    def _after(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(gradient: Tensor) -> None:
            if self.first is None and not _finite(gradient):
                rows = ~gradient.flatten(1).isfinite().all(1) if gradient.dim() > 1 else None
                self.first = (path, rows)

        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad:
                output.register_hook(note)  # type: ignore[no-untyped-call]

        return hook
