"""Occlusion: what the logit loses when a square of the picture is covered.

M. D. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2. Differences:
the logit instead of the probability, which a sure answer hardly changes; and a pixel's value is the mean of all squares
that covered it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from striate.inspection.saliency.registry import METHODS, Method, at_once, score

WINDOWS_ACROSS = 7  # the square's side is a seventh of the picture's, and it moves by half of that: 13 × 13 places


def occlusion(
    network: nn.Module, inputs: Tensor, targets: Tensor, *, window: int | None = None, stride: int | None = None
) -> Tensor:
    """Return what the logit loses without each pixel, negative where it gains: (N, H, W) logits.

    Args:
        network: in evaluation mode.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
        window: the square's side in pixels; a seventh of the picture's shorter side where None.
        stride: pixels by which it moves; half of the window where None. At the lower and right edge it is cut off.
    """
    height, width = inputs.shape[-2:]
    window = window or max(1, round(min(height, width) / WINDOWS_ACROSS))
    stride = stride or max(1, window // 2)
    masks = windows(height, width, window, stride).to(inputs.device)  # (P, H, W)
    whole = score(network, inputs, targets)
    maps = []
    for picture, target, before in zip(inputs, targets, whole, strict=True):
        losses = []
        for part in torch.split(masks, at_once(inputs)):
            covered = picture * ~part[:, None]  # (P, C, H, W), 0 being the mean colour
            losses.append(before - score(network, covered, target.expand(len(part))))
        weights = masks.to(inputs.dtype)
        total = torch.einsum("p,phw->hw", torch.cat(losses), weights)
        maps.append(total / weights.sum(0).clamp(min=1))
    return torch.stack(maps)


def windows(height: int, width: int, window: int, stride: int) -> Tensor:
    """Return where the square is at each of its places: (P, H, W) bool."""

    def covers(side: int) -> Tensor:
        places = math.ceil(max(0, side - window) / stride) + 1
        starts = torch.arange(places)[:, None] * stride
        pixels = torch.arange(side)
        return (pixels >= starts) & (pixels < starts + window)  # (places, side)

    return (covers(height)[:, None, :, None] & covers(width)[None, :, None, :]).flatten(0, 1)


METHODS.add("occlusion")(
    Method(
        "Occlusion", occlusion, "what the logit loses when the pixel is covered", "Zeiler and Fergus 2014, section 4.2"
    )
)
