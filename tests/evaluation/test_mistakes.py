from __future__ import annotations

import torch

from striate.evaluation.mistakes import mistakes
from tests.evaluation.test_roc import predictions

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
