from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from striate.data.augment.augment import augment
from striate.data.augment.colour import jitter, turn_hue
from striate.data.augment.draws import Draws, Stream
from striate.data.augment.policy import Augmentation
from tests.data.augment.test_augment import pictures

ENHANCE = {
    "brightness": (ImageEnhance.Brightness, Stream.BRIGHTNESS),
    "contrast": (ImageEnhance.Contrast, Stream.CONTRAST),
    "saturation": (ImageEnhance.Color, Stream.SATURATION),
}


def image_of(picture: torch.Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).numpy().squeeze())


def values_of(image: Image.Image) -> np.ndarray:
    return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1).astype(int)


@pytest.mark.parametrize("name", ENHANCE)
@settings(max_examples=25, deadline=None)
@given(most=st.floats(0.05, 1), epoch=st.integers(0, 99), seed=st.integers(0, 99))
def test_each_factor_is_pillows_enhancement(name, most, epoch, seed):
    images, draws = pictures(4, 3), Draws(torch.arange(4), epoch, seed)
    enhance, stream = ENHANCE[name]
    result = jitter(images, draws, Augmentation(**{name: most}))
    for picture, changed, factor in zip(images, result, draws.uniform(stream, 1 - most, 1 + most), strict=True):
        expected = values_of(enhance(image_of(picture)).enhance(float(factor)))
        # Pillow rounds the luminance, and cuts the result off.
        assert np.abs(changed.numpy().astype(int) - expected).max() <= 2


@settings(max_examples=25, deadline=None)
@given(turns=st.floats(-0.5, 0.5))
def test_hue_turns_as_in_colorsys(turns):
    images = pictures(1, 3, 6, 6)
    images[0, :, 0] = torch.tensor([[0], [0], [0]], dtype=torch.uint8)  # black, and greys
    images[0, :, 1] = torch.arange(6, dtype=torch.uint8) * 51
    result = turn_hue(images.float(), torch.tensor([turns]))[0].flatten(1).T
    for before, after in zip(images[0].flatten(1).T.tolist(), result.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(number / 255 for number in before))
        expected = colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)
        assert after == pytest.approx([255 * number for number in expected], abs=0.01)


def test_grey_is_the_luminance_of_as_many_as_asked():
    images = pictures(2000, 3, 3, 3)
    result = augment(images, torch.arange(2000), Augmentation(grey=0.3), epoch=0, seed=0)
    grey = (result == result[:, :1]).all(3).all(2).all(1)
    assert grey.double().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(result[~grey], images[~grey])
    for picture, changed in zip(images[grey][:20], result[grey], strict=False):
        luminance = np.asarray(image_of(picture).convert("L")).astype(int)
        assert np.abs(changed.numpy().astype(int) - luminance).max() <= 1


def test_the_order_is_brightness_contrast_saturation_hue_grey():
    images, draws = pictures(6, 3), Draws(torch.arange(6), 2, 5)
    one_by_one = images
    for name, most in (("brightness", 0.4), ("contrast", 0.4), ("saturation", 0.9), ("hue", 0.3), ("grey", 0.5)):
        one_by_one = jitter(one_by_one, draws, Augmentation(**{name: most}))
    at_once = jitter(images, draws, Augmentation(brightness=0.4, contrast=0.4, saturation=0.9, hue=0.3, grey=0.5))
    difference = (at_once.int() - one_by_one.int()).abs().float()
    assert difference.mean() < 1  # one rounding instead of five
    most = {"brightness": 1.0, "contrast": 1.0}
    both = jitter(images, draws, Augmentation(**most))
    for names, agrees in ((("brightness", "contrast"), True), (("contrast", "brightness"), False)):
        in_turn = images
        for name in names:
            in_turn = jitter(in_turn, draws, Augmentation(**{name: most[name]}))
        assert ((both.int() - in_turn.int()).abs().max() <= 1) == agrees


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_brightness_and_contrast_need_no_colours(channels):
    images, draws = pictures(3, channels), Draws(torch.arange(3), 0, 0)
    result = jitter(images, draws, Augmentation(contrast=0.5))
    for picture, changed, factor in zip(images, result, draws.uniform(Stream.CONTRAST, 0.5, 1.5), strict=True):
        mean = picture.double().mean()
        expected = (mean + factor * (picture.double() - mean)).clamp(0, 255)
        assert (changed.double() - expected).abs().max() < 0.51
