"""Scores: accuracy with its interval, top-5, precision, recall and F1 of each class, the confusion matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from striate.data.imageset import Split
from striate.evaluation.predictions import Predictor, predictions_of

TOP5_CLASSES = 20  # with fewer classes, five guesses say little
_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class ClassScore:
    """One class: of the pictures said to be it, how many were (precision); of those that were, how many were found."""

    name: str
    precision: float
    recall: float
    f1: float
    pictures: int


@dataclass(frozen=True, eq=False)
class Score:
    """How a network did on some pictures.

    Args:
        pictures: N.
        accuracy: part of the pictures whose most probable class is right, 0–1.
        interval: in which the accuracy lies with 95 % confidence (Wilson 1927).
        top5: part whose class is among the five most probable; None under 20 classes.
        classes: one score per class, in the order of the logits.
        confusion: (K, K) counts, row: the class it is; column: the class it was said to be.
        predicted: (N,) int64, the most probable class of each picture.
        probability: (N,) float32, of that class.
    """

    pictures: int
    accuracy: float
    interval: tuple[float, float]
    top5: float | None
    classes: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    predicted: Tensor
    probability: Tensor

    def __str__(self) -> str:
        low, high = self.interval
        top5 = "" if self.top5 is None else f", top-5 {self.top5:.2%}"
        return f"accuracy {self.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, n = {self.pictures:,}){top5}"


def evaluate(network: Predictor, split: Split) -> Score:
    """Score a network on a split.

    Pictures are normalised as the network was trained: by its own Spec where it has one, else by that of the split.

    Args:
        network: a classifier, a module, or what it predicted for this split.
        split: such as ``images.test``.

    Raises:
        NetworkError: the network does not fit the pictures.
        DataError: the classifier knows other classes, or there are no pictures.
    """
    predictions = predictions_of(network, split)
    return score(predictions.logits / predictions.task.temperature, split.labels, predictions.task.class_names)


def score(logits: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> Score:
    """Score logits (N, K) against labels (N,)."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    probability, predicted = logits.softmax(1).max(1)
    known = range(len(class_names))
    precision, recall, f1, counts = precision_recall_fscore_support(
        labels.numpy(), predicted.numpy(), labels=known, zero_division=0.0
    )
    rows = zip(class_names, precision.tolist(), recall.tolist(), f1.tolist(), map(int, counts), strict=True)
    correct = int((predicted == labels).sum())
    return Score(
        pictures=len(labels),
        accuracy=correct / len(labels),
        interval=wilson_interval(correct, len(labels)),
        top5=_top5(logits, labels) if len(class_names) >= TOP5_CLASSES else None,
        classes=tuple(ClassScore(*row) for row in rows),
        confusion=confusion_matrix(labels.numpy(), predicted.numpy(), labels=known),
        predicted=predicted,
        probability=probability,
    )


def wilson_interval(correct: int, pictures: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson, JASA 22, 1927): within 0–1, and honest near both ends."""
    share, z2 = correct / pictures, _Z95**2
    centre = (share + z2 / (2 * pictures)) / (1 + z2 / pictures)
    half = _Z95 / (1 + z2 / pictures) * math.sqrt(share * (1 - share) / pictures + z2 / (4 * pictures**2))
    low = 0.0 if correct == 0 else centre - half  # exactly; rounding would leave 1e-17
    high = 1.0 if correct == pictures else centre + half
    return low, high


def _top5(logits: Tensor, labels: Tensor) -> float:
    return (logits.topk(5, dim=1).indices == labels[:, None]).any(1).double().mean().item()
