from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.core.errors import DataError
from striate.data.augment.augment import augment
from striate.data.augment.policy import Augmentation


def pictures(count: int, channels: int = 1, height: int = 5, width: int = 6) -> torch.Tensor:
    size = (count, channels, height, width)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def candidates(picture: np.ndarray, flip: bool, shift: int, padding: str) -> list[np.ndarray]:
    """All that a picture (C, H, W) may become, by slicing a padded copy."""
    _, height, width = picture.shape
    mode = {"mode": "reflect"} if padding == "reflect" else {}
    around = ((0, 0), (shift, shift), (shift, shift))
    found = []
    for source in (picture, picture[..., ::-1])[: 1 + flip]:
        padded = np.pad(source, around, **mode)
        found += [
            padded[:, down : down + height, right : right + width]
            for down in range(2 * shift + 1)
            for right in range(2 * shift + 1)
        ]
    return found


settings_drawn = {
    "flip": st.sampled_from(["none", "random", "alternating"]),
    "shift": st.integers(0, 4),
    "padding": st.sampled_from(["reflect", "zeros"]),
    "epoch": st.integers(0, 50),
    "seed": st.integers(0, 2**63),
}


@settings(max_examples=60, deadline=None)
@given(channels=st.integers(1, 3), **settings_drawn)
def test_every_result_is_a_shifted_mirrored_picture(channels, flip, shift, padding, epoch, seed):
    images = pictures(6, channels)
    result = augment(
        images, torch.arange(6), Augmentation(flip=flip, shift=shift), epoch=epoch, seed=seed, padding=padding
    )
    assert result.dtype == torch.uint8
    for before, after in zip(images.numpy(), result.numpy(), strict=True):
        possible = candidates(before, flip != "none", shift, padding)
        assert any(np.array_equal(after, one) for one in possible)


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(8)), size=st.integers(1, 8), **settings_drawn)
def test_order_and_batching_do_not_matter(order, size, flip, shift, padding, epoch, seed):
    images, index = pictures(8), torch.tensor(order)
    chosen = {"policy": Augmentation(flip=flip, shift=shift), "epoch": epoch, "seed": seed, "padding": padding}
    whole = augment(images, torch.arange(8), **chosen)
    for part in index.split(size):
        assert torch.equal(augment(images[part], part, **chosen), whole[part])


def test_floats_move_as_bytes_do():
    images, index = pictures(16, 3), torch.arange(16)
    for flip in ("random", "alternating"):
        chosen = {"policy": Augmentation(flip=flip, shift=2), "epoch": 3, "seed": 1}
        assert torch.equal(augment(images.float(), index, **chosen), augment(images, index, **chosen).float())


def test_two_alternating_epochs_show_both_sides():
    images, index, policy = pictures(32), torch.arange(32), Augmentation(flip="alternating")
    even = augment(images, index, policy, epoch=4, seed=0)
    odd = augment(images, index, policy, epoch=5, seed=0)
    assert torch.equal(odd, even.flip(3))
    assert torch.equal(augment(images, index, policy, epoch=6, seed=0), even)
    assert 0 < sum(torch.equal(a, b) for a, b in zip(even, images, strict=True)) < 32


def test_all_shifts_are_equally_likely_and_independent_of_the_flip():
    count, shift = 20_000, 1
    images = torch.zeros(count, 1, 3, 3, dtype=torch.uint8)
    images[:, :, 1, 1] = 1
    moved = augment(
        images, torch.arange(count), Augmentation(shift=shift, flip="random"), epoch=0, seed=0, padding="zeros"
    )
    share = moved.sum(dim=(0, 1)).double() / count
    assert torch.allclose(share, torch.full((3, 3), 1 / 9, dtype=torch.float64), atol=0.01)


def test_nothing_asked_for_is_nothing_done():
    images = pictures(3)
    assert augment(images, torch.arange(3), Augmentation(), epoch=0, seed=0) is images


def test_a_shift_must_stay_inside_the_picture():
    with pytest.raises(DataError, match="shift must be from 0 to 4 pixels here, got 5"):
        augment(pictures(2), torch.arange(2), Augmentation(shift=5), epoch=0, seed=0)
