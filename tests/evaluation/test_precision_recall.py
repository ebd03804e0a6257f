from __future__ import annotations

import numpy as np
import pytest

import striate as st
from striate.evaluation.precision_recall import precision_recall
from tests.evaluation.test_multilabel import drawn
from tests.evaluation.test_roc import labelled, predictions

metrics = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("levels", [None, 3])
def test_the_points_are_those_of_scikit_learn(levels: int | None) -> None:
    logits, labels = drawn(70, 3, seed=6, levels=levels)
    labels[:, 2] = 0
    made = precision_recall(*labelled(logits, labels, thresholds=(0.2, 0.5, 0.5)))
    for k, one in enumerate(made.classes[:2]):
        precision, recall, _ = metrics.precision_recall_curve(labels[:, k], logits[:, k])
        theirs = set(zip(recall.round(9), precision.round(9), strict=True))
        assert {*zip(one.recall.round(9), one.precision.round(9), strict=True)} <= theirs
        assert one.recall[-1] == 1
        assert (np.diff(one.recall) > 0).all()
        said = logits[:, k].sigmoid().double() >= (0.2, 0.5)[k]
        assert one.chosen == pytest.approx(
            (metrics.recall_score(labels[:, k], said), metrics.precision_score(labels[:, k], said))
        )
    areas = metrics.average_precision_score(labels[:, :2], logits[:, :2], average=None)
    assert [one.average_precision for one in made.classes] == [*map(pytest.approx, areas), None]
    assert made.mean_average_precision == pytest.approx(areas.mean())


def test_the_lowest_are_drawn() -> None:
    logits, labels = drawn(60, 8, seed=7)
    drawing = precision_recall(*labelled(logits, labels)).draw()
    assert "the 6 lowest of 8 labels" in drawing
    assert "at its threshold" in drawing


def test_one_class_each_is_refused() -> None:
    logits, _ = drawn(3, 3)
    with pytest.raises(st.DataError, match="these have one class each"):
        precision_recall(*predictions(logits, logits.argmax(1)))
