from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.data.augment.augment import augment
from striate.data.augment.draws import Draws
from striate.data.augment.geometry import (
    Affine,
    Window,
    crop_and_resize,
    draw_affine,
    draw_shift,
    draw_steps,
    draw_window,
    resample,
)
from striate.data.augment.policy import Augmentation
from striate.data.augment.warp import warp
from tests.data.augment.test_augment import pictures


def some(count: int, epoch: int = 0, seed: int = 0) -> Draws:
    return Draws(torch.arange(count), epoch, seed)


def slow_resample(picture: np.ndarray, linear: np.ndarray, offset: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One pixel after the other, (H, W): where the map says it comes from, between four neighbours."""
    middle = (np.array(picture.shape) - 1) / 2
    around = 200
    padded = np.pad(picture.astype(np.float64), around, mode="reflect")
    result = np.zeros(size)
    for row in range(size[0]):
        for column in range(size[1]):
            here = np.array([row - (size[0] - 1) / 2, column - (size[1] - 1) / 2])
            y, x = linear @ here + offset + middle + around
            top, left = math.floor(y), math.floor(x)
            for i, share in ((top, 1 - (y - top)), (top + 1, y - top)):
                for j, part in ((left, 1 - (x - left)), (left + 1, x - left)):
                    result[row, column] += share * part * padded[i, j]
    return result


@settings(max_examples=30, deadline=None)
@given(
    numbers=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    offset=st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    stored=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_resample_is_the_map_applied_pixel_by_pixel(numbers, offset, stored, size):
    images = pictures(2, 3, *stored)
    linear = torch.tensor([[numbers[:2], numbers[2:]]] * 2, dtype=torch.float64)
    source = Affine(linear, torch.tensor([offset] * 2, dtype=torch.float64))
    expected = slow_resample(images[1, 2].numpy(), linear[1].numpy(), np.array(offset), size)
    result = resample(images, source, size)
    assert result.dtype == torch.uint8
    assert result.shape == (2, 3, *size)
    assert np.abs(result[1, 2].numpy() - expected).max() < 0.51  # rounded


def test_a_map_that_changes_nothing_changes_nothing():
    images = pictures(5, 3, 64, 61)
    same = Affine(torch.eye(2, dtype=torch.float64).expand(5, 2, 2), torch.zeros(5, 2, dtype=torch.float64))
    assert torch.equal(resample(images, same, (64, 61)), images)
    assert torch.equal(resample(images, same, (64, 61), torch.ones(5, 2)), images)


@settings(max_examples=30, deadline=None)
@given(rotation=st.floats(0.1, 180), zoom=st.floats(1, 1), shift=st.integers(0, 3), epoch=st.integers(0, 9))
def test_a_turned_and_shifted_picture_is_what_warp_makes_of_it(rotation, zoom, shift, epoch):
    images, draws = pictures(4, 2, 9, 9), some(4, epoch)
    policy = Augmentation(rotation=rotation, shift=shift)
    source = draw_affine(draws, policy, draw_window(draws, policy, (9, 9), (9, 9)), (9, 9), (9, 9))
    degrees = torch.atan2(source.linear[:, 0, 1], source.linear[:, 0, 0]).rad2deg()
    assert (degrees.abs() <= rotation + 1e-9).all()
    moved = torch.stack(draw_shift(draws, shift), 1)
    expected = warp(images, degrees=degrees, shift=moved, border="reflect")
    assert (augment(images, draws.index, policy, epoch=epoch, seed=0).int() - expected.int()).abs().max() <= 1


def test_zoom_and_shear_are_what_they_say():
    policy, size = Augmentation(zoom=1.5, shear=30), (8, 8)
    draws = some(4000)
    linear = draw_affine(draws, policy, draw_window(draws, policy, size, size), size, size).linear
    larger = 1 / linear[:, 0, 0]
    assert torch.allclose(linear[:, 1, 1], linear[:, 0, 0])
    assert (linear[:, 0, 1] == 0).all()
    assert larger.log().mean().abs() < 0.02
    assert larger.aminmax() == pytest.approx((1 / 1.5, 1.5), rel=0.01)
    lean = (linear[:, 1, 0] * larger).atan().rad2deg()
    assert lean.mean().abs() < 1
    assert lean.aminmax() == pytest.approx((-30, 30), abs=0.2)


def test_what_is_shrunk_is_smoothed_and_what_is_not_is_not():
    stripes = torch.zeros(64, 1, 48, 48, dtype=torch.uint8)
    stripes[..., ::2] = 255
    draws, policy = some(64), Augmentation(zoom=4)
    window = draw_window(draws, policy, (48, 48), (48, 48))
    steps = draw_steps(draws, policy, window, (48, 48))[:, 0]
    shown = augment(stripes, draws.index, policy, epoch=0, seed=0).float()[:, :, 8:-8, 8:-8]
    deviation = shown.std((1, 2, 3))
    assert (deviation[steps > 2.2] < 25).all()  # unsmoothed, up to 127
    assert (deviation[steps < 0.7] > 60).all()


@settings(max_examples=40, deadline=None)
@given(
    stored=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    size=st.tuples(st.integers(2, 24), st.integers(2, 24)),
    area=st.floats(0.05, 0.99),
    seed=st.integers(0, 1000),
)
def test_a_resized_crop_is_pillows(stored, size, area, seed):
    images, draws = pictures(3, 3, *stored), some(3, seed=seed)
    window = draw_window(draws, Augmentation(crop_area=area), stored, size)
    result = crop_and_resize(images, window, size)
    for picture, shown, top, left, height, width in zip(images, result, *window, strict=True):
        box = (float(left), float(top), float(left + width), float(top + height))
        box = (box[0], box[1], min(box[2], stored[1]), min(box[3], stored[0]))
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        expected = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=box)).astype(int)
        # Pillow rounds to bytes between columns and rows.
        assert np.abs(shown.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


def test_resized_crops_cover_what_they_should():
    draws, stored, size = some(20_000), (30, 50), (16, 16)
    top, left, height, width = draw_window(draws, Augmentation(crop_area=0.2), stored, size)
    area = height * width / (30 * 50)
    proportion = (width / 50) / (height / 30)
    assert area.aminmax() == pytest.approx((0.2, 1), abs=1e-3)
    assert area.mean().item() == pytest.approx(0.6, abs=0.005)
    assert proportion.aminmax() == pytest.approx((0.75, 4 / 3), rel=0.01)
    assert proportion.log().mean().abs() < 0.005
    inside = (top >= 0) & (left >= 0) & (top + height <= 30 + 1e-9) & (left + width <= 50 + 1e-9)
    assert inside.all()
    assert (top + height / 2).mean().item() == pytest.approx(15, abs=0.1)
    assert (left + width / 2).mean().item() == pytest.approx(25, abs=0.1)


def test_a_whole_picture_is_a_window_that_changes_nothing():
    images = pictures(2, 3, 7, 9)
    whole = Window(torch.zeros(2), torch.zeros(2), torch.full((2,), 7.0), torch.full((2,), 9.0))
    assert torch.equal(crop_and_resize(images, whole, (7, 9)), images)


@settings(max_examples=30, deadline=None)
@given(
    stored=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    size=st.tuples(st.integers(3, 5), st.integers(3, 5)),
    shift=st.integers(0, 2),
    epoch=st.integers(0, 9),
)
def test_a_crop_of_larger_pictures_is_a_slice(stored, size, shift, epoch):
    images, index = pictures(5, 2, *stored), torch.arange(5)
    result = augment(images, index, Augmentation(shift=shift), epoch=epoch, seed=3, size=size)
    assert result.shape == (5, 2, *size)
    for before, after in zip(images.numpy(), result.numpy(), strict=True):
        padded = np.pad(before, ((0, 0), (shift, shift), (shift, shift)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(1, 2))
        assert (windows == after[:, None, None]).all(axis=(0, 3, 4)).any()
        if not shift:  # nothing is invented
            assert set(after.flatten()) <= set(before.flatten())


def test_all_crops_are_equally_likely():
    images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(20_000, -1, -1, -1)
    corner = augment(images, torch.arange(20_000), Augmentation(), epoch=0, seed=0, size=(2, 2))[:, 0, 0, 0]
    share = torch.bincount(corner.long(), minlength=16).view(4, 4) / 20_000
    assert torch.allclose(share[:3, :3], torch.full((3, 3), 1 / 9), atol=0.01)
    assert share[3].sum() + share[:, 3].sum() == 0
