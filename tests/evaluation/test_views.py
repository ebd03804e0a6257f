from __future__ import annotations

import pytest
import torch

import striate as st
from striate.core.spec import TaskSpec
from striate.evaluation.predictions import predictions_of
from striate.evaluation.views import _view, predict_views


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-1, 0), (0, 2), (0, -2), (1, 1)])
def test_a_view_is_the_picture_moved(down: int, right: int) -> None:
    images = torch.arange(2 * 3 * 5 * 6).view(2, 3, 5, 6).to(torch.uint8)
    moved = _view(images, down, right, False)
    padded = torch.nn.functional.pad(images.float(), (3, 3, 3, 3), "reflect").to(torch.uint8)
    assert torch.equal(moved, padded[:, :, 3 - down : 8 - down, 3 - right : 9 - right])
    assert torch.equal(_view(images, 0, 0, True), images.flip(3))


def test_probabilities_are_averaged(image_set: st.ImageSet) -> None:
    network = st.build("conv 4@3x3 relu | flatten | fc 3", image_set.spec)
    spec = image_set.spec
    task = spec.task.model_copy(update={"temperature": 0.5})
    classifier = st.Classifier(network, spec.model_copy(update={"task": task}))
    test = image_set.test
    for views, moves, mirrors in (
        ("flip", [(0, 0)], (False, True)),
        ("shift", [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)], (False,)),
        ("flip+shift", [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)], (False, True)),
    ):
        made = predict_views(classifier, test, views)
        each = [classifier.probabilities(_view(test.images, *move, mirror)) for move in moves for mirror in mirrors]
        torch.testing.assert_close(made.probabilities, torch.stack(each).mean(0))
    assert not torch.equal(made.logits, predictions_of(classifier, test).logits)
    assert 0 <= st.evaluate(made, test).accuracy <= 1


def test_views_that_cannot_be_made(image_set: st.ImageSet) -> None:
    network = st.build("fc 3", image_set.spec)
    with pytest.raises(st.DataError, match=r"must be flip, shift or flip\+shift, got 'flips'\. Did you mean 'flip'\?"):
        predict_views(network, image_set.test, "flips")  # type: ignore[arg-type]
    spec = st.Spec.of((1, 1, 1), 2)
    split = st.Split(torch.zeros(2, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, 1]), spec, ["a", "b"])
    with pytest.raises(st.DataError, match="at least 2 pixels wide and high to be moved, these are 1"):
        predict_views(st.build("fc 2", spec), split, "shift")


def test_probabilities_of_several_labels_are_averaged(image_set: st.ImageSet) -> None:
    task = TaskSpec(class_names=image_set.spec.task.class_names, labels="multi", thresholds=(0.3, 0.5, 0.6))
    spec = image_set.spec.model_copy(update={"task": task.model_copy(update={"temperature": 0.5})})
    classifier = st.Classifier(st.build("conv 4@3x3 relu | flatten | fc 3", spec), spec)
    labels = torch.nn.functional.one_hot(image_set.test.labels, 3).to(torch.uint8)
    test = st.Split(image_set.test.images, labels, spec, image_set.test.origins)
    made = predict_views(classifier, test, "flip")
    mean = (classifier.probabilities(test.images) + classifier.probabilities(test.images.flip(3))) / 2
    torch.testing.assert_close(made.probabilities, mean)
    assert torch.equal(made.predicted, mean >= torch.tensor(task.thresholds))
