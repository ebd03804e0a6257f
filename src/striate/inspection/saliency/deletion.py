"""Whether the pixels that a map points at are those that the answer rests on.

V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, section
4.2. Deletion: pixels are covered, the most salient first; the sooner the class's probability falls, the better.
Insertion: they are put onto a blurred picture; the sooner it rises, the better. A score is the mean probability on the
way.

Scores mean little by themselves, so random maps are scored beside each map. A random map is the map itself, moved round
the edges and mirrored at random: scattered pixels would harm any picture faster than connected ones do, so the grain
must be the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.core.spec import TaskSpec
from striate.inspection.saliency.registry import logits_in_parts
from striate.prediction.predictor import probabilities_of

STEPS = 10  # from the whole picture to nothing
RANDOM_MAPS = 10  # beside each map
_T95 = 2.2621571628  # 97.5 % quantile of Student's t with one degree of freedom less than random maps
BLUR = 0.05  # standard deviation of the Gaussian, as a share of the picture's shorter side


@dataclass(frozen=True, eq=False)
class Removal:
    """What covering and uncovering pixels in the order of a map does to the class's probability.

    Args:
        deletion, insertion: (N,) mean probability on the way, 0–1.
        deletion_interval, insertion_interval: (N, 2), in which the score of one more random map lies with 95 %.
    """

    deletion: Tensor
    insertion: Tensor
    deletion_interval: Tensor
    insertion_interval: Tensor

    @property
    def passes(self) -> Tensor:
        """(N,) bool: better than the random maps' interval by deletion or by insertion."""
        return (self.deletion < self.deletion_interval[:, 0]) | (self.insertion > self.insertion_interval[:, 1])


def compare_with_random_maps(
    network: nn.Module, inputs: Tensor, targets: Tensor, maps: Tensor, task: TaskSpec
) -> Removal:
    """Score maps by deletion and insertion, beside `RANDOM_MAPS` random maps each.

    That is 2 · (`STEPS` − 1) · (`RANDOM_MAPS` + 1) passes through the network for each picture, 198.

    Args:
        network: in evaluation mode.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
        maps: (N, H, W).
        task: says what a probability is.
    """
    generator = torch.Generator().manual_seed(0)
    scores = []
    for picture, target, map_ in zip(inputs, targets, maps, strict=True):
        orders = [_order(map_, generator)]
        orders += [_order(_moved(map_, generator), generator) for _ in range(RANDOM_MAPS)]
        ends = torch.stack([picture, torch.zeros_like(picture), _blurred(picture)])
        whole, nothing, blurred = _probability(network, ends, int(target), task).tolist()
        scores.append(
            [
                _scores(network, picture, ends[2], order, int(target), task, (whole, nothing, blurred))
                for order in orders
            ]
        )
    found = torch.tensor(scores, dtype=torch.float64)  # (N, 1 + R, 2)
    low_to_high = _interval(found[:, 1:])  # (N, 2, 2): deletion and insertion, low and high
    return Removal(found[:, 0, 0], found[:, 0, 1], low_to_high[:, 0], low_to_high[:, 1])


def _scores(
    network: nn.Module,
    picture: Tensor,
    blurred: Tensor,
    order: Tensor,
    target: int,
    task: TaskSpec,
    ends: tuple[float, float, float],
) -> tuple[float, float]:
    """Return the scores of deletion and insertion for one order of the pixels."""
    shares = torch.arange(1, STEPS, device=order.device) / STEPS
    taken = (order < shares[:, None, None])[:, None]  # (S − 1, 1, H, W)
    deleted = torch.where(taken, 0.0, picture)
    inserted = torch.where(taken, picture, blurred)
    inner = _probability(network, torch.cat([deleted, inserted]), target, task)
    whole, nothing, start = ends
    deletion, insertion = (float(part.sum()) for part in torch.split(inner, STEPS - 1))
    return (deletion + (whole + nothing) / 2) / STEPS, (insertion + (start + whole) / 2) / STEPS  # trapezoids


def _probability(network: nn.Module, inputs: Tensor, target: int, task: TaskSpec) -> Tensor:
    return probabilities_of(logits_in_parts(network, inputs).double(), task)[:, target].cpu()


def _order(map_: Tensor, generator: torch.Generator) -> Tensor:
    """Return the rank of each pixel, 0 for the most salient, as a share below 1: (H, W). Equal ones come at random."""
    values = map_.flatten().cpu()
    shuffled = torch.randperm(values.numel(), generator=generator)
    ranked = shuffled[values[shuffled].argsort(descending=True, stable=True)]
    rank = torch.empty(values.numel())
    rank[ranked] = torch.arange(values.numel()) / values.numel()
    return rank.view(map_.shape).to(map_.device)


def _moved(map_: Tensor, generator: torch.Generator) -> Tensor:
    """Return a map moved round the edges, and mirrored or not, at random."""
    down, right = (int(torch.randint(side, (1,), generator=generator)) for side in map_.shape)
    mirrored = [axis for axis in (0, 1) if torch.rand(1, generator=generator) < 0.5]
    return map_.flip(mirrored).roll((down, right), (0, 1))


def _blurred(picture: Tensor) -> Tensor:
    """Return a picture through a Gaussian, its border continued beyond it."""
    sigma = BLUR * min(picture.shape[-2:])
    reach = min(round(3 * sigma) or 1, min(picture.shape[-2:]) - 1)
    weights = torch.exp(-(torch.arange(-reach, reach + 1).to(picture) ** 2) / (2 * sigma**2))
    weights = (weights / weights.sum()).view(1, 1, -1, 1)
    channels = F.pad(picture[:, None], (reach,) * 4, mode="replicate")  # channels as pictures
    return F.conv2d(F.conv2d(channels, weights), weights.transpose(2, 3))[:, 0]


def _interval(scores: Tensor) -> Tensor:
    """Return the 95 % prediction interval for one more score: (N, R, 2) → (N, 2, 2), the ends last."""
    count = scores.shape[1]
    reach = _T95 * (1 + 1 / count) ** 0.5 * scores.std(1)
    return torch.stack([scores.mean(1) - reach, scores.mean(1) + reach], -1)
