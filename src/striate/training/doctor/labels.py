"""Whether labels have to do with pictures at all, asked without any network."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from striate.data.imageset import Split
from striate.data.stream.stream import Stream
from striate.training.run import Run

PICTURES = 2_000  # whose neighbours are looked for
SIDE = 16  # pixels that pictures are shrunk to at most


def neighbours_agree(run: Run) -> tuple[float, float, float]:
    """Return how often a picture has the label of its nearest neighbour, how often by chance, and the deviations apart.

    The test of Schilling (Multivariate two-sample tests based on nearest neighbors, JASA 1986) and Henze (1988) with
    one neighbour: where labels do not depend on pictures, neighbours agree as often as any two pictures, Σ pₖ².
    Copies of the same picture are no evidence and are left out.
    """
    split = sample(run.learned, PICTURES)
    flat, labels = shrunk(split.images), split.labels
    apart = distances(flat)
    apart[apart == 0] = math.inf
    agree = float((labels[apart.argmin(1)] == labels).double().mean())
    shares = torch.bincount(labels).double() / len(labels)
    by_chance = float(shares.square().sum())
    deviation = math.sqrt(max(1e-12, by_chance * (1 - by_chance) / len(labels)))
    return agree, by_chance, (agree - by_chance) / deviation


def sample(learned: Split | Stream, pictures: int) -> Split:
    """Return at most this many of the pictures, evenly spaced; of a stream, some that it has at hand."""
    if isinstance(learned, Stream):
        return learned.some(pictures)
    if len(learned) <= pictures:
        return learned
    return learned[torch.linspace(0, len(learned) - 1, pictures).long()]


def distances(one: Tensor, other: Tensor | None = None) -> Tensor:
    """Return the Euclidean distances (N, M) of one (N, D) to another (M, D) or to itself; exactly 0 between copies."""
    return torch.cdist(one, one if other is None else other, compute_mode="donot_use_mm_for_euclid_dist")


def shrunk(images: Tensor) -> Tensor:
    """Return (N, D) float32 of (N, C, H, W) uint8."""
    pictures = images.float()
    height, width = (min(SIDE, side) for side in pictures.shape[2:])
    return F.adaptive_avg_pool2d(pictures, (height, width)).flatten(1)
