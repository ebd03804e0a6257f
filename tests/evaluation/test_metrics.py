from __future__ import annotations

import numpy as np
import pytest
import torch

import striate as st
from striate.evaluation.intervals import f1_interval, wilson_interval
from striate.evaluation.metrics import macro_f1_interval, score

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


def test_scores_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(size=(300, 7)).astype(np.float32))
    labels = torch.from_numpy(random.integers(0, 6, 300))  # the last class has no pictures
    result = score(logits, labels, tuple("abcdefg"))
    precision, recall, f1, pictures = metrics.precision_recall_fscore_support(
        labels, logits.argmax(1), labels=range(7), zero_division=0.0
    )
    assert [one.precision for one in result.classes] == pytest.approx(precision)
    assert [one.recall for one in result.classes] == pytest.approx(recall)
    assert [one.f1 for one in result.classes] == pytest.approx(f1)
    assert [one.pictures for one in result.classes] == pictures.tolist()
    np.testing.assert_array_equal(result.confusion, metrics.confusion_matrix(labels, logits.argmax(1), labels=range(7)))
    assert result.macro_f1 == pytest.approx(f1[:6].mean())  # of the classes that have pictures


def test_intervals_hold_their_figures_and_nothing_known_is_anything() -> None:
    result = score(logits_for(PREDICTED, 4), LABELS, (*NAMES, "yak"))
    for one in result.classes:
        for value, (low, high) in (
            (one.precision, one.precision_interval),
            (one.recall, one.recall_interval),
            (one.f1, one.f1_interval),
        ):
            assert 0 <= low <= value <= high <= 1
    assert result.classes[3].recall_interval == (0.0, 1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_macro_interval_is_seeded_and_has_a_width_without_mistakes() -> None:
    confusion = np.diag([30, 30, 30])
    low, high = macro_f1_interval(confusion)
    assert (low, high) == macro_f1_interval(confusion)
    assert (low, high) != macro_f1_interval(confusion, seed=1)
    assert 0.93 < low < 0.99  # 0 mistakes of 90: Wilson says 95.9 % at least
    assert high == 1.0
    assert np.isfinite(macro_f1_interval(np.array([[5]]))).all()


@pytest.mark.parametrize("pictures", [20, 100, 1000])
def test_wilsons_interval_covers(pictures: int) -> None:
    """Exactly, by adding up the binomial distribution; the mean over accuracies, as its coverage goes up and down."""
    stats = pytest.importorskip("scipy.stats")
    intervals = np.array([wilson_interval(right, pictures) for right in range(pictures + 1)])
    coverage = []
    for share in np.linspace(0.5, 0.99, 50):
        held = (intervals[:, 0] <= share) & (share <= intervals[:, 1])
        coverage.append(stats.binom.pmf(np.arange(pictures + 1), pictures, share)[held].sum())
    assert np.mean(coverage) >= 0.94
    assert np.mean(coverage) <= 0.97  # nor is it wider than it needs to be
    assert np.min(coverage) >= 0.83


@pytest.mark.parametrize(("classes", "pictures", "accuracy"), [(3, 100, 0.7), (3, 300, 0.98), (10, 1000, 0.9)])
def test_the_intervals_of_f1_cover(classes: int, pictures: int, accuracy: float) -> None:
    random = np.random.default_rng(0)
    truth = np.full((classes, classes), (1 - accuracy) / (classes - 1) / classes)
    np.fill_diagonal(truth, accuracy / classes)
    macro, single, tests = 0, 0, 250
    for _ in range(tests):
        confusion = random.multinomial(pictures, truth.ravel()).reshape(classes, classes)
        low, high = macro_f1_interval(confusion, resamples=300)
        macro += low <= accuracy <= high  # equal rows and columns: every F1 is the accuracy
        wrong = int(confusion[0].sum() + confusion[:, 0].sum() - 2 * confusion[0, 0])
        low, high = f1_interval(int(confusion[0, 0]), wrong)
        single += low <= accuracy <= high
    # 95 % less three standard deviations of 250 tests is 91 %.
    assert macro / tests >= 0.92
    assert single / tests >= 0.92


def test_the_temperature_changes_no_answer_but_the_probability() -> None:
    cold, hot = score(logits_for(PREDICTED), LABELS, NAMES, 0.5), score(logits_for(PREDICTED), LABELS, NAMES, 2.0)
    assert torch.equal(cold.predicted, hot.predicted)
    assert (cold.probability > hot.probability).all()
