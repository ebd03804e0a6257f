"""The luminance of pictures: what grey is made of."""

from __future__ import annotations

from torch import Tensor

# ITU-R BT.601: what Pillow's "L" weighs red, green and blue with.
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114


def luminance(pixels: Tensor) -> Tensor:
    """Return the luminance of RGB pictures, the mean of the channels of others: (…, C, H, W) float → (…, 1, H, W)."""
    if pixels.shape[-3] != 3:
        return pixels.mean(-3, keepdim=True)
    red, green, blue = (pixels.narrow(-3, channel, 1) for channel in range(3))
    return (red * _RED).add_(green, alpha=_GREEN).add_(blue, alpha=_BLUE)
