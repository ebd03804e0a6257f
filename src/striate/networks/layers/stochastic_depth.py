"""Stochastic depth: in training, blocks of a residual network are left out at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from striate.core.errors import NetworkError


@final
class StochasticDepth(nn.Module):
    """What a block adds to its input, dropped for some pictures of a batch: (N, …) → (N, …).

    In training, each picture's residual is 0 with probability ``rate``, and divided by 1 − ``rate`` otherwise, so that
    its mean stays and evaluation, where this does nothing, needs no change. G. Huang, Y. Sun, Z. Liu, D. Sedra,
    K. Weinberger: Deep Networks with Stochastic Depth, ECCV 2016, equation 2; there a whole batch shares a draw, and
    evaluation scales instead.

    Args:
        rate: at least 0, less than 1.

    Raises:
        NetworkError: ``rate`` is out of its range.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        _check(rate)
        self.rate = rate

    def forward(self, residual: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return residual
        kept = residual.new_empty((len(residual), *[1] * (residual.dim() - 1))).bernoulli_(1 - self.rate)
        return residual * (kept / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def drop_blocks(blocks: Sequence[nn.Module], rate: float) -> None:
    """Give residual blocks their `StochasticDepth`, as the attribute ``stochastic_depth``; none where the rate is 0.

    The l-th of L blocks is dropped with probability l / L · ``rate`` (Huang et al. 2016, equation 4: the first layers
    find what all others use).

    Args:
        blocks: input to output.
        rate: of the last block; at least 0, less than 1.

    Raises:
        NetworkError: ``rate`` is out of its range.
    """
    _check(rate)
    if rate:
        for number, block in enumerate(blocks, start=1):
            block.stochastic_depth = StochasticDepth(rate * number / len(blocks))


def _check(rate: float) -> None:
    if not 0 <= rate < 1:
        raise NetworkError(f"stochastic_depth must be at least 0 and less than 1, got {rate}. The paper has 0.5.")
