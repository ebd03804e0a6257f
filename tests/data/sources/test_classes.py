from __future__ import annotations

import logging

import pytest
import torch

from striate.core.errors import DataError
from striate.data.sources.classes import check_classes


@pytest.mark.parametrize(
    ("labels", "names", "empty", "sentence"),
    [
        ([0, 0], ("a",), (), "the toys must have at least two classes, got only 'a'. Add a class of pictures"),
        ([0, 0], ("a",), ("b", "c"), "got only 'a'; no pictures are in 'b', 'c'. Add a class"),
        ([0, 0, 1, 1], ("a", "b", "a"), (), "The classes of the toys must have different names, got 'a' twice"),
        ([0, 0, 1], ("a", "b"), (), "Class 'b' of the toys must have at least two pictures to train on, got only one"),
        ([0, 0, 1, 1], ("a", "b", "c"), (), "Class 'c' of the toys must have at least two .*, got none"),
    ],
)
def test_what_no_classifier_can_be_trained_on_is_refused(labels, names, empty, sentence):
    with pytest.raises(DataError, match=sentence):
        check_classes(torch.tensor(labels), names, "the toys", empty)


def test_two_pictures_of_two_classes_will_do():
    check_classes(torch.tensor([0, 1, 0, 1]), ("a", "b"), "the toys", ("c",))


def test_several_labels_are_counted_one_by_one(caplog):
    several = torch.tensor([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=torch.uint8)
    with caplog.at_level(logging.WARNING):
        check_classes(several, ("cat", "dog"), "here")
    assert not caplog.text
    with pytest.raises(
        DataError, match="Class 'dog' of here must have at least two pictures to train on, got only one"
    ):
        check_classes(several[:2], ("cat", "dog"), "here")
    with caplog.at_level(logging.WARNING):
        check_classes(torch.eye(2, dtype=torch.uint8).repeat(2, 1), ("cat", "dog"), "here")
    assert "Each picture of here has exactly one class" in caplog.text
