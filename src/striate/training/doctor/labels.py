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
MOST_BYTES = 2**25  # of pictures that are looked at: of large ones there are fewer
VOTES, AGREE = 10, 6  # neighbours, and how many of them have one label where they agree
SIDE = 16  # pixels that pictures are shrunk to at most
_AT_ONCE = 32  # pictures as float, and rows of distances
_COPIES = 1e-6  # squared distance of shrunk pictures: those below it are the same, but for what is rounded


def neighbours_agree(run: Run) -> tuple[float, float, float]:
    """Return how often a picture has the label of its nearest neighbour, how often by chance, and that one's deviation.

    The test of Schilling (Multivariate two-sample tests based on nearest neighbors, JASA 1986) and Henze (1988) with
    one neighbour: where labels do not depend on pictures, neighbours agree as often as any two pictures, Σ pₖ².
    Copies of the same picture are no evidence and are left out.
    """
    split = sample(run.learned, PICTURES)
    flat, labels = shrunk(split.images), split.labels
    agree = float((labels[nearest(flat, flat)] == labels).double().mean())
    shares = torch.bincount(labels).double() / len(labels)
    by_chance = float(shares.square().sum())
    deviation = math.sqrt(max(1e-12, by_chance * (1 - by_chance) / len(labels)))
    return agree, by_chance, deviation


def outvoted(run: Run) -> tuple[float, float, int]:
    """Return how often most neighbours of a picture agree, beyond chance, and how often none of these has its label.

    Of ten neighbours at least six, with the label of none of them: that a label is wrong is then likely (Wilson,
    Asymptotic properties of nearest neighbor rules using edited data, 1972, drops such pictures). Pictures of classes
    that are too rare for neighbours of their own are left out.

    Returns:
        Of all pictures the part for which most neighbours have the right label, 0 for as many as by always saying the
        most frequent one and 1 for all; of those whose neighbours agree, the part whose label none of them has; how
        many these are.
    """
    split, classes = sample(run.learned, PICTURES), run.spec.task.classes
    flat, labels = shrunk(split.images), split.labels
    near = labels[neighbours(flat, flat, VOTES)]  # (N, VOTES)
    said = near.mode(1).values
    counts = torch.bincount(labels, minlength=classes)
    asked = ((near == said[:, None]).sum(1) >= AGREE) & (counts[labels] >= 2 * VOTES)
    guessed = float(counts.max()) / len(labels)
    skill = (float((said == labels).double().mean()) - guessed) / max(1e-12, 1 - guessed)
    none = (near != labels[:, None]).all(1)[asked]
    return skill, float(none.double().mean()) if len(none) else 0.0, len(none)


def sample(learned: Split | Stream, pictures: int) -> Split:
    """Return at most this many of the pictures, and of MOST_BYTES, evenly spaced; of a stream, what it has at hand."""
    pictures = max(1, min(pictures, MOST_BYTES // math.prod(learned.spec.input.shape)))
    if isinstance(learned, Stream):
        return learned.some(pictures)
    if len(learned) <= pictures:
        return learned
    return learned[torch.linspace(0, len(learned) - 1, pictures).long()]


def nearest(ones: Tensor, others: Tensor, *, copies: bool = False) -> Tensor:
    """Return which of ``others`` (M, D) is nearest to each of ``ones`` (N, D), as (N,) int64. See `neighbours`."""
    return neighbours(ones, others, 1, copies=copies)[:, 0]


def neighbours(ones: Tensor, others: Tensor, count: int, *, copies: bool = False) -> Tensor:
    """Return which of ``others`` (M, D) are nearest to each of ``ones`` (N, D), by Euclid, as (N, count) int64.

    Args:
        count: at most M of them.
        copies: whether an equal one counts; where ``ones`` are among ``others``, each finds itself then.
    """
    others = others.double()  # in float32 the rounding is more than pictures differ by
    lengths = others.square().sum(1)
    found = []
    for some in torch.split(ones.double(), _AT_ONCE):
        apart = torch.addmm(lengths + some.square().sum(1, keepdim=True), some, others.T, alpha=-2)  # squared
        apart = apart if copies else apart.masked_fill_(apart < _COPIES, math.inf)
        found.append(apart.topk(min(count, len(others)), largest=False).indices)
    return torch.cat(found)


def shrunk(images: Tensor) -> Tensor:
    """Return (N, D) float32 of (N, C, H, W) uint8."""
    height, width = (min(SIDE, side) for side in images.shape[2:])
    pieces = torch.split(images, _AT_ONCE)
    return torch.cat([F.adaptive_avg_pool2d(some.float(), (height, width)).flatten(1) for some in pieces])
