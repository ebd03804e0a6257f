from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import striate as st
from striate.evaluation.compare import compare, mcnemar, paired_interval
from tests.evaluation.test_roc import labelled, predictions

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
FIRST = torch.tensor([0, 1, 1, 1, 1, 0, 2, 0])
SECOND = torch.tensor([0, 0, 2, 1, 0, 1, 2, 1])


def both() -> tuple[object, object, st.Split]:
    first, split = predictions(3 * torch.nn.functional.one_hot(FIRST, 3).float(), LABELS)
    second, _ = predictions(2 * torch.nn.functional.one_hot(SECOND, 3).float(), LABELS)
    return first, second, split


def test_what_flipped_by_hand() -> None:
    result = compare(*both(), names=("old", "new"))
    assert (result.both_right, result.mended, result.broken, result.both_wrong) == (3, 2, 1, 2)
    assert result.accuracies == (4 / 8, 5 / 8)
    assert result.difference == 1 / 8
    assert sorted(flip.index for flip in result.of("mended")) == [1, 5]
    assert [flip.index for flip in result.of("broken")] == [4]
    assert sorted(flip.index for flip in result.of("still wrong")) == [2, 7]
    flip = result.of("broken")[0]
    assert (flip.origin, flip.label, flip.first, flip.second) == ("test[4]", "b", "b", "a")
    assert flip.first_probability == pytest.approx(np.exp(3) / (np.exp(3) + 2))
    assert flip.second_probability == pytest.approx(np.exp(2) / (np.exp(2) + 2))
    assert result.p_value == 1.0
    a, b, c = result.classes
    assert [(one.pictures, one.difference) for one in (a, b, c)] == [(3, 1 / 3), (3, 0.0), (2, 0.0)]
    assert "old 50.00%, new 62.50%: difference +12.50 points" in str(result)
    assert "may be chance" in str(result)


@pytest.mark.parametrize(("mended", "broken"), [(0, 0), (0, 1), (3, 12), (12, 3), (7, 7), (20, 41), (400, 520)])
def test_the_test_is_the_binomial_one(mended: int, broken: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(mended, mended + broken).pvalue if mended + broken else 1.0
    assert mcnemar(mended, broken) == pytest.approx(expected, rel=1e-9)


def test_the_interval_is_newcombes() -> None:
    """Statistics in Medicine 17, 1998, 2635-2650, method 10: 36 both, 12 and 2 one alone, 0 none."""
    assert paired_interval(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = paired_interval(36, 2, 12, 0)
    assert (-high, -low) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = paired_interval(50, 0, 0, 0)
    assert -0.1 < low < 0 < high < 0.1


def test_the_interval_covers() -> None:
    random = np.random.default_rng(0)
    for cells in ((0.85, 0.06, 0.03, 0.06), (0.5, 0.1, 0.1, 0.3), (0.96, 0.02, 0.01, 0.01)):
        counts = random.multinomial(200, cells, size=1500)
        intervals = [paired_interval(*row) for row in counts.tolist()]
        held = np.mean([low <= cells[1] - cells[2] <= high for low, high in intervals])
        assert held >= 0.935


def test_networks_classifiers_and_predictions_are_compared_alike(image_set: st.ImageSet) -> None:
    first, second = (st.build("flatten | fc 3", image_set.spec, seed=seed) for seed in (0, 1))
    result = compare(first, st.Classifier(second, image_set.spec), image_set.test)
    assert result.accuracies[0] == st.evaluate(first, image_set.test).accuracy
    assert result.accuracies[1] == st.evaluate(second, image_set.test).accuracy
    assert len(result.flips) == sum(len(result.of(change)) for change in ("mended", "broken", "still wrong"))


def test_other_classes_are_refused(image_set: st.ImageSet) -> None:
    network = st.build("fc 3", image_set.spec)
    task = image_set.spec.task.model_copy(update={"class_names": ("a", "b", "c")})
    other = st.Classifier(network, image_set.spec.model_copy(update={"task": task}))
    with pytest.raises(st.DataError, match=r"must know the same classes, got 0, 1, 2 and a, b, c\. Compare networks"):
        compare(st.Classifier(network, image_set.spec), other, image_set.test)


def test_the_sheet_shows_both_answers() -> None:
    sheet = compare(*both()).draw()
    assert sheet.image.width > 300
    first, _, split = both()
    assert compare(first, first, split).draw().image.height < sheet.image.height


def test_of_several_labels_a_picture_is_right_where_all_are() -> None:
    labels = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=torch.uint8)
    first, split = labelled(torch.tensor([[2.0, -2], [2, -2], [2, -2], [-2, 2]]), labels)
    second, _ = labelled(torch.tensor([[2.0, 2], [2, 2], [-2, 2], [-2, 2]]), labels)
    result = compare(first, second, split)
    assert (result.both_right, result.mended, result.broken, result.both_wrong) == (1, 1, 1, 1)
    assert result.p_value == mcnemar(1, 1)
    assert {(one.index, one.change, one.label, one.first, one.second) for one in result.flips} == {
        (0, "broken", "a", "a", "a, b"),
        (1, "mended", "a, b", "a", "a, b"),
        (2, "still wrong", "none", "a", "b"),
    }
    sure = 1 / (1 + math.exp(-2))
    assert result.flips[0].first_probability == pytest.approx(sure**2)
    a, b = result.classes
    assert (a.pictures, a.first, a.second, a.p_value) == (4, 0.75, 1.0, mcnemar(1, 0))
    assert (b.first, b.second, b.p_value) == (0.75, 0.5, mcnemar(1, 2))


def test_one_class_and_several_labels_are_not_compared() -> None:
    labels = torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8)
    several, split = labelled(torch.zeros(2, 2), labels)
    single, _ = predictions(torch.zeros(2, 2), torch.tensor([0, 1]))
    with pytest.raises(st.DataError, match="one gives a picture one class, the other several labels"):
        compare(several, single, split)
    with pytest.raises(st.DataError, match="gives a picture one class, these pictures have several labels each"):
        st.evaluate(single, split)
