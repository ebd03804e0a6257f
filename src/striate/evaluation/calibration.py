"""Calibration: whether a classifier is right as often as it is sure, and the temperature that mends it."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from striate.core.errors import DataError
from striate.data.imageset import Split
from striate.drawing.curves import Curve, Plane, draw_curves
from striate.drawing.svg import Drawing
from striate.evaluation.metrics import Interval, wilson_interval
from striate.evaluation.predictions import Predictor, predictions_of, spec_and_module
from striate.prediction.predictor import Classifier

BINS = 15
COLDEST, HOTTEST = 1e-3, 1e4
_DRAWN = 200  # points of a curve that the eye can tell from all


@dataclass(frozen=True)
class Bin:
    """The pictures whose most probable class has a probability above ``low`` and up to ``high``.

    Args:
        confidence: mean probability of what was said.
        accuracy: part that was right.
        interval: of the accuracy, 95 % (Wilson).
    """

    low: float
    high: float
    pictures: int
    confidence: float
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class Calibration:
    """Whether the probabilities mean what they say.

    Args:
        pictures: N.
        temperature: that the logits were divided by.
        expected_error: ECE, mean distance of accuracy from confidence over the bins, weighted by their pictures, 0–1.
        negative_log_likelihood: mean −log p of the right class, in nats.
        brier: mean over pictures of Σ over classes of (p − truth)², 0–2 (Brier, Monthly Weather Review 78, 1950).
        accuracy, confidence: means over all pictures; where the confidence is higher the classifier is over-confident.
        bins: those that have pictures, of 15 of equal width.
    """

    pictures: int
    temperature: float
    expected_error: float
    negative_log_likelihood: float
    brier: float
    accuracy: float
    confidence: float
    bins: tuple[Bin, ...]

    def __str__(self) -> str:
        return (
            f"ECE {self.expected_error:.2%} at temperature {self.temperature:.3g} (mean confidence "
            f"{self.confidence:.2%}, accuracy {self.accuracy:.2%}; log likelihood −{self.negative_log_likelihood:.4f}, "
            f"Brier {self.brier:.4f})"
        )

    def draw(self) -> Drawing:
        """Draw the reliability diagram, with the interval of each bin, and how many pictures each holds."""
        confidence = [one.confidence for one in self.bins]
        intervals = [one.interval for one in self.bins]
        reliability = Plane(
            [
                Curve([0.0, 1.0], [0.0, 1.0], "right as often as sure", faint=True),
                Curve(
                    confidence,
                    [one.accuracy for one in self.bins],
                    "this network, with 95 % intervals",
                    [low for low, _ in intervals],
                    [high for _, high in intervals],
                    "marks",
                ),
            ],
            f"How often it is right when it is so sure: ECE {self.expected_error:.2%}",
            "mean probability of what was said",
            "part that was right",
            x_range=(-0.02, 1.02),
            y_range=(-0.02, 1.02),
        )
        counts = [0] * BINS
        for one in self.bins:
            counts[round(one.low * BINS)] = one.pictures
        held = Plane(
            [Curve([(b + 0.5) / BINS for b in range(BINS)], counts, form="bars")],
            f"Pictures in each bin; n = {self.pictures:,}, temperature {self.temperature:.3g}",
            "probability of what was said",
            "pictures",
            x_range=(-0.02, 1.02),
        )
        words = "Below the diagonal the network is over-confident, above it under-confident."
        return draw_curves([reliability, held], description=f"Reliability diagram. {words}")


@dataclass(frozen=True)
class Answering:
    """What comes of answering only where the probability is at least a threshold.

    Args:
        threshold: of the probability of the most probable class.
        answered: part of the pictures that are answered, 0–1.
        accuracy: part of those that are right.
        interval: of the accuracy, 95 % (Wilson); that of a threshold chosen on the same pictures flatters a little.
    """

    threshold: float
    answered: float
    accuracy: float
    interval: Interval

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"answering from {self.threshold:.1%} on: {self.answered:.1%} answered, {self.accuracy:.2%} of them right "
            f"(95 % interval {low:.2%} to {high:.2%})"
        )


@dataclass(frozen=True, eq=False)
class Abstention:
    """Accuracy on what is answered against the part that is answered (El-Yaniv and Wiener, JMLR 11, 2010).

    Args:
        pictures: N.
        confidences: all different probabilities of what was said, ascending: the thresholds that make a difference.
        answered, correct: how many pictures are answered from each on, and how many of these are right.
    """

    pictures: int
    confidences: tuple[float, ...]
    answered: tuple[int, ...]
    correct: tuple[int, ...]

    def at(self, threshold: float) -> Answering:
        """Return what comes of a threshold.

        Raises:
            DataError: nothing is answered.
        """
        place = bisect_left(self.confidences, threshold)
        if place == len(self.confidences):
            raise DataError(
                f"The threshold must be at most {self.confidences[-1]:.6f}, the highest probability there is, "
                f"got {threshold:g}."
            )
        answered, correct = self.answered[place], self.correct[place]
        interval = wilson_interval(correct, answered)
        return Answering(threshold, answered / self.pictures, correct / answered, interval)

    def threshold_for(self, accuracy: float) -> Answering:
        """Return the threshold that answers most pictures with at least this accuracy. Choose it on val.

        Raises:
            DataError: none reaches it.
        """
        shares = [right / count for right, count in zip(self.correct, self.answered, strict=True)]
        for threshold, share in zip(self.confidences, shares, strict=True):
            if share >= accuracy:
                return self.at(threshold)
        raise DataError(f"No threshold is right in {accuracy:.2%} of its answers; the best is in {max(shares):.2%}.")

    def draw(self) -> Drawing:
        """Draw the accuracy on what is answered, with its interval, and the threshold, against the part answered."""
        step = max(1, len(self.confidences) // _DRAWN)
        points = [self.at(threshold) for threshold in self.confidences[::-1][::step]]
        points = [*points, self.at(self.confidences[0])]
        answered = [one.answered for one in points]
        low, high = zip(*(one.interval for one in points), strict=True)
        accuracies = [one.accuracy for one in points]
        right = Plane(
            [Curve(answered, accuracies, "with 95 % interval", low, high)],
            "Right when it answers only what it is sure of",
            "part of the pictures that is answered",
            "part of the answers that is right",
            x_range=(0.0, 1.0),
            # The first few answers have intervals so wide that nothing else would be seen.
            y_range=(min([*accuracies, low[-1]]) - 0.01, 1.002),
        )
        sure = Plane(
            [Curve(answered, [one.threshold for one in points])],
            f"The threshold that answers so many; n = {self.pictures:,}",
            "part of the pictures that is answered",
            "least probability that is answered",
            x_range=(0.0, 1.0),
            y_range=(0.0, 1.02),
        )
        return draw_curves([right, sure], description="Accuracy on what is answered against the part answered.")


def calibration(network: Predictor, split: Split) -> Calibration:
    """Measure whether a classifier is right as often as it is sure.

    ECE over 15 bins of equal width (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2).

    Args:
        network: a classifier, a module, or what it predicted for this split.
        split: such as ``images.test``; one that the temperature was not fitted on.

    Raises:
        NetworkError, DataError: see `predictions_of`.
    """
    predictions = predictions_of(network, split)
    logits = predictions.logits.double() / predictions.task.temperature
    shares = logits.log_softmax(1)
    probabilities = shares.exp()
    confidence, correct = probabilities.amax(1), predictions.correct
    truth = nn.functional.one_hot(split.labels, logits.shape[1])
    bins = _bins(confidence, correct)
    count = len(split)
    return Calibration(
        pictures=count,
        temperature=predictions.task.temperature,
        expected_error=sum(one.pictures * abs(one.accuracy - one.confidence) for one in bins) / count,
        negative_log_likelihood=float(-shares.gather(1, split.labels[:, None]).mean()),
        brier=float((probabilities - truth).square().sum(1).mean()),
        accuracy=float(correct.double().mean()),
        confidence=float(confidence.mean()),
        bins=bins,
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature that makes the labels most likely (Guo et al., ICML 2017, section 4.2).

    One picture more is imagined for which the second-best answers are right, so that pictures without mistakes do not
    ask for certainty (as in Platt, Probabilistic Outputs for Support Vector Machines, 1999, section 2.2). The
    likelihood is concave in 1 / temperature: bisection of its slope finds the one best, from 0.001 to 10,000.

    Args:
        logits: (N, K), of pictures that the network did not learn from.
        labels: (N,) int64.

    Raises:
        DataError: there are no pictures.
    """
    if not len(labels):
        raise DataError("There must be at least one picture to fit a temperature to, got none.")
    if logits.shape[1] < 2:
        return 1.0
    logits = logits.double()
    second = logits.topk(2, dim=1).values[:, 1].mean()
    wanted = (logits.gather(1, labels[:, None]).sum() + second) / (len(labels) + 1)

    def too_cold(temperature: float) -> bool:
        expected = ((logits / temperature).softmax(1) * logits).sum(1).mean()
        return bool(expected > wanted)

    cold, hot = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(48):
        middle = (cold + hot) / 2
        cold, hot = (middle, hot) if too_cold(math.exp(middle)) else (cold, middle)
    return math.exp((cold + hot) / 2)


def calibrate(network: nn.Module | Classifier, val: Split) -> Classifier:
    """Return the classifier with the temperature that fits its probabilities to ``val``; no answer changes.

    To keep it in a saved file, see `striate.networks.saved.store_temperature`.

    Args:
        network: a classifier, or a module.
        val: pictures that it did not learn from; never those that it will be scored on.

    Raises:
        NetworkError, DataError: see `predictions_of`.
    """
    predictions = predictions_of(network, val)
    spec, module = spec_and_module(network, val.spec)
    task = spec.task.model_copy(update={"temperature": fit_temperature(predictions.logits, val.labels)})
    return Classifier(module, spec.model_copy(update={"task": task}))


def abstention(network: Predictor, split: Split) -> Abstention:
    """Return the accuracy on what is answered for each threshold of the probability.

    Args:
        network: a classifier, a module, or what it predicted for this split.
        split: ``images.val`` to choose a threshold, ``images.test`` to measure it.

    Raises:
        NetworkError, DataError: see `predictions_of`.
    """
    predictions = predictions_of(network, split)
    confidence, order = predictions.confidence.sort(descending=True)
    correct = predictions.correct[order].cumsum(0)
    last = torch.cat([confidence[1:] != confidence[:-1], torch.tensor([True])]).nonzero().flatten().flip(0)
    return Abstention(
        pictures=len(split),
        confidences=tuple(confidence[last].tolist()),
        answered=tuple((last + 1).tolist()),
        correct=tuple(correct[last].tolist()),
    )


def _bins(confidence: Tensor, correct: Tensor) -> tuple[Bin, ...]:
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    of = torch.bucketize(confidence, edges[1:-1])  # low < p ≤ high
    made = []
    for number, (low, high) in enumerate(pairwise(edges.tolist())):
        inside = of == number
        if count := int(inside.sum()):
            right = int(correct[inside].sum())
            mean = float(confidence[inside].mean())
            made.append(Bin(low, high, count, mean, right / count, wilson_interval(right, count)))
    return tuple(made)
