"""Boxes in pictures: random erasing fills one, cutmix pastes one."""

from __future__ import annotations

import torch
from torch import Tensor

from striate.data.augment.draws import Draws, Stream

# Zhong et al., "Random erasing data augmentation", AAAI 2020, section 4: area of the picture, width / height.
_AREA = (0.02, 0.4)
_PROPORTION = 1 / 0.3


def erase(images: Tensor, draws: Draws, probability: float) -> Tensor:
    """Fill a box of some pictures with their mean colour (Zhong et al., AAAI 2020).

    The box covers 2 to 40 % of the picture; its width / height, in the picture's own, is 0.3 to 3.3. Cutout (DeVries &
    Taylor 2017) is the same with a square of one size.

    Args:
        images: (B, C, H, W) uint8.

    Returns:
        (B, C, H, W) uint8.
    """
    height, width = images.shape[2:]
    area = draws.uniform(Stream.ERASE_AREA, *_AREA)
    proportion = draws.proportions(Stream.ERASE_PROPORTION, area, _PROPORTION)
    rows = (height * (area / proportion).sqrt()).round().clamp(1, height)
    columns = (width * (area * proportion).sqrt()).round().clamp(1, width)
    top = draws.uniform(Stream.ERASE_TOP, 0.0, height - rows + 1).floor()
    left = draws.uniform(Stream.ERASE_LEFT, 0.0, width - columns + 1).floor()
    inside = inside_boxes(top, left, rows, columns, (height, width))
    inside &= draws.chance(Stream.ERASE, probability)[:, None, None, None]
    filled = inside.to(torch.uint8)
    mean = images.float().mean((2, 3), keepdim=True).round_().to(torch.uint8)
    return (images * (1 - filled)).add_(mean * filled)  # a tenth of the time of torch.where


def inside_boxes(top: Tensor, left: Tensor, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """Return which pixels of pictures of ``size`` are in the boxes, (B,) each: (B, 1, H, W) bool."""
    row = torch.arange(size[0], device=top.device)
    column = torch.arange(size[1], device=top.device)
    across = (row >= top[:, None]) & (row < (top + rows)[:, None])
    along = (column >= left[:, None]) & (column < (left + columns)[:, None])
    return (across[:, :, None] & along[:, None, :])[:, None]
