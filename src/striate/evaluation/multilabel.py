"""Pictures that may have several labels: their score, and the probability from which a label is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.spec import TaskSpec
from striate.evaluation.intervals import Interval, f1_interval, wilson_interval
from striate.prediction.predictor import probabilities_of, said_of

RESAMPLES, FEWEST_RESAMPLES = 500, 200
_MOST_DRAWN = 50_000_000  # weights of single labels in all resamples; beyond, there are fewer resamples
_ADDED = 50  # pictures that each of the two half pictures is spread over
_MOST_AT_ONCE = 1_000_000  # weights of pictures, drawn together
_EDGES = (0.025, 0.975)

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class LabelScore:
    """One label: of the pictures that it is said of, how many have it (precision); of those that do, how many it is
    said of (recall).

    Args:
        threshold: the probability from which it is said.
        f1: the harmonic mean of precision and recall, 0–1.
        average_precision: over all thresholds, see `average_precision`; None where no picture has the label.
        pictures: that have it.
        precision_interval, recall_interval, f1_interval, average_precision_interval: of 95 %; 0–1 where nothing is
            known.
    """

    name: str
    threshold: float
    precision: float
    recall: float
    f1: float
    average_precision: float | None
    pictures: int
    precision_interval: Interval
    recall_interval: Interval
    f1_interval: Interval
    average_precision_interval: Interval


@dataclass(frozen=True, eq=False)
class MultiScore:
    """How a network did on pictures that may have several labels.

    Args:
        pictures: N.
        accuracy: part of the pictures all of whose labels are right, none missed and none too many (subset accuracy).
        interval: in which the accuracy lies with 95 % confidence (Wilson 1927).
        label_accuracy: part of the N · K single labels that are rightly said or rightly not.
        mean_average_precision: mAP, the mean over the labels that some picture has; no threshold is in it.
        mean_average_precision_interval, macro_f1_interval, micro_f1_interval: of 95 %, see `score_labels`.
        macro_f1: mean F1 of the labels that some picture has.
        micro_f1: F1 of all single labels together, where frequent labels count more.
        said_none: pictures of which no label is said.
        have_none: pictures that have no label.
        classes: one score per label, in the order of the logits.
        predicted: (N, K) bool, the labels that are said.
        probabilities: (N, K) float32.
    """

    pictures: int
    accuracy: float
    interval: Interval
    label_accuracy: float
    mean_average_precision: float
    mean_average_precision_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    micro_f1: float
    micro_f1_interval: Interval
    said_none: int
    have_none: int
    classes: tuple[LabelScore, ...]
    predicted: Tensor
    probabilities: Tensor

    def __str__(self) -> str:
        low, high = self.mean_average_precision_interval
        return (
            f"mAP {self.mean_average_precision:.2%} (95 % interval {low:.2%} to {high:.2%}, n = {self.pictures:,}), "
            f"macro F1 {self.macro_f1:.2%}, micro F1 {self.micro_f1:.2%}\n"
            f"all labels right in {self.accuracy:.2%} of the pictures (95 % interval {self.interval[0]:.2%} to "
            f"{self.interval[1]:.2%}), {self.label_accuracy:.2%} of the single labels; pictures "
            f"of which no label is said: {self.said_none:,}, without a label: {self.have_none:,}"
        )


def score_labels(logits: Tensor, labels: Tensor, task: TaskSpec, *, seed: int = 0) -> MultiScore:
    """Score logits (N, K) against labels (N, K) of 0 and 1.

    The intervals of the means and of the average precisions are of the Bayesian bootstrap over pictures (Rubin, Annals
    of Statistics 9, 1981). To each resample half a picture with its own labels and half a picture with those of another
    are added, both drawn by chance, for pictures without mistakes would give intervals without width.

    Args:
        logits: not divided by the temperature.
        task: has the names, the thresholds and the temperature.
        seed: of the bootstrap.
    """
    probabilities = probabilities_of(logits, task)
    predicted, truth = said_of(probabilities, task), labels.bool()
    right = predicted == truth
    counts = _Counts(truth.sum(0).tolist(), predicted.sum(0).tolist(), (predicted & truth).sum(0).tolist())
    drawn = _resampled(logits, truth, predicted, seed)
    precisions = [average_precision(logits[:, k], labels[:, k]) if counts.own[k] else None for k in range(task.classes)]
    f1s = [_f1(*each) for each in zip(counts.own, counts.said, counts.found, strict=True)]
    known = [k for k, own in enumerate(counts.own) if own]
    exact = int(right.all(1).sum())
    mean_precision = sum(precisions[k] or 0.0 for k in known) / max(1, len(known))
    macro_f1, micro_f1 = sum(f1s[k] for k in known) / max(1, len(known)), _f1(*map(sum, counts))
    return MultiScore(
        pictures=len(labels),
        accuracy=exact / len(labels),
        interval=wilson_interval(exact, len(labels)),
        label_accuracy=float(right.double().mean()),
        mean_average_precision=mean_precision,
        mean_average_precision_interval=_interval(drawn.precisions[:, known], mean_precision),
        macro_f1=macro_f1,
        macro_f1_interval=_interval(drawn.f1s[:, known], macro_f1),
        micro_f1=micro_f1,
        micro_f1_interval=_interval(drawn.micro_f1s, micro_f1),
        said_none=int((~predicted).all(1).sum()),
        have_none=int((~truth).all(1).sum()),
        classes=tuple(
            _label_score(k, task, counts, precision, drawn.precisions[:, k]) for k, precision in enumerate(precisions)
        ),
        predicted=predicted,
        probabilities=probabilities,
    )


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


class _Counts(NamedTuple):
    """Of each label: the pictures that have it, those that it is said of, and those of both."""

    own: list[int]
    said: list[int]
    found: list[int]


class _Resampled(NamedTuple):
    """Of R resamples: (R, K) average precisions and F1, and (R,) micro F1."""

    precisions: Doubles
    f1s: Doubles
    micro_f1s: Doubles


def _label_score(k: int, task: TaskSpec, counts: _Counts, precision: float | None, drawn: Doubles) -> LabelScore:
    own, said, found = counts.own[k], counts.said[k], counts.found[k]
    return LabelScore(
        name=task.class_names[k],
        threshold=task.thresholds[k] if task.thresholds else 0.5,
        precision=found / said if said else 0.0,
        recall=found / own if own else 0.0,
        f1=_f1(own, said, found),
        average_precision=precision,
        pictures=own,
        precision_interval=wilson_interval(found, said),
        recall_interval=wilson_interval(found, own),
        f1_interval=f1_interval(found, own + said - 2 * found),
        average_precision_interval=(0.0, 1.0) if precision is None else _interval(drawn, precision),
    )


def _f1(own: int, said: int, found: int) -> float:
    return 2 * found / (own + said) if found else 0.0


def _interval(drawn: Doubles, figure: float) -> Interval:
    """Return the interval of a figure, or of the mean of several, of which each of R resamples drew one; (R, …)."""
    if not drawn.size:  # there is no label to take a mean of
        return 0.0, 1.0
    low, high = np.quantile(drawn.reshape(len(drawn), -1).mean(1), _EDGES)
    return min(float(low), figure), min(max(float(high), figure), 1.0)  # a sum of shares may round to more


def _resampled(logits: Tensor, truth: Tensor, said: Tensor, seed: int) -> _Resampled:
    """Score the labels again with other weights of the pictures; see `score_labels`."""
    random = np.random.default_rng(seed)
    place = torch.from_numpy(random.integers(0, len(truth), 2 * _ADDED))
    other = torch.cat([place[:_ADDED], torch.from_numpy(random.integers(0, len(truth), _ADDED))])
    logits, said = torch.cat([logits, logits[place]]), torch.cat([said, said[place]]).float()
    truth = torch.cat([truth, truth[other]])
    ranks = [_Ranks.of(logits[:, k], truth[:, k]) for k in range(logits.shape[1])]
    own, found = truth.float(), truth * said
    parts = []
    resamples = min(RESAMPLES, max(FEWEST_RESAMPLES, _MOST_DRAWN // truth.numel()))
    for weights in _weights(len(truth), resamples, random):
        has, says, both = (counted.T @ weights for counted in (own, said, found))
        precisions = torch.stack([each.average_precision(weights) for each in ranks])
        parts.append((precisions, _share(2 * both, has + says), _share(2 * both.sum(0), has.sum(0) + says.sum(0))))
    return _Resampled(*(torch.cat(part, -1).double().numpy().T for part in zip(*parts, strict=True)))


def _weights(pictures: int, resamples: int, random: np.random.Generator) -> Iterator[Tensor]:
    """Yield the weights (N, r) of the pictures in some resamples at a time; last come the half pictures, in parts."""
    at_once = max(16, _MOST_AT_ONCE // pictures)
    for start in range(0, resamples, at_once):
        number = min(at_once, resamples - start)
        own = random.standard_exponential((pictures - 2 * _ADDED, number), dtype=np.float32)
        added = random.standard_gamma(0.5 / _ADDED, (2 * _ADDED, number), dtype=np.float32)
        yield torch.from_numpy(np.concatenate([own, added]))


class _Ranks(NamedTuple):
    """The order of the pictures by the score of one label, from which its average precision with any weights follows.

    Args:
        order: (N,) pictures, the highest score first.
        own: (P,) those of them that have the label, in the same order.
        last: (S,) the place in ``order`` of the last picture of each score that one of ``own`` has.
        last_own: (S,) the same in ``own``.
    """

    order: Tensor
    own: Tensor
    last: Tensor
    last_own: Tensor

    @classmethod
    def of(cls, scores: Tensor, truth: Tensor) -> _Ranks:
        scores, order = scores.sort(descending=True, stable=True)
        ends, having = _last_of_equal(scores), truth[order]
        found = having.long().cumsum(0)[ends]
        grows = found.diff(prepend=found.new_zeros(1)) > 0
        return cls(order, order[having], ends[grows], found[grows] - 1)

    def average_precision(self, weights: Tensor) -> Tensor:
        """Return it (r,) for weights (N, r); 0 where no picture has the label."""
        if not len(self.own):
            return weights.new_zeros(weights.shape[1])
        seen = weights[self.order].cumsum(0)[self.last]
        found = weights[self.own].cumsum(0)[self.last_own]
        gained = found.diff(dim=0, prepend=torch.zeros_like(found[:1]))
        return _share((gained * found / seen).sum(0), found[-1])


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole, 0 of nothing."""
    return torch.where(whole > 0, part / whole, 0.0)
