from __future__ import annotations

import numpy as np
import pytest
import torch

import striate as st
from striate.core.spec import TaskSpec
from striate.evaluation.predictions import Predictions
from striate.evaluation.roc import auc_interval, log_odds, roc
from tests.evaluation.test_multilabel import drawn


def predictions(logits: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0) -> tuple[Predictions, st.Split]:
    names = tuple("abcdefgh"[: logits.shape[1]])
    spec = st.Spec.of((1, 2, 2), names)
    task = spec.task.model_copy(update={"temperature": temperature})
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    origins = [f"test[{number}]" for number in range(len(labels))]
    return Predictions(logits, labels, origins, task), st.Split(images, labels, spec, origins)


def test_the_area_is_the_share_of_pairs_ranked_right() -> None:
    random = np.random.default_rng(0)
    labels = torch.from_numpy(random.integers(0, 3, 60))
    logits = torch.from_numpy(random.normal(size=(60, 4)).round(1)) + 1.5 * torch.nn.functional.one_hot(labels, 4)
    made = roc(*predictions(logits.float(), labels))
    shares = logits.float().double().softmax(1)
    for k in range(3):
        own, others = shares[labels == k, k], shares[labels != k, k]
        pairs = [(1.0 if a > b else 0.5 if a == b else 0.0) for a in own.tolist() for b in others.tolist()]
        assert made.classes[k].auc == pytest.approx(np.mean(pairs), abs=1e-9)
        low, high = made.classes[k].interval
        assert low < np.mean(pairs) < high
    assert made.classes[3].auc is None  # it has no pictures
    assert made.macro_auc == pytest.approx(np.mean([one.auc for one in made.classes[:3]]))


def test_the_curve_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(1)
    labels = torch.from_numpy(random.integers(0, 2, 200))
    logits = torch.from_numpy(random.normal(size=(100, 2)).astype(np.float32)).repeat(2, 1)  # each score twice
    made = roc(*predictions(logits, labels)).classes[1]
    ranks = (logits[:, 1].double() - logits[:, 0].double()).numpy()
    false_alarms, found, _ = metrics.roc_curve(labels == 1, ranks, drop_intermediate=False)
    assert made.auc == pytest.approx(metrics.auc(false_alarms, found))
    corners = set(zip(made.false_alarms.round(9), made.found.round(9), strict=True))
    assert corners <= set(zip(false_alarms.round(9), found.round(9), strict=True))
    assert np.trapezoid(made.found, made.false_alarms) == pytest.approx(made.auc)  # what was left out is straight


def test_probabilities_that_round_to_one_are_still_ranked() -> None:
    logits = torch.tensor([[60.0, 0.0], [80.0, 0.0], [0.0, 70.0]])
    odds = log_odds(logits)
    assert odds[:, 0].tolist() == pytest.approx([60.0, 80.0, -70.0])
    assert odds[:, 1].tolist() == pytest.approx([-60.0, -80.0, 70.0])


def test_the_interval_covers() -> None:
    """Scores of two normal distributions: the true AUC is Φ(distance / √2)."""
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for distance, own, others in ((1.0, 20, 100), (2.5, 30, 270)):
        truth, held, tests = stats.norm.cdf(distance / np.sqrt(2)), 0, 400
        for _ in range(tests):
            scores = random.normal(distance, 1, (own, 1)) > random.normal(0, 1, (1, others))
            low, high = auc_interval(float(scores.mean()), own, others)
            held += low <= truth <= high
        assert held / tests >= 0.93


def test_a_perfect_ranking_is_not_said_to_be_certain() -> None:
    low, high = auc_interval(1.0, 30, 30)
    assert high == 1
    assert 0.85 < low < 0.99
    assert auc_interval(0.0, 30, 30) == pytest.approx((0.0, 1 - low))


def test_it_is_drawn_with_the_lowest_areas() -> None:
    labels = torch.arange(8).repeat(5)
    logits = torch.nn.functional.one_hot(labels, 8).float()
    logits[labels == 3] = 0.0
    drawing = roc(*predictions(logits, labels)).draw()
    assert drawing.startswith("<svg")
    assert "the 6 lowest of 8" in drawing
    assert "d: AUC" in drawing


def labelled(logits: torch.Tensor, labels: torch.Tensor, **task: object) -> tuple[Predictions, st.Split]:
    """Return predictions of pictures that may have several labels."""
    names = tuple("abcdefgh"[: logits.shape[1]])
    plain = TaskSpec(class_names=names, labels="multi")
    spec = st.Spec.of((1, 2, 2), names).model_copy(update={"task": plain})
    images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
    origins = [f"test[{number}]" for number in range(len(labels))]
    said = TaskSpec.model_validate({**plain.model_dump(), **task})
    return Predictions(logits, labels, origins, said), st.Split(images, labels, spec, origins)


def test_the_area_of_several_labels_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, labels = drawn(80, 3, levels=3)
    expected = metrics.roc_auc_score(labels, logits, average=None)
    made = roc(*labelled(logits, labels, temperature=2.0))
    assert [one.auc for one in made.classes] == pytest.approx(expected)
    labels[:, 1] = 0
    made = roc(*labelled(logits, labels))
    assert made.classes[1].auc is None
    assert made.macro_auc == pytest.approx(expected[[0, 2]].mean())
