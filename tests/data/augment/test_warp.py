from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from striate.core.errors import DataError
from striate.data.augment.warp import blur, warp


def pictures(count: int, channels: int = 1, height: int = 5, width: int = 6) -> torch.Tensor:
    size = (count, channels, height, width)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def slow_warp(picture: np.ndarray, degrees: float, scale: float, shift: tuple[float, float], border: str) -> np.ndarray:
    """Warp (H, W) pixel by pixel in float64, without smoothing: where the inverse matrix says that it came from."""
    height, width = picture.shape
    angle = math.radians(degrees)
    # Rows run down, so counter-clockwise takes (row, column) = (0, 1) to (−1, 0).
    forwards = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    centre = np.array([(height - 1) / 2, (width - 1) / 2])
    mode = {"zeros": "constant", "edge": "edge", "reflect": "reflect"}[border]
    around = 60
    padded = np.pad(picture.astype(np.float64), around, mode=mode)
    result = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y, x = np.linalg.solve(forwards, np.array([row, column]) - centre - shift) + centre + around
            top, left = math.floor(y), math.floor(x)
            for i, share in ((top, 1 - (y - top)), (top + 1, y - top)):
                for j, part in ((left, 1 - (x - left)), (left + 1, x - left)):
                    result[row, column] += share * part * padded[i, j]
    return result


borders = st.sampled_from(["zeros", "edge", "reflect"])


@settings(max_examples=40, deadline=None)
@given(
    degrees=st.floats(-200, 200),
    scale=st.floats(1, 3),
    shift=st.tuples(st.floats(-8, 8), st.floats(-8, 8)),
    border=borders,
    size=st.tuples(st.integers(2, 7), st.integers(2, 7)),
)
def test_warp_is_the_inverse_matrix_applied_pixel_by_pixel(degrees, scale, shift, border, size):
    images = pictures(2, 3, *size).double()
    result = warp(images, degrees=degrees, scale=scale, shift=shift, border=border)
    expected = slow_warp(images[1, 2].numpy(), degrees, scale, shift, border)
    np.testing.assert_allclose(result[1, 2].numpy(), expected, atol=2e-3)  # a millionth of a pixel of 255


@settings(max_examples=40, deadline=None)
@given(down=st.integers(-9, 9), right=st.integers(-9, 9), border=borders, as_float=st.booleans())
def test_a_whole_shift_is_indexing(down, right, border, as_float):
    images = pictures(2, 3).float().div(7) if as_float else pictures(2, 3)
    result = warp(images, shift=(down, right), border=border)
    mode = {"zeros": "constant", "edge": "edge", "reflect": "reflect"}[border]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (10, 10), (10, 10)), mode=mode)
    assert np.array_equal(result.numpy(), padded[:, :, 10 - down : 15 - down, 10 - right : 16 - right])
    rolled = images.roll((down, right), (2, 3))
    inside = (slice(max(down, 0), max(5 + min(down, 0), 0)), slice(max(right, 0), max(6 + min(right, 0), 0)))
    assert torch.equal(result[:, :, *inside], rolled[:, :, *inside])


@pytest.mark.parametrize("turns", [-5, -1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize("side", [1, 6, 7])
def test_a_quarter_turn_of_a_square_is_exact_and_counter_clockwise(turns, side):
    images = pictures(2, 3, side, side).float() / 3
    assert torch.equal(warp(images, degrees=90.0 * turns), images.rot90(turns, (2, 3)))


@settings(max_examples=30, deadline=None)
@given(degrees=st.floats(-180, 180), scale=st.floats(1, 1.5), down=st.floats(-2, 2), right=st.floats(-2, 2))
def test_the_inverse_brings_back_what_is_smooth(degrees, scale, down, right):
    place = torch.arange(41, dtype=torch.float64) - 20
    bump = (-(place[:, None].square() + (place - 3).square()) / (2 * 5.0**2)).exp().expand(1, 1, -1, -1)
    there = warp(bump, degrees=degrees, scale=scale, shift=(down, right))
    unshifted = warp(there, shift=(-down, -right))
    back = warp(unshifted, degrees=-degrees, scale=1 / scale)
    # Bilinear interpolation of a bump of σ = 5 pixels errs by about h²/8 · 1/σ² a time; the smoothing adds to it.
    # Of the pixels that stay in sight however they are turned.
    assert (back - bump).abs()[..., 13:28, 13:28].max() < 0.06


def test_what_is_enlarged_is_larger():
    images = torch.zeros(1, 1, 41, 41)
    images[..., 13:28, 13:28] = 1
    assert warp(images, scale=2.0).sum() == pytest.approx(4 * images.sum().item(), rel=0.03)
    assert warp(images, scale=0.5).sum() == pytest.approx(images.sum().item() / 4, rel=0.05)


def test_shrinking_does_not_alias():
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 255
    for scale in (0.5, 0.35):
        inner = warp(stripes, scale=scale, border="reflect")[..., 8:-8, 8:-8]
        assert (inner - 127.5).abs().max() < 0.15 * 127.5  # unsmoothed it would be stripes of 0 and 255
    smooth = pictures(1, 1, 16, 16).float()
    smooth = torch.nn.functional.interpolate(smooth, (64, 64), mode="bilinear")
    halved = warp(smooth, scale=0.5, border="reflect")[..., 20:44, 20:44]
    resized = torch.nn.functional.interpolate(smooth, (32, 32), mode="bilinear", antialias=True)[..., 4:28, 4:28]
    assert (halved - resized).abs().max() < 6


@settings(max_examples=20, deadline=None)
@given(
    degrees=st.lists(st.floats(-90, 90), min_size=4, max_size=4),
    scale=st.lists(st.floats(0.3, 2), min_size=4, max_size=4),
    border=borders,
    as_float=st.booleans(),
)
def test_each_picture_is_warped_as_if_alone(degrees, scale, border, as_float):
    images = pictures(4, 2).float() if as_float else pictures(4, 2)
    shift = torch.tensor([[0, 0], [1, -2], [0.5, 0.25], [7, 3]])
    together = warp(images, degrees=torch.tensor(degrees), scale=torch.tensor(scale), shift=shift, border=border)
    assert together.dtype == images.dtype
    for i in range(4):
        down, right = shift[i].tolist()
        # The same numbers as float32 rounds them.
        angle, size = torch.tensor(degrees)[i].item(), torch.tensor(scale)[i].item()
        alone = warp(images[i : i + 1], degrees=angle, scale=size, shift=(down, right), border=border)
        assert torch.equal(together[i], alone[0])


def test_identity_is_the_same_picture():
    for images in (pictures(3, 3), pictures(3, 3).double() / 3):
        assert torch.equal(warp(images), images)


@pytest.mark.parametrize(("border", "mode"), [("edge", "nearest"), ("reflect", "mirror"), ("zeros", "constant")])
def test_blur_is_scipys_gaussian(border, mode):
    images = pictures(3, 2, 12, 9).double()
    sigma = [0.0, 0.6, 2.5]
    result = blur(images, torch.tensor(sigma, dtype=torch.float64), border=border)
    for i in (1, 2):
        expected = gaussian_filter(images[i].numpy(), sigma[i], axes=(1, 2), mode=mode, radius=int(4 * sigma[i]))
        np.testing.assert_allclose(result[i].numpy(), expected, atol=1e-9)
        assert torch.equal(blur(images[i : i + 1], sigma[i], border=border)[0], result[i])
    assert torch.equal(result[0], images[0])
    assert torch.equal(blur(images.to(torch.uint8), 1.0), blur(images, 1.0).round().to(torch.uint8))


def test_a_blur_that_is_none():
    with pytest.raises(DataError, match=r"sigma must not be negative, got -1\."):
        blur(pictures(2), -1.0)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scale": 0.0}, r"scale must be from 0\.1 to 10, got 0\."),
        ({"degrees": float("nan")}, "degrees must be finite, got nan"),
        ({"degrees": torch.zeros(3)}, r"degrees must be a number, or one for each of the 2 pictures, got shape \(3,\)"),
        ({"shift": torch.zeros(2, 1)}, r"shift must be \(down, right\), or one for each of the 2 pictures"),
    ],
)
def test_a_warp_that_is_none(asked, words):
    with pytest.raises(DataError, match=words):
        warp(pictures(2), **asked)
