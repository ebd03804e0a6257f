"""Mixup and cutmix: pictures of a batch mixed with each other, and their labels with them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.data.augment.boxes import inside_boxes
from striate.data.augment.draws import Draws, Stream
from striate.data.augment.policy import Augmentation

_QUANTILES = 4096  # steps of the table that Beta draws are read from


def mix(
    pictures: Tensor, labels: Tensor, index: Tensor, policy: Augmentation, *, classes: int, epoch: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Mix each picture with another of its batch, and its label too, as the policy says.

    Mixup (Zhang et al., ICLR 2018) keeps a share λ ~ Beta(α, α) of the picture and takes the rest from its partner.
    Cutmix (Yun et al., ICCV 2019) pastes a box of the partner's that covers 1 − λ, less what lies beyond the border.
    Where both are asked for, each picture gets one of them. λ is drawn per picture, and the partner depends on which
    pictures are in the batch and not on their order.

    Args:
        pictures: (B, C, H, W) float, normalised.
        labels: (B,) int64, or (B, K) uint8.
        index: (B,) int64, the position of each picture in its split.
        classes: K.

    Returns:
        The pictures and the targets of the loss: ``labels`` as they are where nothing is mixed, else (B, K) float32,
        the share of each class.
    """
    if not (policy.mixup or policy.cutmix):
        return pictures, labels
    draws = Draws(index, epoch, seed)
    partner = partners(draws)
    other = _weights_of_other(draws, policy, (pictures.shape[2], pictures.shape[3]))
    targets = F.one_hot(labels, classes).float() if labels.ndim == 1 else labels.float()
    share = other.mean((1, 2, 3))[:, None]
    mixed = pictures.lerp(pictures.index_select(0, partner), other)
    return mixed, targets.lerp(targets.index_select(0, partner), share)


def partners(draws: Draws) -> Tensor:
    """Return the position in the batch of each picture's partner: the next one in a random order, (B,) int64."""
    order = draws.bits(Stream.PARTNER).argsort()
    return torch.empty_like(order).scatter_(0, order, order.roll(-1))


def _weights_of_other(draws: Draws, policy: Augmentation, size: tuple[int, int]) -> Tensor:
    """Return the part of each pixel that is the partner's: (B, 1, 1, 1), or (B, 1, H, W) where there are boxes."""
    if not policy.cutmix:
        return _beta(draws, policy.mixup).float()[:, None, None, None]
    boxes = _draw_boxes(draws, policy.cutmix, size).float()
    if not policy.mixup:
        return boxes
    blended = draws.chance(Stream.MIXTURE, 0.5).float()[:, None, None, None]
    return boxes.lerp(_beta(draws, policy.mixup).float()[:, None, None, None], blended)


def _draw_boxes(draws: Draws, alpha: float, size: tuple[int, int]) -> Tensor:
    """Return which pixels are pasted: boxes with the picture's proportions about a random pixel, (B, 1, H, W) bool."""
    side = _beta(draws, alpha).sqrt()
    rows, columns = (side * size[0]).round(), (side * size[1]).round()
    top = draws.whole(Stream.CUTMIX_TOP, size[0]) - (rows / 2).floor()
    left = draws.whole(Stream.CUTMIX_LEFT, size[1]) - (columns / 2).floor()
    return inside_boxes(top, left, rows, columns, size)


def _beta(draws: Draws, alpha: float) -> Tensor:
    """Return the partner's share, 1 − λ, of each picture: (B,) float64, of Beta(α, α), which is symmetric."""
    table = _beta_quantiles(alpha).to(draws.index.device)
    place = draws.uniform(Stream.SHARE, 0.0, float(_QUANTILES))
    before = place.long()
    return table[before].lerp(table[before + 1], place - before)


@cache
def _beta_quantiles(alpha: float) -> Tensor:
    from scipy.special import betaincinv  # the import takes longer than a batch

    return torch.from_numpy(np.asarray(betaincinv(alpha, alpha, np.linspace(0, 1, _QUANTILES + 1))))
