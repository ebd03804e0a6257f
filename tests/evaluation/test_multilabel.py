from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as hy

from striate.evaluation.multilabel import average_precision, fit_thresholds, mean_average_precision

metrics = pytest.importorskip("sklearn.metrics")


def drawn(count: int, classes: int, seed: int = 0, levels: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels that go with them; of few levels, so that many are equal, where asked."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, classes)) * 2
    labels = random.random((count, classes)) < 1 / (1 + np.exp(1 - logits))
    logits = logits if levels is None else np.round(logits * levels / 4)
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(labels.astype(np.uint8))


@settings(max_examples=60, deadline=None)
@given(seed=hy.integers(0, 10**6), count=hy.integers(1, 40), levels=hy.sampled_from([None, 1, 3]))
def test_average_precision_is_that_of_scikit_learn(seed: int, count: int, levels: int | None) -> None:
    logits, labels = drawn(count, 1, seed, levels)
    labels[seed % count] = 1
    expected = metrics.average_precision_score(labels[:, 0], logits[:, 0])
    assert average_precision(logits[:, 0], labels[:, 0]) == pytest.approx(expected, abs=1e-12)


def test_labels_that_no_picture_has_do_not_count() -> None:
    logits, labels = drawn(50, 4)
    labels[:, 2] = 0
    assert average_precision(logits[:, 2], labels[:, 2]) == 0
    kept = [0, 1, 3]
    expected = metrics.average_precision_score(labels[:, kept], logits[:, kept], average="macro")
    assert mean_average_precision(logits, labels) == pytest.approx(expected)
    assert mean_average_precision(logits, torch.zeros_like(labels)) == 0


@settings(max_examples=40, deadline=None)
@given(seed=hy.integers(0, 10**6), levels=hy.sampled_from([None, 2]), temperature=hy.sampled_from([1.0, 0.3, 4.0]))
def test_no_threshold_has_a_higher_f1(seed: int, levels: int | None, temperature: float) -> None:
    logits, labels = drawn(25, 2, seed, levels)
    probabilities = (logits / temperature).sigmoid()
    for k, threshold in enumerate(fit_thresholds(logits, labels, temperature)):
        truth, given = labels[:, k], probabilities[:, k]
        if truth.all() or not truth.any():
            assert threshold == 0.5
            continue
        # A threshold at each probability says every set of pictures that any threshold can say.
        best = max(metrics.f1_score(truth, given >= one) for one in given)
        assert metrics.f1_score(truth, given.double() >= threshold) == pytest.approx(best)
        assert (given.double() - threshold).abs().min() > 0  # no picture lies on the edge


def test_the_threshold_is_in_the_middle_and_of_equals_nearest_to_a_half() -> None:
    logits = torch.tensor([0.9, 0.7, 0.3, 0.1]).logit()[:, None]
    assert fit_thresholds(logits, torch.tensor([[1], [1], [0], [0]])) == pytest.approx((0.5,))
    assert fit_thresholds(logits, torch.tensor([[1], [0], [0], [0]])) == pytest.approx((0.8,))
    # F1 is 2/3 from 0.8 and from 0.2 on.
    assert fit_thresholds(logits[:3], torch.tensor([[1], [0], [1]])) == pytest.approx((0.15,))
    assert fit_thresholds(logits, torch.tensor([[0], [0], [0], [0]])) == (0.5,)
