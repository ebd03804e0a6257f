from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.errors import DataError
from striate.data import assemble
from striate.data.assemble import Labelled, from_tensors

COLOURS = np.random.default_rng(0).integers(0, 256, (40, 4, 6, 3), dtype=np.uint8)


@pytest.fixture
def source() -> Labelled:
    images = torch.from_numpy(COLOURS).permute(0, 3, 1, 2).contiguous()
    labels = torch.arange(40) % 2
    return Labelled({"train": images, "test": images[:6]}, {"train": labels, "test": labels[:6]}, ("a", "b"))


def test_what_is_whole_is_not_copied(source):
    images = from_tensors(source, name="toy", seed=0)
    assert images.test.images.data_ptr() == source.images["test"].data_ptr()
    assert list(images.test.origins)[:2] == ["test[0]", "test[1]"]
    assert (images.held_out, images.test_held_out) == (True, False)


def test_mean_and_deviation_are_of_train_alone(source):
    images = from_tensors(source, name="toy", seed=0)
    train = images.train.images.double() / 255
    assert images.spec.input.mean == pytest.approx(train.mean(dim=(0, 2, 3)).tolist())
    assert images.spec.input.std == pytest.approx(train.std(dim=(0, 2, 3), correction=0).tolist())


def test_rgb_becomes_grey_as_pillow_does_it(source):
    images = from_tensors(source, name="toy", seed=0, channels=1)
    pillow = np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in COLOURS[:6]])
    assert int((images.test.images[:, 0].int() - torch.from_numpy(pillow).int()).abs().max()) <= 1


def test_other_numbers_of_channels_cannot_be_made(source):
    with pytest.raises(DataError, match="channels must be 3 as the pictures have, or 1 or 3 for grey or RGB, got 2"):
        from_tensors(source, name="toy", seed=0, channels=2)


def test_in_pieces_the_pictures_are_the_same(source, monkeypatch):
    whole = from_tensors(source, name="toy", seed=0, size=(7, 5), channels=1)
    monkeypatch.setattr(assemble, "_VALUES_AT_ONCE", 200)
    pieces = from_tensors(source, name="toy", seed=0, size=(7, 5), channels=1)
    assert pieces.fingerprint == whole.fingerprint
    assert torch.equal(pieces.test.images, whole.test.images)


def test_pictures_are_resized(source):
    images = from_tensors(source, name="toy", seed=0, size=(2, 3), resize="stretch")
    assert images.train.images.shape[1:] == images.spec.input.shape == (3, 2, 3)
