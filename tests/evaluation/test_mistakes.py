from __future__ import annotations

import math

import pytest
import torch

from striate.evaluation.mistakes import mistakes
from tests.evaluation.test_roc import labelled, predictions

LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
PREDICTED = torch.tensor([0, 1, 1, 1, 0, 2, 0, 2])
SURE = torch.tensor([3.0, 1.0, 4.0, 0.5, 2.0, 5.0, 6.0, 1.5])


def made() -> tuple:
    return predictions(SURE[:, None] * torch.nn.functional.one_hot(PREDICTED, 3).float(), LABELS)


def test_the_worst_the_pairs_and_the_least_sure_by_hand() -> None:
    result = mistakes(*made())
    assert (result.wrong, result.pictures) == (4, 8)
    assert [one.index for one in result.worst] == [6, 2, 4, 1]
    assert [one.index for one in result.least_sure] == [3, 7, 0, 5]
    worst = result.worst[0]
    assert (worst.origin, worst.label, worst.predicted) == ("test[6]", "c", "a")
    assert worst.confidence > 0.99 > 0.01 > worst.label_probability
    assert [(pair.label, pair.predicted, pair.count, pair.pictures) for pair in result.pairs] == [
        ("a", "b", 2, 3),
        ("b", "a", 1, 2),
        ("c", "a", 1, 3),
    ]
    assert [one.index for one in result.pairs[0].examples] == [2, 1]


def test_no_more_than_asked_for() -> None:
    result = mistakes(*made(), most=1, pairs=1, examples=1)
    assert (len(result.worst), len(result.least_sure), len(result.pairs), len(result.pairs[0].examples)) == (1, 1, 1, 1)


def test_nothing_wrong_is_said_so() -> None:
    perfect, split = predictions(torch.nn.functional.one_hot(LABELS, 3).float(), LABELS)
    result = mistakes(perfect, split)
    assert (result.wrong, result.worst, result.pairs) == (0, (), ())
    assert result.draw().image.height < mistakes(*made()).draw().image.height


def test_of_several_labels_what_is_missed_and_what_is_wrongly_said() -> None:
    logits = torch.tensor([[4.0, -3.0], [-2.0, 1.0], [5.0, -1.0], [-0.5, -6.0]])
    labels = torch.tensor([[1, 1], [1, 1], [0, 0], [0, 0]], dtype=torch.uint8)
    result = mistakes(*labelled(logits, labels, thresholds=(0.5, 0.9)))
    assert (result.wrong, result.pictures) == (3, 4)
    said = [(one.index, one.label, one.predicted) for one in result.worst]
    assert said == [(2, "no a", "a"), (0, "b", "no b"), (1, "a", "no a"), (1, "b", "no b")]
    losses = [-math.log(one.label_probability) for one in result.worst]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(math.log1p(math.exp(5)))
    assert [(one.label, one.predicted, one.count, one.pictures) for one in result.pairs] == [
        ("b", "no b", 2, 2), ("a", "no a", 1, 2), ("no a", "a", 1, 2)]  # fmt: skip
    assert result.least_sure[0].index == 3
    assert result.draw().image.width > 0
