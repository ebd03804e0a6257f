from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from striate.core.errors import DataError
from striate.data.sources.arrays import read_arrays

GREY = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
RGB = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
LABELS = np.array([0, 1, 0, 1, 0, 1])


def test_the_layouts_mean_the_same():
    assert torch.equal(read_arrays((GREY, LABELS)).images["train"], torch.from_numpy(GREY)[:, None])
    last = read_arrays((RGB, LABELS)).images["train"]
    first = read_arrays((RGB.transpose(0, 3, 1, 2), LABELS)).images["train"]
    assert last.shape == (6, 3, 4, 5)
    assert torch.equal(last, first)
    assert torch.equal(read_arrays((torch.from_numpy(RGB), torch.from_numpy(LABELS))).images["train"], last)


def test_any_number_of_channels_can_be_named():
    bands = np.zeros((6, 7, 8, 5), dtype=np.uint8)
    assert read_arrays((bands, LABELS), channels=5).images["train"].shape == (6, 5, 7, 8)
    with pytest.raises(DataError, match=r"must have 1 or 3 channels .* got shape \(6, 7, 8, 5\). Give the number"):
        read_arrays((bands, LABELS))


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        ([0, 1, 0, 1, 0, 1], ("0", "1"), [0, 1, 0, 1, 0, 1]),
        ([7, -2, 7, -2, 9, 9], ("-2", "7", "9"), [1, 0, 1, 0, 2, 2]),
        (["b", "a", "b", "a", "a", "a"], ("a", "b"), [1, 0, 1, 0, 0, 0]),
        (np.array(["b", "a", "b", "a", "a", "a"], dtype=object), ("a", "b"), [1, 0, 1, 0, 0, 0]),
        (np.array([[1], [0], [1], [0], [0], [0]], dtype=np.uint8), ("0", "1"), [1, 0, 1, 0, 0, 0]),
        ([b"caf\xc3\xa9", b"ox"] * 3, ("café", "ox"), [0, 1, 0, 1, 0, 1]),
        (np.array([b"b", "a"] * 3, dtype=object), ("a", "b"), [1, 0, 1, 0, 1, 0]),
        ([True, False, True, False, True, True], ("False", "True"), [1, 0, 1, 0, 1, 1]),
    ],
)
def test_labels_are_numbered_in_sorted_order(labels, names, numbers):
    labelled = read_arrays((GREY, labels))
    assert labelled.class_names == names
    assert labelled.labels["train"].tolist() == numbers
    assert labelled.labels["train"].dtype == torch.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool])
def test_a_column_for_each_class_allows_several(dtype):
    several = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]] * 2).astype(dtype)
    labelled = read_arrays((GREY, several))
    assert labelled.class_names == ("0", "1", "2")
    assert labelled.labels["train"].dtype == torch.uint8
    assert labelled.labels["train"].tolist() == several.astype(int).tolist()
    assert read_arrays((GREY, torch.from_numpy(several)), class_names=["a", "b", "c"]).class_names == ("a", "b", "c")


def test_one_class_each_in_columns_is_remarked_upon(caplog):
    with caplog.at_level(logging.WARNING):
        read_arrays((GREY, np.eye(2, dtype=np.uint8)[LABELS]))
    assert "Each picture of the arrays has exactly one class, and is trained as if it may have several" in caplog.text


def test_grey_and_rgb_can_be_converted_and_are_found_in_either_axis():
    for channels in (1, 3):
        assert read_arrays((RGB, LABELS), channels=channels).images["train"].shape == (6, 3, 4, 5)
        assert read_arrays((GREY[..., None], LABELS), channels=channels).images["train"].shape == (6, 1, 4, 5)
    with pytest.raises(DataError, match="must have 2 channels in their last or second axis"):
        read_arrays((RGB, LABELS), channels=2)


def test_class_names_say_the_order():
    assert read_arrays((GREY, LABELS), class_names=["no", "yes"]).class_names == ("no", "yes")
    words = np.array(["no", "yes"])[LABELS]
    assert read_arrays((GREY, words), class_names=["yes", "no"]).labels["train"].tolist() == [1, 0, 1, 0, 1, 0]
    with pytest.raises(DataError, match="labels of train must be of the 2 classes, got 2"):
        read_arrays((GREY, LABELS + 1), class_names=["no", "yes"])


@pytest.mark.parametrize(
    "data",
    [
        {"train": (GREY, LABELS), "test": (GREY[:3], LABELS[:3])},
        ((GREY, LABELS), (GREY[:3], LABELS[:3])),
    ],
)
def test_several_splits_are_kept(data):
    labelled = read_arrays(data)
    assert {split: len(labels) for split, labels in labelled.labels.items()} == {"train": 6, "test": 3}


def test_three_pairs_are_train_val_and_test():
    assert list(read_arrays(((GREY, LABELS),) * 3).images) == ["train", "val", "test"]


def test_writeable_memory_is_shared_and_read_only_memory_is_not_written():
    assert read_arrays((GREY, LABELS)).images["train"].data_ptr() == GREY.ctypes.data
    frozen = GREY.copy()
    frozen.flags.writeable = False
    assert read_arrays((frozen, LABELS)).images["train"].data_ptr() != frozen.ctypes.data


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ((GREY.astype(np.float64), LABELS), "images of train must be uint8 from 0 to 255, got float64. Numbers from 0"),
        ((GREY[0, 0], LABELS), r"images of train must have shape \(N, H, W\), .*, got \(5,\)"),
        ((GREY[:0], LABELS[:0]), r"images of train must have shape .*, got \(0, 1, 4, 5\)"),
        (
            (GREY, LABELS[:5]),
            r"labels of train must be one per image, shape \(6,\), or 0 and 1 for each class, .*, got \(5,\)",
        ),
        ((GREY, LABELS / 2), "labels of train must be whole numbers or words, got float64"),
        ((GREY, LABELS * 0), "the arrays must have at least two classes, got only '0'"),
        (
            (GREY, [0, 0, 0, 0, 0, 1]),
            "Class '1' of the arrays must have at least two pictures to train on, got only one",
        ),
        ((GREY, [b"\xff", b"a"] * 3), r"labels of train must be UTF-8 where they are bytes, got b'\\xff'"),
        (
            (GREY, np.eye(2)[LABELS]),
            r"0 and 1 in whole numbers, got float64\. Where each picture .* labels\.argmax\(1\)",
        ),
        ((GREY, np.array([[0, 2], [1, 0]] * 3)), "labels of train with a column for each class must be 0 or 1, got 2"),
        (
            ((GREY, np.array([[0, 1], [1, 1]] * 3)), (GREY, LABELS)),
            r"labels of test must have the shape of train, \('N', 2",
        ),
        ((GREY, np.array([[0, 1], [0, 1]] * 3)), "Class '0' of the arrays must have at least two pictures .* got none"),
        ((GREY, [None, 1] * 3), "labels of train must be whole numbers or words, got None"),
        ((GREY,), r"Arrays of train must be a pair \(images, labels\), got 1 parts"),
        (GREY, r"data must be a name, a path, .*, or arrays \(images, labels\), got ndarray"),
        (42, "data must be a name, .*, got int"),
        ({"training": (GREY, LABELS)}, "Arrays by split must be named train, and val or test, got 'training'"),
        (((GREY, LABELS), (GREY, LABELS + 1)), "labels of test must be of the 2 classes, got 2"),
        (((GREY, LABELS), (RGB, LABELS)), r"images of test must have the shape of train, \(1, 4, 5\), got \(3, 4, 5\)"),
    ],
)
def test_what_is_wrong_is_said(data, sentence):
    with pytest.raises(DataError, match=sentence):
        read_arrays(data)
