"""Which of many thumbnails show the same picture: found by a perceptual hash, then compared pixel by pixel.

The hash has one bit for the sign of each of the 64 lowest frequencies of the cosine transform of the brightness, the
mean left out. A picture that was compressed again, resized, made brighter or of more contrast changes few of them; one
whose margins were cut changes many, so that each picture is also looked for as it would be with its margins cut.
Mirrored copies are not looked for.

What has a similar hash is compared in three ways. The colours as a whole must correlate, and the structural similarity
(Wang, Bovik, Sheikh and Simoncelli, IEEE Transactions on Image Processing 13, 2004) must be high nearly everywhere: two
shirts on one cloth correlate as a whole, and differ where their prints are. The shapes must correlate too, without the
hues: all empty skies are of one blue, and what flies in them differs.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from striate.data.audit.examine import SIDE
from striate.data.audit.neighbours import Codes, Pairs, candidates, neighbours
from striate.data.luminance import luminance

RADIUS = 8  # bits in which the hashes of two of the same may differ
LIKENESS = 0.9  # least correlation of the colours at 16×16
LIKENESS_IN_CROWD = 0.997  # where pictures resemble each other anyway
SHAPE = 0.87  # least correlation of the same without the mean of each colour
STRUCTURE = 0.7  # least structural similarity in nine of ten places
MARGINS = (0, 1, 2)  # px of 32 that are cut on each side: 0, 3 and 6 %
QUICK_RADIUS = 3  # bits: four look-ups for each picture
LEAST_CONTRAST = 3.0  # levels; the deviation of a picture under which its hash is noise
_BUDGET = 1_000  # comparisons of hashes per picture, at most
_RESEMBLING = 1  # pairs of hashes as near, per picture, from which pictures are a crowd

_BITS, _QUARTERS = 64, 4
_COMPARED = 16  # px
_PATCH = 8  # px of 32, the side of what is compared on its own; patches overlap by half
_ELSEWHERE = 0.1  # part of the patches that may differ: a date, a sign of whoever put it on the net
_FLAT = 0.01  # of a picture's variance; a patch with less is not told by its structure
_AT_ONCE = 4096


@final
class Alike(NamedTuple):
    """Pairs of pictures that show the same.

    Args:
        pairs: (P, 2) positions, the smaller first, sorted, each pair once.
        likeness: (P,) their correlation, at most 1.
        crowded: whether the pictures resemble each other so much (digits, garments on black) that their shapes tell
            nothing: then only copies that are nearly equal are found.
    """

    pairs: Pairs
    likeness: NDArray[np.float32]
    crowded: bool


def find_alike(thumbnails: Tensor, usable: NDArray[np.bool_], *, quick: bool = False) -> Alike:
    """Find the pairs of pictures that show the same.

    Args:
        thumbnails: (N, C, h, w) uint8; of other than 32×32 they are resized.
        usable: (N,) which are to be compared: none that can hardly be told from one of a single colour.
        quick: look for hashes that differ in `QUICK_RADIUS` bits, and not for cut margins.
    """
    chosen = np.flatnonzero(usable)
    codes = hashes(thumbnails, chosen)
    radius = QUICK_RADIUS if quick else RADIUS
    while radius > 0 and candidates(codes, codes, radius) > _BUDGET * len(chosen):
        radius = max(0, radius - 4)
    whole = _distinct(codes, codes, radius)
    crowded = len(whole) // 2 > _RESEMBLING * len(chosen)  # each pair is there in both orders
    least = LIKENESS_IN_CROWD if crowded else LIKENESS
    best: dict[tuple[int, int], float] = {}
    for margin in MARGINS[:1] if crowded or quick else MARGINS:
        near = (
            _distinct(codes, hashes(thumbnails, chosen, margin), radius) if margin else whole[whole[:, 0] < whole[:, 1]]
        )
        for start in range(0, len(near), _AT_ONCE):
            pairs = chosen[near[start : start + _AT_ONCE]]
            likeness = _likeness(thumbnails, pairs, margin)
            same = likeness >= least
            same[same] = _likeness(thumbnails, pairs[same], margin, hues=False) >= SHAPE
            same[same] = _structure(thumbnails, pairs[same], margin) >= STRUCTURE
            for (one, other), value in zip(np.sort(pairs[same]).tolist(), likeness[same].tolist(), strict=True):
                best[one, other] = max(best.get((one, other), 0.0), value)
    order = sorted(best)
    values = np.array([best[pair] for pair in order], dtype=np.float32)
    return Alike(np.array(order, dtype=np.int64).reshape(-1, 2), values, crowded)


def hashes(thumbnails: Tensor, chosen: NDArray[np.int64], margin: int = 0) -> Codes:
    """Return the perceptual hash of some thumbnails, (M,) of 64 bits.

    Args:
        thumbnails: (N, C, h, w) uint8.
        chosen: (M,) positions.
        margin: px of 32 that are cut on each side first.
    """
    basis, frequencies = _cosines()
    codes = np.empty(len(chosen), dtype=np.uint64)
    # Neighbouring frequencies go into different quarters of the code, so that all four are equally telling.
    places = np.array([bit % _QUARTERS * (_BITS // _QUARTERS) + bit // _QUARTERS for bit in range(_BITS)])
    weights = np.uint64(1) << places.astype(np.uint64)
    for start in range(0, len(chosen), _AT_ONCE):
        grey = luminance(_cut(thumbnails[torch.from_numpy(chosen[start : start + _AT_ONCE])], margin))[:, 0]
        waves = (basis @ grey @ basis.T).flatten(1)[:, frequencies]
        codes[start : start + _AT_ONCE] = ((waves > 0).numpy() * weights).sum(1, dtype=np.uint64)
    return codes


def contrast(thumbnails: Tensor) -> NDArray[np.float32]:
    """Return (N,) the standard deviation of each picture's values, in levels."""
    deviations = [np.zeros(0, np.float32)]
    for start in range(0, len(thumbnails), _AT_ONCE):
        levels = thumbnails[start : start + _AT_ONCE].flatten(1).float()
        levels -= levels.mean(1, keepdim=True)
        deviations.append((levels.norm(dim=1) / levels.shape[1] ** 0.5).numpy())
    return np.concatenate(deviations)


def _distinct(codes: Codes, queries: Codes, radius: int) -> Pairs:
    """Return the neighbours, each (query, indexed) once, without those of itself."""
    found = [pairs[:, 0] * len(codes) + pairs[:, 1] for pairs in neighbours(codes, queries, radius)]
    keys = np.unique(np.concatenate([np.zeros(0, np.int64), *found]))
    one, other = np.divmod(keys, max(1, len(codes)))
    pairs: Pairs = np.stack([one, other], axis=1)[one != other]
    return pairs


def _likeness(thumbnails: Tensor, pairs: Pairs, margin: int, *, hues: bool = True) -> NDArray[np.float32]:
    """Return (P,) the correlation of the first of each pair, its margin cut, with the second.

    Args:
        hues: whether what one colour has more than another counts.
    """
    one, other = (thumbnails[torch.from_numpy(np.ascontiguousarray(pairs[:, side]))] for side in (0, 1))
    product = _standardised(_cut(one, margin), hues) * _standardised(_cut(other, 0), hues)
    return np.asarray(product.sum(1).numpy(), dtype=np.float32)


def _structure(thumbnails: Tensor, pairs: Pairs, margin: int) -> NDArray[np.float32]:
    """Return (P,) the structural similarity of the first of each pair, its margin cut, with the second.

    That of the worst place but a tenth: 1 where the patches of both have the same pattern, strong or weak alike.
    """
    lowest = [np.zeros(0, np.float32)]
    for start in range(0, len(pairs), _AT_ONCE):
        block = np.ascontiguousarray(pairs[start : start + _AT_ONCE].T)
        one, other = (
            _unit_variance(_cut(thumbnails[torch.from_numpy(numbers)], cut))
            for numbers, cut in zip(block, (margin, 0), strict=True)
        )
        covariance = _patches(one * other) - _patches(one) * _patches(other)
        variances = (_patches(each.square()) - _patches(each).square() for each in (one, other))
        similarity = (covariance + _FLAT) / (sum(variances, torch.zeros(())) / 2 + _FLAT)
        lowest.append(similarity.flatten(1).quantile(_ELSEWHERE, dim=1).numpy())
    return np.concatenate(lowest)


def _unit_variance(pictures: Tensor) -> Tensor:
    levels = pictures - pictures.mean((1, 2, 3), keepdim=True)
    return levels / levels.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)


def _patches(values: Tensor) -> Tensor:
    """Return (P, 7, 7) the means over patches and channels of (P, C, 32, 32)."""
    return F.avg_pool2d(values.mean(1), _PATCH, _PATCH // 2)


def _standardised(pictures: Tensor, hues: bool) -> Tensor:
    """Return (M, 768) colours at 16×16, of length 1, without their mean: one for all where hues count, else of each."""
    small = F.adaptive_avg_pool2d(pictures, _COMPARED)
    flat = (small - small.mean((1, 2, 3) if hues else (2, 3), keepdim=True)).flatten(1)
    unit: Tensor = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return unit


def _cut(pictures: Tensor, margin: int) -> Tensor:
    """Return pictures as (M, C, 32, 32) floats without a margin."""
    scale = margin / SIDE
    top, left = (round(scale * side) for side in pictures.shape[-2:])
    inner = pictures[..., top : pictures.shape[-2] - top, left : pictures.shape[-1] - left].float()
    return inner if inner.shape[-2:] == (SIDE, SIDE) else F.interpolate(inner, (SIDE, SIDE), mode="bilinear")


def _cosines() -> tuple[Tensor, list[int]]:
    """Return (9, 32) rows of the cosine transform, and which 64 of its 81 products have the lowest frequencies."""
    places = (torch.arange(SIDE) + 0.5) * torch.pi / SIDE
    basis = torch.cos(torch.arange(9)[:, None] * places)
    order = sorted(range(81), key=lambda place: (place // 9 + place % 9, place // 9))
    return basis, order[1 : _BITS + 1]
