from __future__ import annotations

import torch

from striate.data.sources.digits import read_digits


def test_the_digits_use_all_of_the_grey_scale():
    labelled = read_digits()
    images, labels = labelled.images["train"], labelled.labels["train"]
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert len(images.unique()) == 17
    assert (int(images.min()), int(images.max())) == (0, 255)
    assert torch.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
