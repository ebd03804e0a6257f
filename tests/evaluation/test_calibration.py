from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as hy
from torch import Tensor

import striate as st
from striate.core.spec import TaskSpec
from striate.evaluation.calibration import BINS, abstention, calibrate, calibration, fit_temperature
from striate.evaluation.predictions import Predictions, predictions_of
from striate.networks.saved import store_temperature
from tests.evaluation.test_multilabel import drawn as drawn_labels
from tests.evaluation.test_roc import labelled, predictions


def drawn(count: int, scale: float, seed: int = 0, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Return logits, ``scale`` times those that the labels are drawn from: the right temperature is the scale."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    return (scale * logits).float(), labels


def by_hand(probabilities: np.ndarray, labels: np.ndarray) -> float:
    error = 0.0
    for number in range(BINS):
        inside = [
            row
            for row, p in enumerate(probabilities)
            if number / BINS < p.max() <= (number + 1) / BINS or (number == 0 and p.max() == 0)
        ]
        if inside:
            sure = sum(probabilities[row].max() for row in inside) / len(inside)
            right = sum(probabilities[row].argmax() == labels[row] for row in inside) / len(inside)
            error += len(inside) / len(labels) * abs(sure - right)
    return error


def test_figures_by_hand() -> None:
    logits, labels = drawn(200, 3.0)
    made = calibration(*predictions(logits, labels))
    shares = logits.double().softmax(1).numpy()
    truth = np.eye(5)[labels.numpy()]
    assert made.expected_error == pytest.approx(by_hand(shares, labels.numpy()), abs=1e-9)
    assert made.negative_log_likelihood == pytest.approx(-np.log((shares * truth).sum(1)).mean())
    assert made.brier == pytest.approx(((shares - truth) ** 2).sum(1).mean())
    assert sum(one.pictures for one in made.bins) == 200
    for one in made.bins:
        assert one.low < one.confidence <= one.high
        assert one.interval[0] <= one.accuracy <= one.interval[1]


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0, 300.0])
def test_the_temperature_is_found(scale: float) -> None:
    logits, labels = drawn(4000, scale)
    assert fit_temperature(logits, labels) == pytest.approx(scale, rel=0.08)


def test_the_temperature_is_the_best_of_a_fine_grid() -> None:
    logits, labels = drawn(500, 2.0, seed=3)
    second = logits.double().topk(2, 1).indices[:, 1]

    def loss(temperature: float) -> float:
        shares = (logits.double() / temperature).log_softmax(1)
        imagined = -shares.gather(1, second[:, None]).mean()
        return float(-shares.gather(1, labels[:, None]).sum() + imagined)

    best = min(np.geomspace(0.5, 8, 2000), key=loss)
    assert fit_temperature(logits, labels) == pytest.approx(best, rel=2e-3)


def test_pictures_without_mistakes_ask_for_no_certainty() -> None:
    labels = torch.arange(100) % 4
    made = fit_temperature(torch.nn.functional.one_hot(labels, 4).float(), labels)
    confidence = float((torch.tensor([1.0, 0, 0, 0]) / made).softmax(0)[0])
    assert 0.95 < confidence < 0.999
    assert fit_temperature(torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64)) > 0
    assert fit_temperature(torch.zeros(5, 1), torch.zeros(5, dtype=torch.int64)) == 1.0
    with pytest.raises(st.DataError, match="at least one picture to fit"):
        fit_temperature(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@settings(max_examples=50, deadline=None)
@given(seed=hy.integers(0, 10_000), temperature=hy.floats(0.05, 20))
def test_no_temperature_changes_an_answer(seed: int, temperature: float) -> None:
    logits, labels = drawn(50, 1.0, seed)
    cold, split = predictions(logits, labels)
    warm, _ = predictions(logits, labels, temperature)
    assert torch.equal(warm.predicted, cold.predicted)
    assert torch.equal(warm.probabilities.argmax(1), cold.probabilities.argmax(1))
    assert st.evaluate(warm, split).accuracy == st.evaluate(cold, split).accuracy


def test_an_over_confident_network_is_calibrated_on_pictures_it_has_not_seen() -> None:
    """A network that was trained on digits far too long on few pictures."""
    images = st.load_data("digits")
    torch.manual_seed(0)
    network = st.build("flatten | fc 64 relu | fc 10", images.spec)
    few, mean = images.train[:150], images.spec.input
    inputs = (few.images.float() / 255 - mean.mean[0]) / mean.std[0]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), few.labels).backward()
        optimizer.step()
    with torch.no_grad():
        list(network.parameters())[-2].mul_(3.0)  # and surer still
        list(network.parameters())[-1].mul_(3.0)
    before = calibration(network, images.test)
    classifier = calibrate(network, images.val)
    after = calibration(classifier, images.test)
    assert after.temperature > 1.5
    assert after.expected_error < 0.7 * before.expected_error
    assert after.negative_log_likelihood < before.negative_log_likelihood
    assert after.accuracy == before.accuracy
    plain, warm = predictions_of(network, images.test), predictions_of(classifier, images.test)
    assert torch.equal(plain.predicted, warm.predicted)
    labels = [one.label for one in classifier.predict_many(list(images.test.images[:50]))]
    assert labels == [images.spec.task.class_names[k] for k in plain.predicted[:50].tolist()]


def test_the_temperature_is_kept_in_the_file_and_nothing_else_changes(image_set: st.ImageSet, tmp_path) -> None:
    network = st.build("conv 4@3x3 bn relu | gap | fc 3", image_set.spec)
    path = st.save(
        tmp_path / "model.safetensors", network, image_set.spec, metrics={"val": 0.5}, data={"name": "x"}, licence="MIT"
    )
    before = st.load(path)
    assert store_temperature(tmp_path, 2.5) == path
    after = st.load(path)
    assert after.spec.task.temperature == 2.5
    assert before.header.model_dump(exclude={"spec"}) == after.header.model_dump(exclude={"spec"})
    assert after.spec.input == before.spec.input
    assert after.spec.task.model_copy(update={"temperature": 1.0}) == before.spec.task
    for name, tensor in before.network.state_dict().items():
        assert torch.equal(tensor, after.network.state_dict()[name])
    images = image_set.test.images[:4]
    probabilities = st.load_classifier(path).probabilities(images)
    logits = predictions_of(before.network, image_set.test[:4]).logits
    torch.testing.assert_close(probabilities, (logits / 2.5).softmax(1))
    with pytest.raises(ValueError, match="greater than 0"):
        store_temperature(path, 0.0)


def test_abstaining_by_hand() -> None:
    probabilities = torch.tensor([0.9, 0.8, 0.8, 0.7, 0.6])
    right = torch.tensor([True, True, False, True, False])
    logits = torch.stack([probabilities.log(), (1 - probabilities).log()], 1)
    made = abstention(*predictions(logits, (~right).long()))
    assert made.confidences == pytest.approx((0.6, 0.7, 0.8, 0.9))
    assert made.answered == (5, 4, 3, 1)
    assert made.correct == (3, 3, 2, 1)
    at = made.at(0.75)
    assert (at.answered, at.accuracy) == pytest.approx((3 / 5, 2 / 3))
    assert made.threshold_for(0.7).threshold == pytest.approx(0.7)  # the first, lowest one that is right so often
    assert made.threshold_for(0.7).answered == pytest.approx(0.8)
    assert made.threshold_for(1.0).answered == pytest.approx(0.2)
    with pytest.raises(st.DataError, match=r"must be at most 0\.9"):
        made.at(0.95)
    wrong = abstention(*predictions(logits, right.long()))
    with pytest.raises(st.DataError, match=r"No threshold is right in 99\.00% of its answers; the best is in 4"):
        wrong.threshold_for(0.99)


def test_both_are_drawn() -> None:
    made: tuple[Predictions, st.Split] = predictions(*drawn(300, 3.0))
    assert "ECE" in calibration(*made).draw()
    assert "answered" in abstention(*made).draw()


def test_of_several_labels_every_pair_is_an_answer() -> None:
    logits, labels = drawn_labels(150, 3, seed=5)
    made = calibration(*labelled(logits, labels, temperature=0.7))
    shares, truth = (logits.double() / 0.7).sigmoid().numpy().ravel(), labels.numpy().ravel()
    assert sum(one.pictures for one in made.bins) == 450
    error = 0.0
    for number in range(BINS):
        inside = (number / BINS < shares) & (shares <= (number + 1) / BINS)
        error += abs(shares[inside].sum() - truth[inside].sum()) / 450
    assert made.expected_error == pytest.approx(error, abs=1e-9)
    likelihood = np.where(truth == 1, np.log(shares), np.log(1 - shares)).mean()
    assert made.negative_log_likelihood == pytest.approx(-likelihood)
    assert made.brier == pytest.approx(((shares - truth) ** 2).mean())
    assert (made.accuracy, made.confidence) == pytest.approx((truth.mean(), shares.mean()))
    assert "mean probability" in str(made)
    assert "pairs of a picture and a label" in made.draw()


@pytest.mark.parametrize("scale", [0.2, 1.0, 20.0])
def test_the_temperature_of_several_labels_is_found(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3000, 3, generator=generator)
    labels = (torch.rand(3000, 3, generator=generator) < logits.sigmoid()).to(torch.uint8)
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale, rel=0.08)


def test_a_temperature_of_several_labels_changes_no_answer(image_set: st.ImageSet, tmp_path: Path) -> None:
    names = image_set.spec.task.class_names
    task = TaskSpec(class_names=names, labels="multi", thresholds=(0.2, 0.5, 0.77))
    spec = image_set.spec.model_copy(update={"task": task.model_copy(update={"thresholds": None})})
    labels = torch.nn.functional.one_hot(image_set.test.labels, 3).to(torch.uint8)
    test = st.Split(image_set.test.images, labels, spec, image_set.test.origins)
    network = st.build("conv 8@3x3 bn relu | gap | fc 3", spec)
    path = st.save(tmp_path / "model.safetensors", network, spec.model_copy(update={"task": task}))
    before = st.load_classifier(path)
    after = calibrate(before, test)
    assert after.spec.task.temperature != 1
    assert torch.equal(predictions_of(before, test).predicted, predictions_of(after, test).predicted)
    store_temperature(path, after.spec.task.temperature)
    assert st.load_classifier(path).spec == after.spec


def test_of_several_labels_none_abstains() -> None:
    with pytest.raises(st.DataError, match="Abstaining needs pictures of one class each"):
        abstention(*labelled(*drawn_labels(10, 2)))
