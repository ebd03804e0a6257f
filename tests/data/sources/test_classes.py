from __future__ import annotations

import pytest
import torch

from striate.core.errors import DataError
from striate.data.sources.classes import check_classes, listed


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


def test_five_names_are_listed():
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"
