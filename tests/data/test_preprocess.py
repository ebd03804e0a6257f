from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from striate.core.errors import DataError
from striate.core.spec import InputSpec
from striate.data.preprocess import MINIMUM_STD, normalise, resize_to_uint8, statistics


def spec(height: int, width: int, resize: str = "stretch", interpolation: str = "bilinear") -> InputSpec:
    return InputSpec(
        channels=1, height=height, width=width, mean=(0.0,), std=(1.0,), resize=resize, interpolation=interpolation
    )


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, height, width), dtype=torch.uint8, generator=generator)


def triangle_weights(size: int, wanted: int) -> np.ndarray:
    """The antialiased bilinear filter as a (wanted, size) matrix, in float64: a triangle as wide as the scale."""
    scale = size / wanted
    reach = max(scale, 1.0)
    weights = np.zeros((wanted, size))
    for row in range(wanted):
        centre = (row + 0.5) * scale
        for column in range(size):
            weights[row, column] = max(0.0, 1 - abs(column + 0.5 - centre) / reach)
    return weights / weights.sum(axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_the_resize_agrees_with_a_float64_loop(height, width, wanted_height, wanted_width):
    source = picture(height, width)
    exact = (
        triangle_weights(height, wanted_height) @ source[0].double().numpy() @ triangle_weights(width, wanted_width).T
    )
    result = resize_to_uint8(source, spec(wanted_height, wanted_width))[0].double().numpy()
    assert np.abs(result - exact).max() <= 0.5 + 1e-3


@pytest.mark.parametrize(
    ("name", "filter"), [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)]
)
def test_the_resize_agrees_with_pillow(name, filter):
    source = picture(61, 83)
    result = resize_to_uint8(source, spec(24, 32, interpolation=name))
    pillow = np.asarray(Image.fromarray(source[0].numpy()).resize((32, 24), filter), dtype=np.int64)
    # Pillow rounds between its two passes, and its bicubic is the sharper by a = −0.5 as ours is.
    assert np.abs(result[0].long().numpy() - pillow).max() <= 1


def cubic_weights(size: int, wanted: int) -> np.ndarray:
    """The antialiased bicubic filter as a (wanted, size) matrix, in float64: Keys' cubic with a = −½."""
    scale = size / wanted
    width = max(scale, 1.0)
    weights = np.zeros((wanted, size))
    for row in range(wanted):
        for column in range(size):
            x = abs(column + 0.5 - (row + 0.5) * scale) / width
            if x < 1:
                weights[row, column] = 1.5 * x**3 - 2.5 * x**2 + 1
            elif x < 2:
                weights[row, column] = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return weights / weights.sum(axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_the_bicubic_resize_agrees_with_a_float64_loop(height, width, wanted_height, wanted_width):
    source = picture(height, width)
    exact = cubic_weights(height, wanted_height) @ source[0].double().numpy() @ cubic_weights(width, wanted_width).T
    result = resize_to_uint8(source, spec(wanted_height, wanted_width, interpolation="bicubic"))[0].double().numpy()
    assert np.abs(result - exact.clip(0, 255)).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("wanted", [1, 8, 70])
def test_a_large_picture_is_resized_as_exactly_as_a_small_one(wanted):
    source = picture(1500, 600)
    exact = triangle_weights(1500, wanted) @ source[0].double().numpy() @ triangle_weights(600, wanted).T
    result = resize_to_uint8(source, spec(wanted, wanted))[0].double().numpy()
    assert np.abs(result - exact).max() <= 0.5 + 1e-3


def test_pixels_may_lie_in_memory_as_a_decoder_leaves_them():
    generator = torch.Generator().manual_seed(3)
    source = torch.randint(0, 256, (41, 33, 3), dtype=torch.uint8, generator=generator).permute(2, 0, 1)
    wanted = InputSpec(channels=3, height=20, width=11, mean=(0.0,) * 3, std=(1.0,) * 3)
    result = resize_to_uint8(source, wanted)
    assert result.is_contiguous()
    assert torch.equal(result, resize_to_uint8(source.contiguous(), wanted))
    assert torch.equal(result[1:2], resize_to_uint8(source[1:2], spec(20, 11, "crop")))


def test_nearest_takes_the_pixel_at_the_centre():
    source = picture(9, 9)
    assert torch.equal(resize_to_uint8(source, spec(3, 3, interpolation="nearest")), source[:, 1::3, 1::3])


def test_crop_cuts_the_longer_side_to_the_centre():
    source = picture(10, 30)
    assert torch.equal(resize_to_uint8(source, spec(10, 10, "crop")), source[:, :, 10:20])
    assert torch.equal(resize_to_uint8(source, spec(5, 5, "crop")), resize_to_uint8(source[:, :, 10:20], spec(5, 5)))


def test_pad_keeps_the_proportions_and_fills_with_black():
    source = picture(10, 20).clamp(min=1)
    result = resize_to_uint8(source, spec(20, 20, "pad"))
    assert torch.equal(result[:, 5:15], source)
    assert int(result[:, :5].sum() + result[:, 15:].sum()) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from(["stretch", "crop", "pad"]),
    st.sampled_from(["nearest", "bilinear", "bicubic"]),
)
def test_any_picture_comes_to_the_size_within_its_own_levels(height, width, wanted_height, wanted_width, resize, how):
    result = resize_to_uint8(
        torch.full((2, 1, height, width), 200, dtype=torch.uint8), spec(wanted_height, wanted_width, resize, how)
    )
    assert result.shape == (2, 1, wanted_height, wanted_width)
    assert result.dtype == torch.uint8
    assert set(result.unique().tolist()) <= ({0, 200} if resize == "pad" else {200})


@pytest.mark.parametrize(("height", "width", "side"), [(13, 17, 8), (400, 300, 48), (200, 200, 64)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_a_batch_is_resized_as_each_of_its_pictures(height, width, side, interpolation):
    batch = torch.stack([picture(height, width, seed) for seed in range(9)])
    wanted = spec(side, side, "crop", interpolation)
    assert torch.equal(resize_to_uint8(batch, wanted), torch.stack([resize_to_uint8(one, wanted) for one in batch]))


def test_nothing_to_do_is_nothing_done():
    source = picture(4, 4)
    assert resize_to_uint8(source, spec(4, 4)) is source


@pytest.mark.parametrize(
    "wrong", [torch.zeros(1, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.uint8)]
)
def test_another_type_or_number_of_channels_is_refused(wrong):
    with pytest.raises(DataError, match=r"A picture must be uint8 of shape \(…, 1, h, w\), got "):
        resize_to_uint8(wrong, spec(2, 2))


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_the_preprocessing_exports_unchanged(resize):
    wanted = spec(6, 8, resize)

    class Preprocess(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return normalise(resize_to_uint8(pictures, wanted), wanted)

    pictures = torch.stack([picture(15, 11, seed) for seed in range(2)])
    exported = torch.export.export(Preprocess(), (pictures,)).module()
    assert torch.equal(exported(pictures), Preprocess()(pictures))


def test_normalise_is_the_definition():
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    wanted = InputSpec(channels=3, height=4, width=4, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))
    mean, std = (np.array(one).reshape(3, 1, 1) for one in (wanted.mean, wanted.std))
    exact = (images.numpy().astype(np.float64) / 255 - mean) / std
    result = normalise(images, wanted)
    assert result.dtype == torch.float32
    assert np.abs(result.numpy() - exact).max() < 1e-5


def test_statistics_are_those_of_all_pixels():
    images = torch.randint(0, 256, (50, 2, 6, 6), dtype=torch.uint8)
    mean, std = statistics(images)
    scaled = images.numpy().astype(np.float64) / 255
    assert np.allclose(mean, scaled.mean(axis=(0, 2, 3)), atol=1e-12)
    assert np.allclose(std, scaled.std(axis=(0, 2, 3)), atol=1e-12)


def test_a_constant_channel_can_be_normalised():
    images = torch.full((3, 1, 2, 2), 7, dtype=torch.uint8)
    mean, std = statistics(images)
    assert math.isclose(mean[0], 7 / 255)
    assert std == (MINIMUM_STD,)
    wanted = InputSpec(channels=1, height=2, width=2, mean=mean, std=std)
    assert float(normalise(images, wanted).abs().max()) < 1e-3
