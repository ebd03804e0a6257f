"""The memory that training takes, foretold from two pictures; and what is said where a batch does not fit."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from striate.core import machine
from striate.core.errors import RecipeError, TrainingError

# Measured on LeNet-5, ResNet-18 and 50, VGG-11, SpeedNet, GoogLeNet: within 25 % of what the process grew by; 46 % too
# much for DenseNet-121. Activations: what a step keeps, what its backward pass adds, what the C library does not fill
# again. Weights: themselves, gradients, the optimiser's, the best so far, the copy that measures.
HELD, COPIES, BESIDES = 1.8, 4.3, 20e6
_WORDS = ("can't allocate memory", "out of memory", "not enough memory")  # PyTorch's, of the CPU and of CUDA


@final
class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are made while it is entered, each as long as something holds it.

    Views share the bytes of what they are views of; saved tensors count while autograd holds them, and what is done
    in place takes nothing.

    Args:
        known: tensors that exist, which do not count.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self._held = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return output

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._held:
            self._held[key] = storage.nbytes()
            self.now += storage.nbytes()
            weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self.now -= self._held.pop(key)


@final
@dataclass(frozen=True)
class Need:
    """What training takes.

    Args:
        weights: bytes of parameters and statistics.
        picture: bytes that a training step keeps of one picture until its backward pass.
    """

    weights: int
    picture: float

    def bytes(self, batch_size: int) -> float:
        """Return what a run with such batches adds to the memory of the process, its pictures apart."""
        return BESIDES + COPIES * self.weights + HELD * self.picture * batch_size

    def largest(self, free: float) -> int:
        """Return the largest batch that fits into some bytes, besides weights that are there; 0 where none does."""
        return max(0, int((free - BESIDES - (COPIES - 1) * self.weights) / (HELD * self.picture)))

    def check(self, batch_size: int) -> None:
        """Refuse batches that do not fit.

        Raises:
            RecipeError: says the largest that does.
        """
        free = machine.available_memory()
        most = self.largest(free)
        if batch_size > most:
            raise RecipeError(self.in_words(batch_size, most) + f" {machine.in_words(free)} are free.")

    def in_words(self, batch_size: int, most: int) -> str:
        """Return what is said of a batch that does not fit, where only ``most`` do."""
        fix = f"try --batch-size {most}" if most else "try smaller pictures (--size) or a smaller network"
        return (
            f"batch_size must be one that fits in memory, at most about {most}, got {batch_size}, which takes about "
            f"{machine.in_words(self.bytes(batch_size))}: {fix}."
        )


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
        if not isinstance(error, MemoryError) and not any(words in str(error).lower() for words in _WORDS):
            raise
        most = min(need.largest(free), batch_size // 2)
        raise TrainingError(f"Memory ran out. {need.in_words(batch_size, most)}") from error
