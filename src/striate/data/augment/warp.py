"""The one affine warp: whatever rotates, scales or shifts pictures by less than whole pixels goes through it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from striate.core.errors import DataError

Border = Literal["zeros", "edge", "reflect"]

SMALLEST, LARGEST = 0.1, 10.0  # scales of a warp
_WHOLE = 1e-6  # px: places this near to a pixel are that pixel, so that a quarter turn is exact


def warp(
    images: Tensor,
    *,
    degrees: float | Tensor = 0.0,
    scale: float | Tensor = 1.0,
    shift: tuple[float, float] | Tensor = (0.0, 0.0),
    border: Border = "zeros",
) -> Tensor:
    """Scale and rotate pictures about their centre, then shift them.

    Whole shifts copy pixels, and so do quarter turns of square pictures; every other place is interpolated between
    its four neighbours. What shrinks is first smoothed as much as by an antialiased resize. A picture becomes the
    same whatever others are warped with it.

    Args:
        images: (B, C, H, W), uint8 or float.
        degrees: counter-clockwise, one for all or (B,).
        scale: larger than 1 enlarges what is seen; one for all or (B,).
        shift: pixels (down, right), one for all or (B, 2).
        border: what moves in: ``zeros``; ``edge``, the outermost pixels repeated; ``reflect``, the picture mirrored
            about its outermost pixels.

    Returns:
        (B, C, H, W), of the same type; uint8 is rounded.

    Raises:
        DataError: a number is not finite, a scale is beyond 0.1 to 10, or there is not one for each picture.
    """
    turn = _one_each(images, "degrees", degrees).deg2rad()[:, None, None]
    size = _one_each(images, "scale", scale)
    down, right = _one_each(images, "shift", shift, 2)[:, :, None, None].unbind(1)
    if not ((size >= SMALLEST) & (size <= LARGEST)).all():
        beyond = float(size[(size < SMALLEST) | (size > LARGEST)][0])
        raise DataError(f"scale must be from {SMALLEST} to {LARGEST:.0f}, got {beyond:g}.")
    pixels = images if images.dtype == torch.float64 else images.float()
    # The interpolation's triangle has a variance of 1/6 px²; an antialiased resize has one that is 1 / scale as wide.
    pixels = _smoothed(pixels, ((1 / size**2 - 1).clamp(min=0) / 6).sqrt(), border)
    height, width = images.shape[2:]
    # Places of the result from the centre, then of the picture: against the shift, the turn and the scale.
    row = torch.arange(height, device=images.device).view(-1, 1) - (height - 1) / 2 - down
    column = torch.arange(width, device=images.device) - (width - 1) / 2 - right
    cosine, sine = turn.cos() / size[:, None, None], turn.sin() / size[:, None, None]
    y = cosine * row + sine * column + (height - 1) / 2  # (1 or B, H, W)
    x = cosine * column - sine * row + (width - 1) / 2
    return _as_type_of(images, _interpolated(pixels, y, x, border))


def blur(images: Tensor, sigma: float | Tensor, *, border: Border = "edge") -> Tensor:
    """Smooth pictures with a Gaussian, cut off at 4 σ and summing to 1.

    Args:
        images: (B, C, H, W), uint8 or float.
        sigma: σ in pixels, one for all or (B,); 0 leaves a picture as it is.
        border: what stands around the picture, see `warp`.

    Returns:
        (B, C, H, W), of the same type; uint8 is rounded.

    Raises:
        DataError: σ is negative or not finite, or there is not one for each picture.
    """
    widths = _one_each(images, "sigma", sigma)
    if (widths < 0).any():
        raise DataError(f"sigma must not be negative, got {widths.min():g}.")
    pixels = images if images.dtype == torch.float64 else images.float()
    return _as_type_of(images, _smoothed(pixels, widths, border))


def _as_type_of(images: Tensor, pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else pixels.to(images.dtype)


def _one_each(images: Tensor, name: str, given: float | tuple[float, float] | Tensor, numbers: int = 1) -> Tensor:
    """Return what a warp is given as float64, one row for all pictures or one for each: (1 or B,) or (1 or B, 2)."""
    values = torch.as_tensor(given, dtype=torch.float64, device=images.device)
    single = values.ndim == numbers - 1
    values = values[None] if single else values
    shape = (1 if single else len(images), numbers)[:numbers]
    if values.shape != shape:
        raise DataError(
            f"{name} must be {'a number' if numbers == 1 else '(down, right)'}, or one for each of the {len(images)} "
            f"pictures, got shape {tuple(values.shape)}."
        )
    if not values.isfinite().all():
        raise DataError(f"{name} must be finite, got {given}.")
    return values


def _smoothed(images: Tensor, sigma: Tensor, border: Border) -> Tensor:
    """Smooth float pictures with Gaussians of (1 or B,) σ, first along columns and then along rows."""
    reach = math.ceil(4 * float(sigma.max()))
    if reach == 0:
        return images
    away = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float64)
    # Without what is beyond 4 σ, so that no picture depends on the others: σ of 0 leaves 1 at the middle alone.
    weights = (-away.square() / (2 * sigma[:, None].square().clamp(min=1e-12))).exp() * (
        away.abs() <= 4 * sigma[:, None]
    )
    weights = (weights / weights.sum(1, keepdim=True)).to(images.dtype)[:, :, None, None, None]
    for axis in (2, 3):
        count = images.shape[axis]
        place = torch.arange(-reach, count + reach, device=images.device)
        padded = images.index_select(axis, _inside(place, count, border))
        if border == "zeros":
            padded = padded * ((place >= 0) & (place < count)).view(-1, *[1] * (3 - axis))
        images = sum(
            (padded.narrow(axis, tap, count) * weights[:, tap] for tap in range(2 * reach + 1)),
            start=torch.zeros_like(images),
        )
    return images


def _interpolated(images: Tensor, y: Tensor, x: Tensor, border: Border) -> Tensor:
    """Return float pictures (B, C, H, W) as they are at the places ``y``, ``x``, (1 or B, H, W) each."""
    y, x = (torch.where((place - place.round()).abs() < _WHOLE, place.round(), place) for place in (y, x))
    top, left = y.floor(), x.floor()
    lower, right = y - top, x - left
    corners = [
        (top, left, (1 - lower) * (1 - right)),
        (top, left + 1, (1 - lower) * right),
        (top + 1, left, lower * (1 - right)),
        (top + 1, left + 1, lower * right),
    ]
    height, width = images.shape[2:]
    pixels = images.flatten(2)  # (B, C, H·W)
    total = torch.zeros_like(images)
    for row, column, weight in corners:
        if not weight.any():  # of whole pixels one corner is all
            continue
        if border == "zeros":
            weight = weight * ((row >= 0) & (row < height) & (column >= 0) & (column < width))
        index = _inside(row, height, border) * width + _inside(column, width, border)
        index = index.flatten(1)[:, None].expand(len(images), images.shape[1], -1)
        total += pixels.gather(2, index).view(images.shape) * weight[:, None].to(images.dtype)
    return total


def _inside(place: Tensor, count: int, border: Border) -> Tensor:
    """Return which of ``count`` pixels stands at each place, int64."""
    place = place.long()
    if border != "reflect" or count == 1:
        return place.clamp(0, count - 1)
    period = 2 * (count - 1)
    place = place % period
    return torch.where(place < count, place, period - place)
