from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import striate as st
from striate.core.spec import TaskSpec
from striate.evaluation.predictions import (
    PREDICTIONS_FILE,
    Predictions,
    predictions_of,
    read_predictions,
    write_predictions,
)


@pytest.fixture
def network(image_set: st.ImageSet) -> torch.nn.Module:
    return st.build("conv 4@3x3 bn relu | gap | fc 3", image_set.spec)


def kept(folder: Path, network: torch.nn.Module, test: st.Split) -> Predictions:
    predictions = predictions_of(network, test)
    assert write_predictions(folder, predictions, network, test) == folder / PREDICTIONS_FILE
    return predictions


def test_what_was_kept_is_read_again(image_set: st.ImageSet, network: torch.nn.Module, tmp_path: Path) -> None:
    written = kept(tmp_path, network, image_set.test)
    read = read_predictions(tmp_path, network, image_set.test)
    assert read is not None
    assert torch.equal(read.logits, written.logits)
    assert list(read.origins) == list(image_set.test.origins)
    torch.testing.assert_close(read.probabilities.sum(1), torch.ones(len(image_set.test)))
    assert torch.equal(read.correct, read.predicted == image_set.test.labels)


def test_the_run_on_the_disk_is_the_same_network(
    image_set: st.ImageSet, network: torch.nn.Module, tmp_path: Path
) -> None:
    kept(tmp_path, network, image_set.test)
    st.save(tmp_path / "model.safetensors", network, image_set.spec)
    assert read_predictions(tmp_path, st.load_classifier(tmp_path), image_set.test) is not None


def test_a_temperature_set_later_counts(image_set: st.ImageSet, network: torch.nn.Module, tmp_path: Path) -> None:
    written = kept(tmp_path, network, image_set.test)
    task = image_set.spec.task.model_copy(update={"temperature": 2.0})
    read = read_predictions(
        tmp_path, st.Classifier(network, image_set.spec.model_copy(update={"task": task})), image_set.test
    )
    assert read is not None
    torch.testing.assert_close(read.probabilities, (written.logits / 2).softmax(1))


def test_other_weights_statistics_pictures_or_labels_are_not_taken(
    image_set: st.ImageSet, network: torch.nn.Module, tmp_path: Path
) -> None:
    test = image_set.test
    kept(tmp_path, network, test)
    assert read_predictions(tmp_path, network, test) is not None
    images = test.images.clone()
    images[0, 0, 0, 0] ^= 1
    assert read_predictions(tmp_path, network, replace(test, images=images)) is None
    assert read_predictions(tmp_path, network, replace(test, labels=(test.labels + 1) % 3)) is None
    assert read_predictions(tmp_path, network, test[:-1]) is None
    brighter = image_set.spec.input.model_copy(update={"mean": (0.9,)})
    other = st.Classifier(network, image_set.spec.model_copy(update={"input": brighter}))
    assert read_predictions(tmp_path, other, test) is None
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-6
    assert read_predictions(tmp_path, network, test) is None


def test_nothing_and_what_is_damaged_are_not_taken(
    image_set: st.ImageSet, network: torch.nn.Module, tmp_path: Path
) -> None:
    assert read_predictions(tmp_path, network, image_set.test) is None
    kept(tmp_path, network, image_set.test)
    path = tmp_path / PREDICTIONS_FILE
    path.write_bytes(path.read_bytes()[:-10])
    assert read_predictions(tmp_path, network, image_set.test) is None
    path.write_bytes(b"nothing")
    assert read_predictions(tmp_path, network, image_set.test) is None


def test_predictions_of_other_pictures_are_refused(image_set: st.ImageSet, network: torch.nn.Module) -> None:
    predictions = predictions_of(network, image_set.test)
    assert predictions_of(predictions, image_set.test) is predictions
    with pytest.raises(st.DataError, match=r"must be of these 5 pictures, got \d+ with other labels"):
        predictions_of(predictions, image_set.test[:5])


def test_several_labels_are_kept_and_said_by_their_thresholds(image_set: st.ImageSet, tmp_path: Path) -> None:
    task = TaskSpec(class_names=image_set.spec.task.class_names, labels="multi", thresholds=(0.3, 0.5, 0.6))
    spec = image_set.spec.model_copy(update={"task": task})
    labels = torch.nn.functional.one_hot(image_set.test.labels, 3).to(torch.uint8)
    test = st.Split(image_set.test.images, labels, spec, image_set.test.origins)
    network = st.build("conv 4@3x3 bn relu | gap | fc 3", spec)
    written = kept(tmp_path, network, test)
    read = read_predictions(tmp_path, network, test)
    assert read is not None
    assert torch.equal(read.labels, labels)
    probabilities = written.logits.sigmoid()
    assert torch.equal(read.predicted, probabilities >= torch.tensor(task.thresholds))
    assert torch.equal(read.correct, (read.predicted == labels.bool()).all(1))
    each = torch.where(read.predicted, probabilities, 1 - probabilities)
    torch.testing.assert_close(read.confidence, each.prod(1))
    assert read_predictions(tmp_path, network, replace(test, labels=1 - labels)) is None
