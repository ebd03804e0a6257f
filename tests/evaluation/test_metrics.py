from __future__ import annotations

import numpy as np
import pytest
import torch

import striate as st
from striate.evaluation.metrics import score, wilson_interval

NAMES = ("cat", "dog", "owl")
LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
PREDICTED = torch.tensor([0, 0, 1, 1, 0, 1])


def logits_for(predicted: torch.Tensor, classes: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(predicted, classes).float() * 4


def test_counts_by_hand() -> None:
    result = score(logits_for(PREDICTED), LABELS, NAMES)
    assert result.pictures == 6
    assert result.accuracy == pytest.approx(3 / 6)
    assert result.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    cat, dog, owl = result.classes
    assert (cat.precision, cat.recall, cat.f1, cat.pictures) == pytest.approx((2 / 3, 2 / 3, 2 / 3, 3))
    assert (dog.precision, dog.recall, dog.f1, dog.pictures) == pytest.approx((1 / 3, 1 / 2, 2 / 5, 2))
    assert (owl.precision, owl.recall, owl.f1, owl.pictures) == (0, 0, 0, 1)
    assert result.predicted.tolist() == PREDICTED.tolist()
    expected = np.exp(4) / (np.exp(4) + 2)
    np.testing.assert_allclose(result.probability.numpy(), expected, rtol=1e-6)
    assert result.top5 is None
    assert str(result) == "accuracy 50.00% (95 % interval 18.76% to 81.24%, n = 6)"


def test_top_5_where_there_are_many_classes() -> None:
    logits = torch.arange(20.0).repeat(4, 1)  # the five best are 15 … 19
    result = score(logits, torch.tensor([19, 15, 14, 0]), tuple(map(str, range(20))))
    assert result.top5 == 0.5
    assert result.accuracy == 0.25
    assert "top-5 50.00%" in str(result)


@pytest.mark.parametrize(
    ("correct", "pictures", "expected"),
    # Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17, 1998, table I
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_the_interval_is_wilsons(correct: int, pictures: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(correct, pictures) == pytest.approx(expected, abs=5e-5)


def test_evaluate_scores_a_network_and_a_classifier_alike(image_set: st.ImageSet) -> None:
    network = st.build("fc 3", image_set.spec)
    by_network = st.evaluate(network, image_set.test)
    by_classifier = st.evaluate(st.Classifier(network, image_set.spec), image_set.test)
    assert by_network.accuracy == by_classifier.accuracy
    assert by_network.confusion.sum() == len(image_set.test)


def test_pictures_are_normalised_as_the_network_was_trained(image_set: st.ImageSet) -> None:
    network = st.build("fc 3", image_set.spec)
    pictures = image_set.spec.input.model_copy(update={"mean": (0.9,), "std": (0.01,)})
    spec = image_set.spec.model_copy(update={"input": pictures})
    test = image_set.test
    elsewhere = st.Split(test.images, test.labels, spec, test.origins)
    assert torch.equal(st.evaluate(network, elsewhere).probability, st.evaluate(network, test).probability)


def test_other_classes_channels_and_no_pictures_are_refused(image_set: st.ImageSet) -> None:
    network = st.build("fc 3", image_set.spec)
    task = image_set.spec.task.model_copy(update={"class_names": ("a", "b", "c")})
    other = st.Classifier(network, image_set.spec.model_copy(update={"task": task}))
    with pytest.raises(st.DataError, match=r"The network knows the classes a, b, c, these pictures have 0, 1, 2\."):
        st.evaluate(other, image_set.test)
    coloured = image_set.spec.model_copy(
        update={"input": image_set.spec.input.model_copy(update={"channels": 3, "mean": (0.5,) * 3, "std": (1.0,) * 3})}
    )
    with pytest.raises(st.NetworkError, match="takes pictures with 3 channels, these have 1"):
        st.evaluate(st.build("conv 2 | fc 3", coloured), image_set.test)
    with pytest.raises(st.DataError, match="at least one picture"):
        st.evaluate(network, image_set.test[:0])
