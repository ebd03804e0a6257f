"""Colours of augmented pictures: brightness, contrast, saturation, hue and grey, in this order."""

from __future__ import annotations

import torch
from torch import Tensor

from striate.data.augment.draws import Draws, Stream
from striate.data.augment.policy import Augmentation
from striate.data.luminance import luminance


def jitter(images: Tensor, draws: Draws, policy: Augmentation) -> Tensor:
    """Change the colours of each picture as the policy says; each factor is uniform from 1 − most to 1 + most.

    Brightness multiplies; contrast moves every pixel from the mean luminance, saturation from its own luminance; hue
    turns the hexagon of HSV; grey leaves the luminance alone. Values are clamped after each and rounded at the end.

    Args:
        images: (B, C, H, W) uint8; C is 3 where colours are changed.

    Returns:
        (B, C, H, W) uint8; the same tensor where nothing is asked for.
    """
    if not (policy.brightness or policy.contrast or policy.saturation or policy.hue or policy.grey):
        return images
    pixels = images.float()
    if policy.brightness:
        pixels = blend(torch.zeros(()), pixels, _factor(draws, Stream.BRIGHTNESS, policy.brightness))
    if policy.contrast:
        mean = luminance(pixels).mean((2, 3), keepdim=True)
        pixels = blend(mean, pixels, _factor(draws, Stream.CONTRAST, policy.contrast))
    if policy.saturation:
        pixels = blend(luminance(pixels), pixels, _factor(draws, Stream.SATURATION, policy.saturation))
    if policy.hue:
        pixels = turn_hue(pixels, draws.uniform(Stream.HUE, -policy.hue, policy.hue))
    if policy.grey:
        pixels = blend(luminance(pixels), pixels, ~draws.chance(Stream.GREY, policy.grey))
    return pixels.round_().to(torch.uint8)


def blend(start: Tensor, pixels: Tensor, factor: Tensor) -> Tensor:
    """Return ``start`` + factor · (``pixels`` − ``start``), clamped to 0–255: beyond a factor of 1 it exaggerates.

    Args:
        start: broadcast over (B, C, H, W).
        pixels: (B, C, H, W) float.
        factor: (B,), numbers or bool.
    """
    return (pixels - start).mul_(factor.float()[:, None, None, None]).add_(start).clamp_(0, 255)


def turn_hue(pixels: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of RGB pictures in HSV (Smith, "Color gamut transform pairs", SIGGRAPH 1978).

    Args:
        pixels: (B, 3, H, W) float.
        turns: (B,), parts of the circle of hues.
    """
    red, green, blue = pixels.unbind(1)
    value, low = pixels.amax(1), pixels.amin(1)
    spread = value - low
    divisor = spread.clamp(min=1e-6)  # a grey pixel has no hue and gets none
    from_red, from_green, from_blue = (
        (green - blue),
        (blue - red).add_(divisor, alpha=2),
        (red - green).add_(divisor, alpha=4),
    )
    # 0 for the channel that is the largest, else 1; torch.where takes ten times as long.
    not_red, not_green = (value - red).sign_(), (value - green).sign_()
    side = from_red.lerp_(from_green.lerp_(from_blue, not_green), not_red).div_(divisor)  # from −1 to 5
    side += 6 * turns.float()[:, None, None]
    # Along the hexagon each channel is at its low for two of six sides, on its way for one, at its top for two.
    ways = [((side + start) / 6).frac_().mul_(6) for start in (11, 9, 7)]  # red, green, blue; never negative
    return torch.stack([value - torch.minimum(way, 4 - way).clamp_(0, 1).mul_(spread) for way in ways], 1)


def _factor(draws: Draws, stream: Stream, most: float) -> Tensor:
    return draws.uniform(stream, 1 - most, 1 + most)
