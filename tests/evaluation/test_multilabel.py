from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as hy

from striate.core.spec import TaskSpec
from striate.evaluation.multilabel import (
    _Ranks,
    average_precision,
    fit_thresholds,
    mean_average_precision,
    score_labels,
)

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


def f1_by_hand(truth: torch.Tensor, said: torch.Tensor) -> float:
    both = float((truth.bool() & said).sum())
    return 2 * both / float(truth.sum() + said.sum())


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
        best = max(f1_by_hand(truth, given >= one) for one in given)
        assert f1_by_hand(truth, given.double() >= threshold) == pytest.approx(best)
        assert (given.double() - threshold).abs().min() > 0  # no picture lies on the edge


def test_the_threshold_is_in_the_middle_and_of_equals_nearest_to_a_half() -> None:
    logits = torch.tensor([0.9, 0.7, 0.3, 0.1]).logit()[:, None]
    assert fit_thresholds(logits, torch.tensor([[1], [1], [0], [0]])) == pytest.approx((0.5,))
    assert fit_thresholds(logits, torch.tensor([[1], [0], [0], [0]])) == pytest.approx((0.8,))
    # F1 is 2/3 from 0.8 and from 0.2 on.
    assert fit_thresholds(logits[:3], torch.tensor([[1], [0], [1]])) == pytest.approx((0.15,))
    assert fit_thresholds(logits, torch.tensor([[0], [0], [0], [0]])) == (0.5,)


NAMES = ("ant", "bee", "cat", "dog")


def task_of(names: tuple[str, ...] = NAMES, **fields: object) -> TaskSpec:
    return TaskSpec(class_names=names, labels="multi", **fields)  # type: ignore[arg-type]


def test_scores_are_those_of_scikit_learn() -> None:
    logits, labels = drawn(300, 4, seed=1)
    labels[:, 3] = 0  # nobody has the last
    task = task_of(thresholds=(0.2, 0.5, 0.7, 0.9), temperature=1.7)
    made = score_labels(logits, labels, task)
    said = ((logits / 1.7).sigmoid().numpy() >= np.array(task.thresholds)).astype(int)
    assert np.array_equal(made.predicted.numpy(), said)
    precision, recall, f1, pictures = metrics.precision_recall_fscore_support(labels, said, zero_division=0.0)
    assert [one.precision for one in made.classes] == pytest.approx(precision)
    assert [one.recall for one in made.classes] == pytest.approx(recall)
    assert [one.f1 for one in made.classes] == pytest.approx(f1)
    assert [one.pictures for one in made.classes] == pictures.tolist()
    assert [one.threshold for one in made.classes] == list(task.thresholds or ())
    expected = metrics.average_precision_score(labels[:, :3], logits[:, :3], average=None)
    assert [one.average_precision for one in made.classes[:3]] == pytest.approx(expected)
    assert made.classes[3].average_precision is None
    assert made.mean_average_precision == pytest.approx(np.mean(expected))
    assert made.macro_f1 == pytest.approx(f1[:3].mean())
    assert made.micro_f1 == pytest.approx(metrics.f1_score(labels, said, average="micro"))
    assert made.accuracy == pytest.approx(metrics.accuracy_score(labels, said))
    assert made.label_accuracy == pytest.approx(1 - metrics.hamming_loss(labels, said))
    assert (made.said_none, made.have_none) == (int((said.sum(1) == 0).sum()), int((labels.sum(1) == 0).sum()))


def test_intervals_hold_their_figures_are_seeded_and_have_a_width_without_mistakes() -> None:
    logits, labels = drawn(120, 4, seed=2)
    labels[:, 3] = 0
    made, again = (score_labels(logits, labels, task_of(), seed=seed) for seed in (0, 1))
    assert made.mean_average_precision_interval != again.mean_average_precision_interval
    pairs = [(made.accuracy, made.interval), (made.macro_f1, made.macro_f1_interval),
             (made.micro_f1, made.micro_f1_interval),
             (made.mean_average_precision, made.mean_average_precision_interval)]  # fmt: skip
    pairs += [(one.f1, one.f1_interval) for one in made.classes]
    pairs += [(one.average_precision or 0.0, one.average_precision_interval) for one in made.classes]
    assert all(0 <= low <= value <= high <= 1 for value, (low, high) in pairs)
    assert made.classes[3].average_precision_interval == (0.0, 1.0)
    perfect = score_labels(10.0 * labels - 5, labels, task_of())
    assert perfect.mean_average_precision == perfect.macro_f1 == perfect.accuracy == 1
    for low, high in (perfect.mean_average_precision_interval, perfect.macro_f1_interval, perfect.micro_f1_interval):
        assert 0.9 < low < 0.999
        assert high == 1
    nothing = score_labels(logits, torch.zeros_like(labels), task_of())
    assert nothing.mean_average_precision_interval == nothing.macro_f1_interval == (0.0, 1.0)


def test_resampled_average_precision_is_that_of_scikit_learn_with_weights() -> None:
    logits, labels = drawn(40, 1, seed=3, levels=2)
    weights = np.random.default_rng(0).exponential(size=(40, 5))
    made = _Ranks.of(logits[:, 0], labels[:, 0].bool()).average_precision(torch.from_numpy(weights))
    expected = [metrics.average_precision_score(labels[:, 0], logits[:, 0], sample_weight=row) for row in weights.T]
    np.testing.assert_allclose(made, expected)


@pytest.mark.slow
def test_the_interval_of_the_mean_average_precision_covers() -> None:
    logits, labels = drawn(200_000, 3, seed=4)
    true, held, tests = mean_average_precision(logits, labels), 0, 200
    for number in range(tests):
        some = slice(200 * number, 200 * number + 200)
        low, high = score_labels(logits[some], labels[some], task_of(NAMES[:3])).mean_average_precision_interval
        held += low <= true <= high
    assert held / tests >= 0.9  # 95 % less three standard deviations of 200 tests


def test_two_lines_for_people() -> None:
    logits = torch.tensor([[2.0, -2, -2, -2], [2, 2, -2, -2], [-2, -2, -2, -2]])
    labels = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]], dtype=torch.uint8)
    first, second = str(score_labels(logits, labels, task_of())).split("\n")
    assert first.startswith("mAP 66.67% (95 % interval ")
    assert first.endswith(", n = 3), macro F1 50.00%, micro F1 66.67%")
    assert second.startswith("all labels right in 33.33% of the pictures (95 % interval 6.15% to 79.23%), 83.33% of ")
    assert second.endswith("pictures of which no label is said: 1, without a label: 0")
