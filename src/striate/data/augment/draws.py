"""What augmentation draws by chance: numbers keyed by (seed, epoch, picture), a stream for each thing drawn."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import final

import torch
from torch import Tensor

from striate.data.keyed import keyed_bits


class Stream(IntEnum):
    """Each kind of draw has a stream of its own, so that one policy's draws are those of any other."""

    FLIP = 1
    SHIFT = 2
    TOP = 3
    LEFT = 4
    AREA = 5
    PROPORTION = 6
    ROTATION = 7
    ZOOM = 8
    SHEAR = 9
    OPERATION = 10
    STRENGTH = 11
    SIGN = 12
    BRIGHTNESS = 13
    CONTRAST = 14
    SATURATION = 15
    HUE = 16
    GREY = 17
    ERASE = 18
    ERASE_AREA = 19
    ERASE_PROPORTION = 20
    ERASE_TOP = 21
    ERASE_LEFT = 22
    PARTNER = 23
    MIXTURE = 24
    SHARE = 25
    CUTMIX_TOP = 26
    CUTMIX_LEFT = 27


@final
@dataclass(frozen=True, eq=False)
class Draws:
    """The draws for the pictures of a batch in one epoch.

    Args:
        index: (B,) int64, the position of each picture in its split.
        epoch, seed: together with the index they key every draw.
    """

    index: Tensor
    epoch: int
    seed: int

    def bits(self, stream: Stream) -> Tensor:
        """Return 63 random bits for each picture: (B,) int64, not negative."""
        return keyed_bits(self.index, self.seed, self.epoch, stream)

    def whole(self, stream: Stream, count: int) -> Tensor:
        """Return a whole number from 0 to ``count`` − 1 for each picture: (B,) int64."""
        return self.bits(stream) % count

    def uniform(self, stream: Stream, low: float | Tensor = 0.0, high: float | Tensor = 1.0) -> Tensor:
        """Return a number from ``low`` up to ``high`` for each picture: (B,) float64."""
        return (self.bits(stream) >> 10).to(torch.float64) * 2.0**-53 * (high - low) + low  # 53 bits are exact

    def chance(self, stream: Stream, probability: float) -> Tensor:
        """Return which pictures are hit with this probability: (B,) bool."""
        return self.uniform(stream) < probability

    def proportions(self, stream: Stream, area: Tensor, most: float) -> Tensor:
        """Return width / height, in the picture's own, of boxes that cover a part ``area`` of it and fit in it.

        Log-uniform within 1 / ``most`` to ``most``, and within what fits: (B,) float64.
        """
        bound = (1 / area).clamp(max=most).log()
        return self.uniform(stream, -bound, bound).exp()
