"""The memory that training takes, foretold from a few pictures; and what is said where a batch does not fit."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from striate.core import machine, processes
from striate.core.errors import RecipeError, TrainingError

# Measured by benchmarks/memory_estimate.py: none of it is a tensor. CODE: what is imported with the first network.
# KERNELS: what oneDNN compiles. LAID_OUT_ANEW: what a convolution takes for as long as it computes, for each byte of
# its tensors, which oneDNN copies into an order of its own. The others: what the process grows by, for each byte of
# tensors, which are counted exactly.
CODE, KERNELS = 75e6, 35e6
PER_FIXED_BYTE, PER_PICTURE_BYTE = 1.1, 1.6
LAID_OUT_ANEW = 1.5
_CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
_STEADY = 0.95  # of a batch that just fits, which is what is advised: free memory is not the same twice
_WORDS = ("can't allocate memory", "out of memory", "not enough memory", "alloc_failed")  # of PyTorch, CUDA's cuDNN


@final
class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are made while it is entered, each as long as something holds it.

    Views share the bytes of what they are views of; saved tensors count while autograd holds them, and what is done
    in place takes nothing. What is computed on the way back counts too.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.moments: list[int] = []  # at every operation
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        there = {one.untyped_storage()._cdata for one in given}
        output = func(*args, **kwargs)
        made = [one for one in tree_leaves(output) if isinstance(one, Tensor)]
        for tensor in made:
            self._note(tensor.untyped_storage(), there)
        copies = func in _CONVOLUTIONS and machine.device().type == "cpu"
        copied = sum(one.nbytes for one in (*given, *made)) if copies else 0
        self.moments.append(self.now + int(LAID_OUT_ANEW * copied))
        return output

    def _note(self, storage: torch.UntypedStorage, there: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known and key not in there:
            self._known.add(key)
            self.now += size
            weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def take_moments(self) -> list[int]:
        """Return the bytes at every operation since the last time: of tensors, and of what is laid out anew."""
        taken, self.moments = self.moments, []
        return taken


@final
@dataclass(frozen=True)
class Moment:
    """What a step takes at one of its operations.

    Args:
        fixed: bytes, whatever the batch.
        picture: bytes for each picture of it.
    """

    fixed: float
    picture: float

    def bytes(self, batch_size: int) -> float:
        """Return what the process grows by for them."""
        per_fixed_byte, per_picture_byte = _growth()
        return per_fixed_byte * self.fixed + per_picture_byte * self.picture * batch_size


def _growth() -> tuple[float, float]:
    """Return what memory grows by for each byte of tensors that is fixed, and for each one of pictures.

    On a GPU, where this was not measured, tensors count as they are: what takes more ends as `memory_explained` says.
    """
    return (PER_FIXED_BYTE, PER_PICTURE_BYTE) if machine.device().type == "cpu" else (1.0, 1.0)


def moments_between(few: list[int], many: list[int], pictures: int) -> list[Moment]:
    """Return the moments of a step, given the bytes with that many pictures and with one more.

    A network that does not do the same operations with both is taken to have one moment, that of its peak.
    """
    if len(few) != len(many):
        few, many = [max(few)], [max(many)]
    each = [max(0, more - less) for less, more in zip(few, many, strict=True)]
    return [Moment(less - pictures * one, one) for less, one in zip(few, each, strict=True)]


@final
@dataclass(frozen=True)
class Need:
    """What training takes of memory.

    Args:
        weights: bytes of parameters and statistics.
        moments: of a training step and of evaluation, with the weights and what the optimiser and the average keep.
    """

    weights: int
    moments: list[Moment]

    def bytes(self, batch_size: int) -> float:
        """Return what a run with such batches adds to the memory of the process, its pictures apart."""
        there = CODE + _growth()[0] * self.weights
        return there + KERNELS + max(one.bytes(batch_size) for one in self.moments)

    def largest(self, free: float) -> int:
        """Return the largest batch that fits into some bytes, besides weights that are there; 0 where none does."""
        room, per_picture_byte = free - KERNELS, _growth()[1]
        if any(one.bytes(0) > room for one in self.moments):
            return 0
        return min(int((room - one.bytes(0)) / (per_picture_byte * one.picture)) for one in self.moments if one.picture)

    def check(self, batch_size: int) -> None:
        """Refuse batches that do not fit, each process taking its part of them.

        Raises:
            RecipeError: says the largest that does.
        """
        free = machine.available_memory()
        most = self.largest(free)
        if processes.most_of(batch_size) > most:
            most = processes.world() * (int(_STEADY * most) or most)
            raise RecipeError(self.in_words(batch_size, most) + f" {machine.in_words(free)} are free.")

    def in_words(self, batch_size: int, most: int) -> str:
        """Return what is said of a batch of all processes that does not fit, where only ``most`` do."""
        each = " in each process" if processes.world() > 1 else ""
        fix = f"try --batch-size {most}" if most else "try smaller pictures (--size) or a smaller network"
        return (
            f"batch_size must be one that fits in memory, at most about {most}, got {batch_size}, which takes about "
            f"{machine.in_words(self.bytes(processes.most_of(batch_size)))}{each}: {fix}."
        )


def ran_out(error: Exception) -> bool:
    """Return whether it is memory that ran out, of the CPU or of a GPU."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _WORDS)


@contextlib.contextmanager
def memory_explained(need: Need, batch_size: int) -> Iterator[None]:
    """Say what to do where memory runs out in the middle of a run.

    Raises:
        TrainingError: it did.
    """
    free = machine.available_memory()
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not ran_out(error):
            raise
        most = processes.world() * min(need.largest(free), processes.most_of(batch_size) // 2)
        raise TrainingError(f"Memory ran out. {need.in_words(batch_size, most)}") from error
