from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from striate.core import machine
from striate.core.errors import DataError
from striate.core.spec import InputSpec
from striate.data.decode import pixels_of
from striate.data.preprocess import resize_to_uint8
from striate.data.sources.datasets import are_datasets, read_datasets

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 12, 3), dtype=np.uint8)
LABELS = [0, 1, 0, 1, 0, 1]


class Pairs:
    """A map-style data set, with the names that torchvision's have."""

    def __init__(self, pictures: Sequence[object], labels: Sequence[object], classes: Sequence[object] = ()) -> None:
        self.pictures, self.labels = pictures, labels
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, number: int) -> tuple[object, object]:
        return self.pictures[number], self.labels[number]


def test_pictures_in_every_form_are_the_same():
    forms = [
        [Image.fromarray(one) for one in PIXELS],
        list(PIXELS),
        [torch.from_numpy(one) for one in PIXELS],
        [torch.from_numpy(one).permute(2, 0, 1) for one in PIXELS],
    ]
    expected = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    for pictures in forms:
        for data in (Pairs(pictures, LABELS), list(zip(pictures, LABELS, strict=True))):
            assert are_datasets(data)
            assert torch.equal(read_datasets(data).images["train"], expected)


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        ([7, 3, 7, 3, 7, 3], ("3", "7"), [1, 0, 1, 0, 1, 0]),
        (["b", "a"] * 3, ("a", "b"), [1, 0, 1, 0, 1, 0]),
        ([np.int64(0), np.int64(1)] * 3, ("0", "1"), LABELS),
        ([torch.tensor(0), torch.tensor(1)] * 3, ("0", "1"), LABELS),
        ([torch.tensor([1, 0, 1]), torch.tensor([0, 1, 1])] * 3, ("0", "1", "2"), [[1, 0, 1], [0, 1, 1]] * 3),
        ([[1, 0, 1], [0, 1, 1]] * 3, ("0", "1", "2"), [[1, 0, 1], [0, 1, 1]] * 3),
    ],
)
def test_labels_are_numbers_words_or_rows_of_0_and_1(labels, names, numbers):
    read = read_datasets(Pairs(PIXELS, labels))
    assert read.class_names == names
    assert read.labels["train"].tolist() == numbers


def test_the_classes_of_a_data_set_name_its_labels():
    assert read_datasets(Pairs(PIXELS, LABELS, ["cat", "dog"])).class_names == ("cat", "dog")
    assert read_datasets(Pairs(PIXELS, LABELS, [("cat", "feline"), ("dog",)])).class_names == ("cat, feline", "dog")
    assert read_datasets(Subset(Pairs(PIXELS, LABELS, ["cat", "dog"]), range(4))).class_names == ("cat", "dog")
    assert read_datasets(Pairs(PIXELS, LABELS, ["cat", "dog"]), class_names=["a", "b"]).class_names == ("a", "b")
    with pytest.raises(
        DataError, match="Class 'cow' of the data set must have at least two pictures to train on, got no"
    ):
        read_datasets(Pairs(PIXELS, LABELS, ["cat", "dog", "cow"]))


def test_several_data_sets_are_splits():
    one = Pairs(PIXELS, LABELS)
    assert list(read_datasets((one, one)).images) == ["train", "test"]
    assert list(read_datasets((one, one, one)).images) == ["train", "val", "test"]
    assert list(read_datasets({"test": one, "train": one}).labels) == ["test", "train"]
    with pytest.raises(DataError, match="must be named train, and val or test, got 'training'"):
        read_datasets({"training": one})


def test_arrays_are_no_data_sets():
    for data in (
        (PIXELS, LABELS),
        (list(PIXELS), LABELS),
        {"train": (PIXELS, LABELS)},
        PIXELS,
        None,
        3,
        ((1, 2), (3, 4)),
    ):
        assert not are_datasets(data)
    assert are_datasets(TensorDataset(torch.from_numpy(PIXELS), torch.tensor(LABELS)))


@pytest.mark.parametrize(
    ("sides", "options", "expected"),
    [
        ([(10, 12), (20, 9)], {}, (20, 12)),
        ([(10, 12), (300, 200)], {}, (96, 96)),
        ([(300, 200), (300, 200)], {}, (96, 96)),
        ([(10, 12), (20, 9)], {"size": (7, 5)}, (7, 5)),
        ([(10, 12), (20, 9)], {"size": (7, 5), "resize": "pad"}, (7, 5)),
    ],
)
def test_pictures_of_several_sizes_are_resized_as_files_are(sides, options, expected):
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (*side, 3), dtype=np.uint8) for side in sides * 2]
    images = read_datasets(
        Pairs(pictures, [0, 1, 0, 1][: len(pictures)] if len(sides) == 1 else [0, 0, 1, 1]), **options
    )
    spec = InputSpec(
        channels=3,
        height=expected[0],
        width=expected[1],
        mean=(0,) * 3,
        std=(1,) * 3,
        resize=options.get("resize", "crop"),
    )
    reference = [resize_to_uint8(pixels_of(Image.fromarray(one), spec), spec) for one in pictures]
    assert torch.equal(images.images["train"], torch.stack(reference))


def test_channels_are_those_of_the_pictures_or_those_asked_for():
    grey = [Image.fromarray(one).convert("L") for one in PIXELS]
    assert read_datasets(Pairs(grey, LABELS)).images["train"].shape[1] == 1
    assert read_datasets(Pairs([np.asarray(one)[None] for one in grey], LABELS)).images["train"].shape[1] == 1
    mixed = read_datasets(Pairs([*grey[:3], *PIXELS[3:]], LABELS)).images["train"]
    assert torch.equal(mixed[0], torch.from_numpy(np.array(grey[0])).expand(3, -1, -1))
    assert torch.equal(mixed[5], torch.from_numpy(PIXELS[5]).permute(2, 0, 1))
    assert torch.equal(
        read_datasets(Pairs(PIXELS, LABELS), channels=1).images["train"][:, 0],
        torch.from_numpy(np.stack([np.asarray(one) for one in grey])),
    )
    assert read_datasets(Pairs(grey, LABELS), channels=3).images["train"].shape[1] == 3
    with pytest.raises(
        DataError, match="channels must be 1 for grey or 3 for RGB where pictures come one by one, got 2"
    ):
        read_datasets(Pairs(PIXELS, LABELS), channels=2)


def test_pictures_are_read_as_a_network_takes_them():
    like = InputSpec(channels=1, height=4, width=9, mean=(0.3,), std=(0.2,), resize="stretch", interpolation="nearest")
    read = read_datasets(Pairs(PIXELS, LABELS), like=like)
    expected = [resize_to_uint8(pixels_of(Image.fromarray(one), like), like) for one in PIXELS]
    assert torch.equal(read.images["train"], torch.stack(expected))


class Broken(Pairs):
    def __getitem__(self, number: int) -> tuple[object, object]:
        if number == 4:
            raise FileNotFoundError("4.png")
        return super().__getitem__(number)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            Pairs(PIXELS / 255, LABELS),
            r"train\[0\] of the data set must be uint8 from 0 to 255, got float64\. Leave ToTe",
        ),
        (Pairs([torch.zeros(3, 4, 4)] * 6, LABELS), r"got float32\. Leave ToTensor and Normalize out of its transform"),
        (Pairs([PIXELS[0, 0, 0]] * 6, LABELS), r"train\[0\] of the data set must have shape \(h, w\), .* got \(3,\)"),
        (Pairs([PIXELS[0, :, :, :2]] * 6, LABELS), r"must have shape .*, got \(10, 12, 2\)"),
        (Pairs(["0.png"] * 6, LABELS), r"train\[0\] .* must be \(picture, label\): .*, got str as the picture"),
        (Broken(PIXELS, LABELS), r"train\[4\] of the data set cannot be read: FileNotFoundError: 4\.png\."),
        (Subset(list(PIXELS), range(6)), r"train\[0\] of the data set must be \(picture, label\): .*, got ndarray"),
        (TensorDataset(torch.from_numpy(PIXELS)), r"train\[0\] .* must be \(picture, label\): .*, got 1 values"),
        (Pairs(PIXELS, [{"boxes": []}] * 6), r"labels of train must be whole numbers or words, got \{'boxes': \[\]\}"),
        (Pairs(PIXELS, [0.5, 1.0] * 3), r"labels of train must be whole numbers or words, got float64"),
        (Pairs(PIXELS, [[1, 0], [1]] * 3), r"labels of train must be of one shape each, got several"),
        ((Pairs(PIXELS, LABELS), Pairs(PIXELS, ["a"] * 6)), r"labels of test must be of the 2 classes, got 'a'"),
        (Pairs([], []), r"train of the data set must have at least one picture, got none"),
    ],
)
def test_what_is_wrong_is_said(data, sentence):
    with pytest.raises(DataError, match=sentence):
        read_datasets(data)


def test_more_than_memory_is_refused_before_an_item_is_read(monkeypatch):
    monkeypatch.setattr(machine, "available_system_memory", lambda: 100_000)
    with pytest.raises(DataError, match=r"The 6 pictures of train take .* at 96×96; .* are free\. Give a smaller size"):
        read_datasets(Broken(PIXELS, LABELS))
