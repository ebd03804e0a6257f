from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.data.augment.augment import augment
from striate.data.augment.boxes import inside_boxes
from striate.data.augment.policy import Augmentation
from tests.data.augment.test_augment import pictures


def erased(count: int, side: int = 20, probability: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures whose upper half is 0 and whose lower half is 200, erased, and where they changed."""
    images = torch.zeros(count, 2, side, side, dtype=torch.uint8)
    images[:, :, side // 2 :] = 200
    result = augment(images, torch.arange(count), Augmentation(erase=probability), epoch=0, seed=0)
    return result, (result != images).any(1)


def test_a_box_is_filled_with_the_mean_colour():
    result, where = erased(300)
    for picture, mask in zip(result, where, strict=True):
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert mask.sum() == len(rows) * len(columns) > 0
        assert (picture[:, mask] == 100).all()


def test_the_mean_is_of_each_channel():
    images = pictures(1, 3, 8, 9)
    result = augment(images, torch.arange(1), Augmentation(erase=1), epoch=0, seed=0)
    box = (result != images).any(1)[0]
    for channel in range(3):
        assert set(result[0, channel][box].tolist()) == {round(images[0, channel].double().mean().item())}


def test_boxes_cover_2_to_40_percent_everywhere():
    _, where = erased(3000, 40)
    area = where.double().mean((1, 2))
    assert area.mean().item() == pytest.approx(0.21, abs=0.01)
    assert area.min() >= 0.01
    assert area.max() <= 0.45
    sides = where.any(1).sum(1) / where.any(2).sum(1)
    assert 0.25 < sides.min() < 0.35
    assert 2.9 < sides.max() < 4
    covered = where.double().mean(0)
    assert torch.allclose(covered, covered.flip(0), atol=0.05)
    assert torch.allclose(covered, covered.T, atol=0.05)


@pytest.mark.parametrize("probability", [0.25, 0.8])
def test_as_many_are_erased_as_asked(probability):
    _, where = erased(3000, 8, probability)
    assert where.any(2).any(1).double().mean().item() == pytest.approx(probability, abs=0.03)


def test_inside_boxes_is_slicing():
    numbers = torch.tensor([[0, 0, 2, 3], [4, 1, 9, 1], [-2, -1, 3, 3], [1, 1, 0, 4]])
    inside = inside_boxes(*numbers.T, (5, 6))
    for (top, left, rows, columns), mask in zip(numbers.tolist(), inside[:, 0].numpy(), strict=True):
        expected = np.zeros((5, 6), dtype=bool)
        expected[max(top, 0) : max(top + rows, 0), max(left, 0) : max(left + columns, 0)] = True
        assert np.array_equal(mask, expected)
