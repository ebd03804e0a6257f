from __future__ import annotations

import pytest
import torch

from striate.core import machine
from striate.core.errors import DataError
from striate.core.spec import InputSpec, Spec, TaskSpec
from striate.data.imageset import ImageSet, Origins, Split

SPEC = Spec(
    input=InputSpec(channels=1, height=2, width=3, mean=(0.0,), std=(1.0,)),
    task=TaskSpec(class_names=("cat", "dog")),
)


def make_split(count: int = 6, spec: Spec = SPEC) -> Split:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 3).contiguous()
    return Split(images, torch.arange(count) % 2, spec, Origins.numbered("train", count))


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (3, [3]),
        (-1, [5]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2, 4]),
        ([4, 0], [4, 0]),
        (torch.tensor([5, 5]), [5, 5]),
        (torch.tensor([True, False, False, False, False, True]), [0, 5]),
        ([], []),
    ],
)
def test_every_selection_returns_a_split_with_all_parts_alike(selection, expected):
    chosen = make_split()[selection]
    assert chosen.images[:, 0, 0, 0].tolist() == expected
    assert chosen.labels.tolist() == [number % 2 for number in expected]
    assert list(chosen.origins) == [f"train[{number}]" for number in expected]
    assert len(chosen) == len(expected)


def test_selecting_twice_keeps_the_first_origins():
    assert list(make_split()[[5, 3, 1]][1:].origins) == ["train[3]", "train[1]"]


def test_a_slice_shares_the_pixels():
    split = make_split()
    assert split[2:].images.untyped_storage().data_ptr() == split.images.untyped_storage().data_ptr()


def test_origins_may_be_a_list_and_groups_follow():
    images = torch.zeros(2, 1, 2, 3, dtype=torch.uint8)
    split = Split(images, torch.tensor([0, 1]), SPEC, ["a.png", "b.png"], groups=torch.tensor([7, 8]))
    assert list(split[[1]].origins) == ["b.png"]
    assert split[[1]].groups.tolist() == [8]


def test_iterating_yields_every_picture_and_ends():
    assert [int(one.labels) for one in make_split(3)] == [0, 1, 0]
    with pytest.raises(IndexError, match="There are 3 images; there is none at 3"):
        make_split(3)[3]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": torch.zeros(2, 1, 2, 3)}, r"images must be uint8 of shape \(N, C, H, W\), got float32"),
        ({"images": torch.zeros(2, 2, 3, dtype=torch.uint8)}, "images must be uint8 of shape"),
        ({"images": torch.zeros(2, 1, 3, 3, dtype=torch.uint8)}, r"as their Spec says, got \(1, 3, 3\)"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels must be int64 of shape \(2,\), got int64"),
        ({"labels": torch.zeros(2)}, "labels must be int64 .* got float32"),
        ({"labels": torch.tensor([0, 2])}, "labels must be from 0 to 1 for 2 classes, got 0 to 2"),
        ({"labels": torch.tensor([-1, 1])}, "got -1 to 1"),
        ({"origins": ["a"]}, "origins must be 2 names, one per image, got 1"),
        ({"groups": torch.zeros(1)}, r"groups must have shape \(2,\), got \(1,\)"),
    ],
)
def test_what_does_not_agree_is_refused(change, sentence):
    parts = {
        "images": torch.zeros(2, 1, 2, 3, dtype=torch.uint8),
        "labels": torch.tensor([0, 1]),
        "spec": SPEC,
        "origins": ["a", "b"],
    }
    with pytest.raises(DataError, match=sentence):
        Split(**(parts | change))


def test_an_image_set_has_three_splits_that_share_a_spec():
    train, val, test = make_split(6), make_split(2), make_split(4)
    images = ImageSet(train, val, test, name="toy", held_out=True)
    assert (images.train, images.val, images.test) == (train, val, test)
    assert images.spec is train.spec
    assert images.held_out
    assert not images.test_held_out
    other = SPEC.model_copy(update={"task": TaskSpec(class_names=("dog", "cat"))})
    with pytest.raises(DataError, match="train and val of toy must share one Spec"):
        ImageSet(train, make_split(2, other), test, name="toy")
    with pytest.raises(DataError, match="test of toy must have at least one picture, got none"):
        ImageSet(train, val, test[:0], name="toy")


class Sealed(ImageSet):
    @property
    def test(self) -> Split:
        raise AssertionError("test was read")


def test_the_fingerprint_is_of_train_and_val_and_never_of_test():
    fingerprint = Sealed(make_split(), make_split(2), make_split(2), name="toy").fingerprint
    assert len(fingerprint) == 16
    assert fingerprint == ImageSet(make_split(), make_split(2), make_split(3), name="other").fingerprint
    pixel, label = make_split(2), make_split(2)
    pixel.images[0, 0, 0, 0] += 1
    label.labels[0] = 1
    renamed = SPEC.model_copy(update={"task": TaskSpec(class_names=("dog", "cat"))})
    others = [
        ImageSet(pixel[[0, 1, 1, 1, 1, 1]], make_split(2), make_split(2), name="toy"),
        ImageSet(make_split(), pixel, make_split(2), name="toy"),
        ImageSet(make_split(), label, make_split(2), name="toy"),
        ImageSet(make_split(), make_split(4), make_split(2), name="toy"),
        ImageSet(make_split(6, renamed), make_split(2, renamed), make_split(2, renamed), name="toy"),
    ]
    assert len({fingerprint, *(other.fingerprint for other in others)}) == 6


def test_everything_is_the_three_splits_joined(monkeypatch):
    images = ImageSet(make_split(3), make_split(2), make_split(4), name="toy")
    joined = images.everything
    assert joined.images[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert joined.labels.tolist() == [0, 1, 0, 0, 1, 0, 1, 0, 1]
    assert joined.origins[3] == "train[0]"
    assert joined.spec is images.spec
    monkeypatch.setattr(machine, "available_system_memory", lambda: 53)
    with pytest.raises(DataError, match="The 9 pictures of toy joined take 54 bytes at 2×3; 53 bytes of memory are"):
        _ = images.everything
