"""Where each pixel of an augmented picture comes from: crop, zoom, shear, rotation and shift are one affine map.

However many of them are asked for, a picture is interpolated once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.data.augment.draws import Draws, Stream
from striate.data.augment.policy import Augmentation

_PROPORTION = 4 / 3  # of a random resized crop: width / height from 3/4 to this, in the picture's own


class Affine(NamedTuple):
    """A map of places: (row, column) → ``linear`` · (row, column) + ``offset``, from the middle of either picture.

    Args:
        linear: (B, 2, 2).
        offset: (B, 2), in pixels.
    """

    linear: Tensor
    offset: Tensor

    def after(self, first: Affine) -> Affine:
        """Return the map that applies ``first`` and then this one."""
        return Affine(self.linear @ first.linear, (self.linear @ first.offset[:, :, None])[:, :, 0] + self.offset)


class Window(NamedTuple):
    """The part of each stored picture that is shown, in pixels from its top left corner: (B,) float64 each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def draw_window(draws: Draws, policy: Augmentation, stored: tuple[int, int], size: tuple[int, int]) -> Window:
    """Draw the crop: ``size`` at a random position, or a random resized crop (Szegedy et al., CVPR 2015, section 6).

    The area of a resized crop is uniform from ``crop_area`` to 1 of the stored picture's, its proportions log-uniform
    from 3/4 to 4/3 of them as far as the crop fits.
    """
    if policy.crop_area == 1:
        top = draws.whole(Stream.TOP, stored[0] - size[0] + 1).double()
        left = draws.whole(Stream.LEFT, stored[1] - size[1] + 1).double()
        return Window(top, left, torch.full_like(top, size[0]), torch.full_like(left, size[1]))
    area = draws.uniform(Stream.AREA, policy.crop_area, 1.0)
    proportion = draws.proportions(Stream.PROPORTION, area, _PROPORTION)
    height, width = stored[0] * (area / proportion).sqrt(), stored[1] * (area * proportion).sqrt()
    top = draws.uniform(Stream.TOP, 0.0, (stored[0] - height).clamp(min=0))
    left = draws.uniform(Stream.LEFT, 0.0, (stored[1] - width).clamp(min=0))
    return Window(top, left, height, width)


def crop_and_resize(images: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """Resize the window of each picture, antialiased as in `preprocess`: one matrix for its rows, one for its columns.

    Args:
        images: (B, C, h, w) uint8.
        size: (H, W) of the result.

    Returns:
        (B, C, H, W) uint8.
    """
    rows = _triangles(window.top, window.height, size[0], images.shape[2])[:, None]  # (B, 1, H, h)
    columns = _triangles(window.left, window.width, size[1], images.shape[3])[:, None]  # (B, 1, W, w)
    return (rows @ (images.float() @ columns.mT)).round_().to(torch.uint8)


def draw_shift(draws: Draws, most: int) -> tuple[Tensor, Tensor]:
    """Draw by how many pixels each picture is moved down and to the right: (B,) int64 each."""
    bits, span = draws.bits(Stream.SHIFT), 2 * most + 1
    return bits % span - most, bits // span % span - most


def draw_affine(
    draws: Draws, policy: Augmentation, window: Window, stored: tuple[int, int], size: tuple[int, int]
) -> Affine:
    """Draw the map from places of the result to places of the stored picture, whose window is shown.

    The window is zoomed, sheared and turned about its middle, then shifted. Zooms are log-uniform, all else uniform.
    """
    turn = draws.uniform(Stream.ROTATION, -policy.rotation, policy.rotation).deg2rad()
    lean = draws.uniform(Stream.SHEAR, -policy.shear, policy.shear).deg2rad().tan()
    zero, one = torch.zeros_like(turn), torch.ones_like(turn)
    back = matrix(one, zero, lean, one) @ matrix(turn.cos(), turn.sin(), -turn.sin(), turn.cos())
    moved = Affine(back, torch.zeros_like(back[:, 0]))
    down, right = draw_shift(draws, policy.shift)
    shifted = Affine(matrix(one, zero, zero, one), -torch.stack([down, right], 1).double())
    step = draw_steps(draws, policy, window, size)
    middle = [window.top + (window.height - stored[0]) / 2, window.left + (window.width - stored[1]) / 2]
    shown = Affine(matrix(step[:, 0], zero, zero, step[:, 1]), torch.stack(middle, 1))
    return shown.after(moved).after(shifted)


def draw_steps(draws: Draws, policy: Augmentation, window: Window, size: tuple[int, int]) -> Tensor:
    """Return how many stored pixels each pixel of the result stands for, along columns and along rows: (B, 2)."""
    most = math.log(policy.zoom)
    smaller = draws.uniform(Stream.ZOOM, -most, most).exp()
    return torch.stack([window.height * smaller / size[0], window.width * smaller / size[1]], 1)


def matrix(first: Tensor, second: Tensor, third: Tensor, fourth: Tensor) -> Tensor:
    """Return the matrices of four numbers each, (B,), row by row: (B, 2, 2)."""
    return torch.stack([first, second, third, fourth], 1).view(-1, 2, 2)


def resample(images: Tensor, source: Affine, size: tuple[int, int], steps: Tensor | None = None) -> Tensor:
    """Return pictures as an affine map shows them, interpolated between four neighbours; the border mirrors them.

    Args:
        images: (B, C, h, w) uint8.
        source: from places of the result to places of ``images``.
        size: (H, W) of the result.
        steps: (B, 2), as `draw_steps` returns them: what shrinks is first smoothed as much as by an antialiased resize.

    Returns:
        (B, C, H, W) uint8.
    """
    pixels = images.float()
    if steps is not None:
        some = (steps > 1).any(1).nonzero().flatten()
        pixels.index_copy_(0, some, _smoothed(pixels.index_select(0, some), steps[some]))
    middle = source.offset + torch.tensor([images.shape[2] - 1, images.shape[3] - 1], device=images.device) / 2
    row = torch.arange(size[0], device=images.device)[:, None] - (size[0] - 1) / 2
    column = torch.arange(size[1], device=images.device) - (size[1] - 1) / 2
    places = []
    for axis in (1, 0):  # grid_sample takes x first, from −1 in the middle of the first pixel to 1 in that of the last
        along = 2 / max(images.shape[2 + axis] - 1, 1)
        down, right = (source.linear[:, axis] * along).float().T[:, :, None, None]
        places.append(down * row + (right * column + (middle[:, axis] * along - 1).float()[:, None, None]))
    seen = F.grid_sample(pixels, torch.stack(places, 3), padding_mode="reflection", align_corners=True)
    return seen.round_().to(torch.uint8)


def _smoothed(pixels: Tensor, steps: Tensor) -> Tensor:
    """Smooth float pictures, each as its steps ask for: the triangle of an antialiased resize, of as many pixels, has
    a variance of step² / 6, and the interpolation that follows brings 1 / 6 of it."""
    sigma = ((steps**2 - 1).clamp(min=1e-6) / 6).sqrt()
    for axis in (0, 1):
        place = torch.arange(pixels.shape[2 + axis], device=pixels.device)
        weights = ((place[:, None] - place) / sigma[:, axis, None, None].float()).square_().mul_(-0.5).exp_()
        weights = (weights / weights.sum(2, keepdim=True))[:, None]  # (B, 1, h, h)
        pixels = weights @ pixels if axis == 0 else pixels @ weights.mT
    return pixels


def _triangles(start: Tensor, length: Tensor, pixels: int, source: int) -> Tensor:
    """Return what of ``source`` pixels is in each of the ``pixels`` that a window is resized to: (B, pixels, source).

    A triangle about the middle of the result's pixel, as wide as two of the result's pixels or two of the source's,
    whichever is more; what lies beyond the picture is left out.
    """
    step = (length / pixels)[:, None]
    middle = start[:, None] + (torch.arange(pixels, device=start.device) + 0.5) * step - 0.5  # (B, pixels)
    away = (torch.arange(source, device=start.device) - middle.float()[:, :, None]).abs_()
    weights = (1 - away / step.clamp(min=1).float()[:, :, None]).clamp_(min=0)
    return weights / weights.sum(2, keepdim=True)
