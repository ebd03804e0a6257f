from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import striate as st
from striate.inspection.subject import class_number, subject_of
from tests.inspection import subjects

NAMES = ("cat", "dog", "horse")


class Small(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(self.conv(images).relu().mean((2, 3))))
        return logits


def _spec(channels: int = 3) -> st.Spec:
    spec = st.Spec.of((channels, 6, 5), NAMES)
    pictures = spec.input.model_copy(update={"mean": (0.25,) * channels, "std": (0.5,) * channels})
    return spec.model_copy(update={"input": pictures})


def _classifier(channels: int = 3) -> st.Classifier:
    return st.Classifier(Small(channels), _spec(channels))


def _pixels() -> Tensor:
    return torch.arange(90, dtype=torch.uint8).view(3, 6, 5) * 2


@pytest.mark.parametrize("kind", ["file", "name", "bytes", "pillow", "array", "tensor", "tensors", "list"])
def test_every_kind_of_picture_is_the_same(kind: str, tmp_path: Path) -> None:
    image = Image.fromarray(_pixels().permute(1, 2, 0).numpy())
    path = tmp_path / "picture.png"
    image.save(path)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    given = {
        "file": path,
        "name": str(path),
        "bytes": stream.getvalue(),
        "pillow": image,
        "array": np.asarray(image),
        "tensor": _pixels(),
        "tensors": _pixels()[None],
        "list": [path, image],
    }[kind]
    subject = subject_of(_classifier(), given)  # type: ignore[arg-type]
    assert torch.equal(subject.images[-1], _pixels())
    assert len(subject.images) == (2 if kind == "list" else 1)
    assert subject.labels is None
    expected = {"file": [str(path)], "name": [str(path)], "list": [str(path), "picture 1"]}
    assert list(subject.origins) == expected.get(kind, ["picture 0"])
    np.testing.assert_allclose(subject.inputs[-1], (_pixels().numpy() / 255 - 0.25) / 0.5, rtol=1e-5)


def test_a_split_brings_its_labels_and_origins(image_set: st.ImageSet) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    subject = subject_of(network, image_set.test)
    assert subject.spec == image_set.spec
    assert torch.equal(subject.images, image_set.test.images)
    assert subject.labels is not None
    assert torch.equal(subject.labels, image_set.test.labels)
    assert subject.origins[0] == image_set.test.origins[0]
    other = st.Classifier(network, st.Spec.of((1, 8, 8), ("a", "b", "c")))
    assert subject_of(other, image_set.test).labels is None  # other classes: the labels say nothing of them


def test_pictures_of_another_size_are_fitted_to_the_network() -> None:
    for given in (Image.new("RGB", (20, 30), (10, 20, 30)), torch.full((2, 3, 12, 12), 9, dtype=torch.uint8)):
        assert subject_of(_classifier(), given).images.shape[1:] == (3, 6, 5)


def test_a_module_that_nobody_has_noted_a_spec_on() -> None:
    subject = subject_of(Small(), torch.zeros(2, 3, 9, 9, dtype=torch.uint8))
    assert subject.spec == st.Spec.of((3, 9, 9), 3)
    with pytest.raises(st.NetworkError, match=r"does not say what size of pictures it takes\. Pass st\.Classifier"):
        subject_of(Small(), Image.new("RGB", (9, 9)))


def test_the_network_is_left_as_it_was() -> None:
    network = Small().train()
    network.conv.eval()
    random = torch.get_rng_state()
    subject = subject_of(network, torch.zeros(2, 3, 9, 9, dtype=torch.uint8))
    first = subject.logits
    assert network.training
    assert network.drop.training
    assert not network.conv.training
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(subject_of(network, subject.images).logits, first)  # no dropout
    assert not first.requires_grad


def test_the_classes_that_are_asked_about() -> None:
    subject = subject_of(_classifier(), _pixels()[None].repeat(2, 1, 1, 1))
    assert torch.equal(subject.targets(), subject.logits.argmax(1))
    assert subject.targets("dog").tolist() == [1, 1]
    assert subject.targets(2).tolist() == [2, 2]
    assert subject.targets(["horse", 0]).tolist() == [2, 0]
    assert subject.targets(torch.tensor([0, 2])).tolist() == [0, 2]
    with pytest.raises(st.DataError, match="one class for each of the 2 pictures, got 3"):
        subject.targets([0, 1, 2])


def test_classes_that_there_are_not() -> None:
    with pytest.raises(st.DataError, match=r"no class 'hors'\. Did you mean 'horse'\? The classes are cat, dog, horse"):
        class_number(_spec(), "hors")
    for number in (3, -1):
        with pytest.raises(st.DataError, match=rf"no class {number}: the 3 classes are numbered from 0 \(cat\)"):
            class_number(_spec(), number)


def test_no_pictures(image_set: st.ImageSet) -> None:
    for given in (image_set.test[:0], [], torch.zeros(0, 3, 6, 5, dtype=torch.uint8)):
        with pytest.raises(st.DataError, match="at least one picture to look at, got none"):
            subject_of(_classifier(), given)  # type: ignore[arg-type]


def test_pictures_that_the_network_does_not_take(image_set: st.ImageSet) -> None:
    with pytest.raises(st.DataError, match=r"must be uint8 pixels 0–255, got torch\.float32"):
        subject_of(_classifier(), torch.zeros(1, 3, 6, 5))
    with pytest.raises(st.DataError, match="takes pictures of 3×6×5, these are 1×8×8"):
        subject_of(_classifier(), image_set.test)
    with pytest.raises(st.DataError, match="channel"):
        subject_of(_classifier(), torch.zeros(1, 2, 6, 5, dtype=torch.uint8))
    with pytest.raises(st.NetworkError, match=r"takes pictures with 3 channels, these have 1\."):
        subject_of(Small(), torch.zeros(1, 1, 9, 9, dtype=torch.uint8))


def test_a_grey_picture_for_a_network_of_colours_and_the_reverse() -> None:
    grey = Image.new("L", (5, 6), 77)
    assert (subject_of(_classifier(), grey).images == 77).all()
    assert subject_of(_classifier(1), Image.new("RGB", (5, 6), (77, 77, 77))).images.shape == (1, 1, 6, 5)


def test_a_network_that_returns_a_dictionary() -> None:
    with pytest.raises(st.NetworkError, match=r"must return logits \(N, K\), got dict\. Wrap it in a module"):
        subject_of(subjects.SaysMore(), torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    network = subjects.Wrapped()
    assert subject_of(network, torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).logits.shape == (1, 5)
