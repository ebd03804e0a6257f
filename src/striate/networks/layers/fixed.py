"""Hand-made kernels: what a first layer might learn, written down."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.core.errors import NetworkError, suggest

Matrix = tuple[tuple[float, ...], ...]


def _kirsch() -> tuple[Matrix, ...]:
    """Eight compass directions, from north anticlockwise: the three fives walk around the centre."""
    ring = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]  # clockwise from the top left
    kernels = []
    for turn in range(8):
        fives = {ring[(place - turn) % 8] for place in range(3)}
        value = [[5.0 if (r, c) in fives else -3.0 for c in range(3)] for r in range(3)]
        value[1][1] = 0.0
        kernels.append(tuple(tuple(row) for row in value))
    return tuple(kernels)


def _curve() -> Matrix:
    """A quarter of a circle, open to the lower right: 1 on it in all, −1 off it in all.

    A curve of brightness 1 on black answers 1, and an even grey of any brightness answers 0.
    """
    drawn = (
        ". . . . . # #",
        ". . . # # . .",
        ". . # . . . .",
        ". # . . . . .",
        ". # . . . . .",
        "# . . . . . .",
        "# . . . . . .",
    )
    on = sum(row.count("#") for row in drawn)
    off = 7 * 7 - on
    return tuple(tuple(1 / on if mark == "#" else -1 / off for mark in row.split()) for row in drawn)


KERNELS: dict[str, tuple[Matrix, ...]] = {
    "sharpen": (((0, -1, 0), (-1, 5, -1), (0, -1, 0)),),
    "blur": (((1 / 16, 2 / 16, 1 / 16), (2 / 16, 4 / 16, 2 / 16), (1 / 16, 2 / 16, 1 / 16)),),
    "edge": (((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),),
    "emboss": (((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),),
    "sobel": (
        ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),  # brighter to the right: vertical edges
        ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),  # brighter below: horizontal edges
    ),
    "kirsch": _kirsch(),
    "curve": (_curve(),),
}
"""Name → its kernels, as written in a picture's orientation. Sobel has 2, Kirsch 8, the others 1.

Sources: Sobel & Feldman, A 3×3 isotropic gradient operator (1968); Kirsch, Computer determination of the
constituent structure of biological images (1971).
"""


@final
class FixedConv(nn.Module):
    """Every kernel of one name on every channel: (N, C, H, W) → (N, C · kernels, H, W).

    Output channel c · kernels + j is kernel j on channel c. The border repeats the nearest pixel, so that the
    edge of the picture is not itself an edge. The weights are a buffer: saved and moved, never trained.

    Args:
        name: one of ``KERNELS``.
        channels: C.

    Raises:
        NetworkError: there is no kernel of that name.
    """

    weight: Tensor

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()
        if name not in KERNELS:
            raise NetworkError(f"No kernel named {name!r}.{suggest(name, KERNELS)} There are: {', '.join(KERNELS)}.")
        self.name = name
        self.channels = channels
        kernels = torch.tensor(KERNELS[name], dtype=torch.get_default_dtype()).unsqueeze(1)
        self.register_buffer("weight", kernels.repeat(channels, 1, 1, 1))  # (C · kernels, 1, K, K)

    def forward(self, x: Tensor) -> Tensor:
        border = self.weight.shape[-1] // 2
        padded = F.pad(x, [border] * 4, mode="replicate")
        return F.conv2d(padded, self.weight, groups=self.channels)

    def extra_repr(self) -> str:
        return f"{self.name!r}, channels={self.channels}"
