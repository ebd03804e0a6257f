from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.core.errors import DataError
from striate.core.spec import Spec
from striate.data.augment.augment import augment, training_batch
from striate.data.augment.mixing import mix
from striate.data.augment.policy import Augmentation
from striate.data.batches import Batch


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


PROBABILITIES = st.one_of(st.just(0.0), st.floats(0.1, 1))
every_policy = st.builds(
    Augmentation,
    flip=st.sampled_from(["none", "random", "alternating"]),
    shift=st.integers(0, 3),
    crop_area=st.one_of(st.just(1.0), st.floats(0.05, 0.9)),
    rotation=st.one_of(st.just(0.0), st.floats(1, 180)),
    zoom=st.one_of(st.just(1.0), st.floats(1.1, 4)),
    shear=st.one_of(st.just(0.0), st.floats(1, 60)),
    trivial_augment=st.booleans(),
    brightness=PROBABILITIES,
    contrast=PROBABILITIES,
    saturation=PROBABILITIES,
    hue=st.floats(0, 0.5),
    grey=PROBABILITIES,
    erase=PROBABILITIES,
)


@settings(max_examples=80, deadline=None)
@given(
    policy=every_policy,
    stored=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    size=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    order=st.permutations(range(7)),
    part=st.integers(1, 7),
    epoch=st.integers(0, 50),
)
def test_every_policy_keeps_shape_and_type_and_depends_on_nothing_but_its_keys(
    policy, stored, size, order, part, epoch
):
    size = (min(size[0], stored[0]), min(size[1], stored[1]))
    images, index = pictures(7, 3, *stored), torch.tensor(order)
    before = images.clone()
    whole = augment(images, torch.arange(7), policy, epoch=epoch, seed=2, size=size)
    assert torch.equal(images, before)
    assert whole.shape == (7, 3, *size)
    assert whole.dtype == torch.uint8
    for some in index.split(part):
        result = augment(images[some], some, policy, epoch=epoch, seed=2, size=size)
        assert (result.int() - whole[some].int()).abs().max() <= 1  # sums over pixels may round in another order


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@settings(max_examples=20, deadline=None)
@given(policy=every_policy, low=st.integers(0, 250), span=st.integers(0, 5), epoch=st.integers(0, 50))
def test_no_movement_makes_values_that_are_not_there(channels, policy, low, span, epoch):
    images = pictures(5, channels, 8, 9) % (span + 1) + low
    colours = ("brightness", "contrast", "saturation", "hue", "grey", "trivial_augment")
    policy = policy.model_copy(update={name: Augmentation.model_fields[name].default for name in colours})
    result = augment(images, torch.arange(5), policy, epoch=epoch, seed=0, size=(7, 7))
    assert result.shape == (5, channels, 7, 7)
    assert low <= result.min() <= result.max() <= low + span


def test_the_draws_of_one_change_are_the_same_beside_any_other():
    images, index = pictures(64, 3, 8, 8), torch.arange(64)
    flipped = augment(images, index, Augmentation(flip="random"), epoch=1, seed=1)
    brighter = augment(images, index, Augmentation(brightness=0.5), epoch=1, seed=1)
    both = augment(images, index, Augmentation(flip="random", brightness=0.5), epoch=1, seed=1)
    assert torch.equal(both.sort(3).values, brighter.sort(3).values)
    assert not torch.equal(flipped, images)
    assert torch.equal((both != brighter).any(3).any(2).any(1), (flipped != images).any(3).any(2).any(1))


def test_another_epoch_or_seed_is_another_picture():
    images, index = pictures(32, 3, 8, 8), torch.arange(32)
    policy = Augmentation(rotation=30, hue=0.5)
    results = [augment(images, index, policy, epoch=epoch, seed=seed) for epoch, seed in ((0, 0), (1, 0), (0, 1))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (results[one] != results[other]).flatten(1).any(1).all()


def test_a_batch_is_augmented_normalised_and_mixed():
    spec = Spec.of((3, 6, 6), 4)
    spec = spec.model_copy(
        update={"input": spec.input.model_copy(update={"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)})}
    )
    images, labels, index = pictures(8, 3, 8, 8), torch.arange(8) % 4, torch.arange(8) + 30
    policy, keys = Augmentation(flip="random", mixup=0.5), {"epoch": 2, "seed": 7}
    shown, targets = training_batch(Batch(images, labels, index), policy, spec, size=(6, 6), **keys)
    cut = augment(images, index, policy, size=(6, 6), **keys).float() / 255
    mixed, expected = mix(cut, labels, index, policy, classes=4, **keys)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (spec.input.mean, spec.input.std))
    torch.testing.assert_close(shown, (mixed - mean) / std, atol=1e-5, rtol=0)
    assert torch.equal(targets, expected)


def test_a_crop_must_be_inside_the_picture():
    with pytest.raises(DataError, match="size must be at most the 5×6 of the pictures, got 6×6"):
        augment(pictures(2), torch.arange(2), Augmentation(), epoch=0, seed=0, size=(6, 6))
