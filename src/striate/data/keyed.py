"""Random bits keyed by (seed, epoch, picture): the same for any order, batching and number of processes."""

from __future__ import annotations

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): the step,
# from the golden ratio, and the two multipliers of its finaliser.
_STEP = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def keyed_seed(*key: int) -> int:
    """Return 63 random bits for a key of integers, as a seed for a generator."""
    state = 0
    for part in key:
        state = _finalise((state ^ (part & _MASK)) + _STEP & _MASK)
    return state >> 1


def keyed_bits(index: Tensor, *key: int) -> Tensor:
    """Return 63 random bits (non-negative int64) for each entry of ``index`` under one key.

    Args:
        index: (B,) int64, the number of each picture.
        key: any integers, such as the seed and the epoch.
    """
    state = index * _signed(_STEP) + keyed_seed(*key)  # int64 multiplication wraps, as the generator asks for
    state = (state ^ _shifted(state, 30)) * _signed(_FIRST)
    state = (state ^ _shifted(state, 27)) * _signed(_SECOND)
    return _shifted(state ^ _shifted(state, 31), 1)


def keyed_generator(*key: int) -> torch.Generator:
    """Return a CPU generator of its own for a key of integers; the global one is neither read nor moved."""
    return torch.Generator().manual_seed(keyed_seed(*key))


def _finalise(state: int) -> int:
    state = (state ^ (state >> 30)) * _FIRST & _MASK
    state = (state ^ (state >> 27)) * _SECOND & _MASK
    return state ^ (state >> 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Shift right without the sign: torch's shift of int64 is arithmetic."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >> 63 else constant
