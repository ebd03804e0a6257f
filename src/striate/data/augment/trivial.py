"""TrivialAugment: one change to each picture, any of 14, of any strength (Müller & Hutter, ICCV 2021; the wide space).

The strength has 31 levels. Geometric changes are about the middle of the picture and mirror it at the border, as all of
this package do; the authors' shears are about the corner and fill with black.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.data.augment.colour import blend
from striate.data.augment.draws import Draws, Stream
from striate.data.augment.geometry import Affine, matrix
from striate.data.luminance import luminance

LEVELS = 31
_ROTATION, _SHEAR, _SHIFT = 135.0, 0.99, 32.0  # most degrees, pixels sideways per pixel, pixels
_WEAKEST, _STRONGEST = 0.01, 2.0  # factors of an enhancement
_FEWEST_BITS = 2


class Choice(NamedTuple):
    """What happens to each picture.

    Args:
        operation: (B,) int64, the position in `OPERATIONS`.
        strength: (B,) float64, from 0 to 1 in `LEVELS` steps.
        sign: (B,) int64, 1 or −1: the direction of a geometric change.
    """

    operation: Tensor
    strength: Tensor
    sign: Tensor


def choose(draws: Draws) -> Choice:
    """Draw an operation, a strength and a direction for each picture, all equally likely."""
    return Choice(
        draws.whole(Stream.OPERATION, len(OPERATIONS)),
        draws.whole(Stream.STRENGTH, LEVELS).double() / (LEVELS - 1),
        2 * draws.whole(Stream.SIGN, 2) - 1,
    )


def moved(choice: Choice) -> Tensor:
    """Return the pictures whose operation is geometric: (M,) int64."""
    return (choice.operation >= OPERATIONS.index("rotate")).nonzero().flatten()


def affine(choice: Choice) -> Affine:
    """Return the map of places of the geometric operations; of the others, the one that changes nothing."""
    amount = choice.strength * choice.sign

    def of(operation: str, most: float) -> Tensor:
        return torch.where(choice.operation == OPERATIONS.index(operation), amount * most, 0.0)

    turn = of("rotate", _ROTATION).deg2rad()
    lean = matrix(torch.ones_like(turn), of("shear_y", _SHEAR), of("shear_x", _SHEAR), torch.ones_like(turn))
    rotated = matrix(turn.cos(), turn.sin(), -turn.sin(), turn.cos())  # of a picture, one of the two changes nothing
    return Affine(lean @ rotated, torch.stack([of("translate_y", _SHIFT), of("translate_x", _SHIFT)], 1))


def recolour(images: Tensor, choice: Choice) -> Tensor:
    """Apply the operations that are not geometric.

    Args:
        images: (B, C, H, W) uint8.

    Returns:
        (B, C, H, W) uint8.
    """
    result = images.clone()
    for name, change in _COLOURS.items():
        chosen = (choice.operation == OPERATIONS.index(name)).nonzero().flatten()
        if len(chosen):
            result.index_copy_(0, chosen, change(images.index_select(0, chosen), choice.strength[chosen]))
    return result


def auto_contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Stretch each channel from its darkest and lightest values to 0 and 255."""
    low, high = images.flatten(2).aminmax(dim=2, keepdim=True)  # (B, C, 1)
    scale = 255 / (high - low).double().clamp(min=1)
    table = ((_values(images) - low) * scale).clamp(0, 255)
    return _looked_up(images, torch.where(high > low, table, _values(images)))


def equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Give each channel a histogram that is about flat."""
    flat = images.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    below = counts.cumsum(2) - counts
    last = counts.gather(2, images.flatten(2).amax(2, keepdim=True).long())
    step = (flat.shape[2] - last) // 255
    table = (step // 2 + below) // step.clamp(min=1)
    return _looked_up(images, torch.where(step > 0, table.clamp(max=255), _values(images)))


def solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Invert the values from a threshold on: none at strength 0, all at 1."""
    threshold = 256 - (256 * strength).long()[:, None, None]
    values = _values(images)
    return _looked_up(images, torch.where(values < threshold, values, 255 - values))


def posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Keep the first bits of each value: 8 at strength 0, 2 at 1."""
    dropped = ((8 - _FEWEST_BITS) * strength + 1e-6).long()[:, None, None]  # a whole number may lie just under itself
    return _looked_up(images, _values(images) >> dropped << dropped)


def brightness(images: Tensor, strength: Tensor) -> Tensor:
    """Multiply by a factor of 0.01 to 2."""
    return _looked_up(images, blend(torch.zeros(()), _values(images)[..., None].float(), _factor(strength))[..., 0])


def contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Move every value from the mean luminance by a factor of 0.01 to 2."""
    mean = luminance(images.float()).mean((2, 3), keepdim=True).round()
    return _looked_up(images, blend(mean, _values(images)[..., None].float(), _factor(strength))[..., 0])


def color(images: Tensor, strength: Tensor) -> Tensor:
    """Move every pixel from its luminance by a factor of 0.01 to 2."""
    pixels = images.float()
    return blend(luminance(pixels), pixels, _factor(strength)).round_().to(torch.uint8)


def sharpness(images: Tensor, strength: Tensor) -> Tensor:
    """Move every pixel but the outermost from the mean of its 3×3, itself five times, by a factor of 0.01 to 2."""
    pixels = images.float()
    kernel = torch.full((1, 1, 3, 3), 1 / 13, device=images.device)
    kernel[..., 1, 1] = 5 / 13
    smooth = pixels.clone()
    if min(images.shape[2:]) > 2:
        smooth[..., 1:-1, 1:-1] = F.conv2d(pixels.flatten(0, 1)[:, None], kernel).view_as(pixels[..., 1:-1, 1:-1])
    return blend(smooth, pixels, _factor(strength)).round_().to(torch.uint8)


_COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "solarize": solarize,
    "posterize": posterize,
    "brightness": brightness,
    "contrast": contrast,
    "color": color,
    "sharpness": sharpness,
}
_GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = ("identity", *_COLOURS, *_GEOMETRIC)


def _factor(strength: Tensor) -> Tensor:
    return _WEAKEST + (_STRONGEST - _WEAKEST) * strength


def _values(images: Tensor) -> Tensor:
    """Return the 256 values of each picture's table before it changes anything: (B, 1, 256) int64."""
    return torch.arange(256, device=images.device).expand(len(images), 1, -1)


def _looked_up(images: Tensor, table: Tensor) -> Tensor:
    """Return what a table, (B, 1 or C, 256), makes of each value; fractions are cut off, as a table of bytes does."""
    table = table.to(torch.uint8).expand(-1, images.shape[1], -1)
    return table.gather(2, images.flatten(2).long()).view_as(images)
