"""Pictures that may have several labels: average precision, and the probability from which a label is said."""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Return the average precision of one label: its precision at each rank, weighted by the recall gained there.

    Pictures of equal score are taken together, and nothing is interpolated.

    Args:
        scores: (N,), higher where the label is more likely: logits and probabilities give the same.
        labels: (N,) of 0 and 1.

    Returns:
        0–1; 0 where no picture has the label.
    """
    if not int(labels.sum()):
        return 0.0
    scores, order = scores.sort(descending=True, stable=True)
    last = _last_of_equal(scores)
    found = labels[order].to(torch.float64).cumsum(0)[last]
    gained = found.diff(prepend=found.new_zeros(1))
    return float((gained * found / (last + 1)).sum() / found[-1])


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Return the mean average precision (mAP) of the labels that some picture has.

    Args:
        scores: (N, K).
        labels: (N, K) of 0 and 1.

    Returns:
        0–1; 0 where no picture has any label.
    """
    known = labels.any(0).nonzero().flatten().tolist()
    return sum(average_precision(scores[:, k], labels[:, k]) for k in known) / len(known) if known else 0.0


def fit_thresholds(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> tuple[float, ...]:
    """Return for each label the probability from which to say it, so that its F1 on these pictures is highest.

    Each lies in the middle between the probabilities that it parts; of several that are as good, it is the one nearest
    to ½. Fit them on val: on the pictures that they were fitted on, they flatter.

    Args:
        logits: (N, K).
        labels: (N, K) of 0 and 1.
        temperature: that the logits are divided by before they become probabilities.

    Returns:
        K probabilities; ½ where all pictures have the label, or none has.
    """
    probabilities = (logits.float() / temperature).sigmoid().double()
    return tuple(_fit_threshold(probabilities[:, k], labels[:, k]) for k in range(logits.shape[1]))


def _fit_threshold(probabilities: Tensor, labels: Tensor) -> float:
    own = int(labels.sum())
    if own in (0, len(labels)):
        return 0.5
    probabilities, order = probabilities.sort(descending=True, stable=True)
    last = _last_of_equal(probabilities)
    found = labels[order].to(torch.float64).cumsum(0)[last]
    f1 = 2 * found / (last + 1 + own)
    said = probabilities[last]
    middle = (said + torch.cat([said[1:], said.new_zeros(1)])) / 2
    best = middle[f1 == f1.max()]
    return float(best[(best - 0.5).abs().argmin()])


def _last_of_equal(ordered: Tensor) -> Tensor:
    """Return the place of the last of each run of equal numbers."""
    differs = ordered[1:] != ordered[:-1]
    return torch.cat([differs, differs.new_ones(1)]).nonzero().flatten()
