"""Numbers as colours: a few palettes that colour-blind eyes can read, and the scale that says which value is which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Palette = Literal["grey", "heat", "diverging", "green-red"]

# Colours at equal distances from the lowest value to the highest; between two of them, in proportion.
_ANCHORS: Mapping[Palette, tuple[str, ...]] = {
    "grey": ("#000000", "#ffffff"),
    # Perceptually uniform: viridis of S. van der Walt and N. Smith, 2015.
    "heat": ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"),
    # Blue below zero, orange above it.
    "diverging": ("#123c69", "#3f7fb5", "#a9cce3", "#f7f7f7", "#f5c08a", "#d9772b", "#7f3b08"),
    # Red below zero, green above it; a grid marks what is below zero with dashes besides.
    "green-red": ("#7a0010", "#d7302a", "#f6b4a8", "#ffffff", "#aedba6", "#2f9e4f", "#00401a"),
}
ABOUT_ZERO: frozenset[Palette] = frozenset({"diverging", "green-red"})


@dataclass(frozen=True)
class Scale:
    """Which colour stands for which value; values beyond the ends take the colour of the end.

    Args:
        palette: ``grey`` and ``heat`` rise from dark to light; ``diverging`` (blue, orange) and ``green-red`` are
            pale at the middle, which should be 0.
        low, high: the values at the ends.
        meaning: what the values are, with their unit, for the legend.
    """

    palette: Palette
    low: float
    high: float
    meaning: str = ""

    @classmethod
    def of(cls, values: Tensor, palette: Palette = "heat", meaning: str = "") -> Scale:
        """Return the scale that just holds all finite values, symmetric about 0 where the palette is."""
        finite = values[values.isfinite()]
        low, high = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 0.0)
        if palette in ABOUT_ZERO:
            high = max(abs(low), abs(high))
            low = -high
        return cls(palette, low, high, meaning)

    def colours(self, values: Tensor) -> Tensor:
        """Return the colour of each value.

        Args:
            values: (…), any float type.

        Returns:
            (…, 3) uint8; mid-grey where a value is not a number. A scale without extent shows its middle colour.
        """
        anchors = torch.tensor([_rgb(colour) for colour in _ANCHORS[self.palette]])  # (A, 3)
        span = self.high - self.low
        place = (values.double() - self.low) / span if span > 0 else torch.full_like(values, 0.5, dtype=torch.float64)
        position = place.nan_to_num(0.5).clamp(0, 1) * (len(anchors) - 1)
        left = position.floor().clamp(max=len(anchors) - 2).long()
        share = (position - left)[..., None]
        mixed = anchors[left] * (1 - share) + anchors[left + 1] * share
        mixed[values.isnan()] = 128
        return mixed.round().to(torch.uint8)


def overlaid(picture: Tensor, values: Tensor, scale: Scale, opacity: float = 0.6) -> Tensor:
    """Return a picture in grey with coloured values upon it.

    Args:
        picture: (1 or 3, H, W) uint8.
        values: (H, W).
        opacity: of the colours, 0–1.

    Returns:
        (3, H, W) uint8.
    """
    grey = picture.double().mean(0, keepdim=True).expand(3, -1, -1)
    colours = scale.colours(values).permute(2, 0, 1).double()  # (H, W, 3) → (3, H, W)
    return (grey * (1 - opacity) + colours * opacity).round().to(torch.uint8)


def _rgb(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
