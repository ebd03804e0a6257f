"""How often each class comes, and how often a picture must be drawn so that all come alike."""

from __future__ import annotations

import torch
from torch import Tensor


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Return how many pictures have each class.

    Args:
        labels: (N,) int64, or (N, K) uint8 of 0 and 1.
        classes: K.

    Returns:
        (K,) int64.
    """
    if labels.ndim == 1:
        return torch.bincount(labels, minlength=classes)
    return labels.sum(0, dtype=torch.int64)


def class_shares(labels: Tensor, classes: int) -> Tensor:
    """Return the share of the pictures that have each class: (K,) float64. See `class_counts`."""
    return class_counts(labels, classes).double() / len(labels)


def balancing_shares(labels: Tensor, classes: int) -> Tensor:
    """Return how much more often than others each picture is to be drawn, so that every class comes as often.

    A picture counts as one of its rarest label; those without any label count as a class of their own.

    Args:
        labels: (N,) int64, or (N, K) uint8 of 0 and 1.
        classes: K.

    Returns:
        (N,) float64, positive: 1 over the number of pictures that have its rarest label.
    """
    counts = class_counts(labels, classes).double()
    if labels.ndim == 1:
        return 1 / counts[labels]
    rarest = torch.where(labels > 0, counts, torch.inf).amin(1)  # inf: no label
    unlabelled = rarest.isinf()
    return 1 / torch.where(unlabelled, unlabelled.sum().double(), rarest)
