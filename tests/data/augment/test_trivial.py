from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from striate.data.augment import trivial
from striate.data.augment.augment import augment
from striate.data.augment.draws import Draws
from striate.data.augment.geometry import resample
from striate.data.augment.policy import Augmentation
from striate.data.augment.trivial import LEVELS, OPERATIONS, Choice
from tests.data.augment.test_augment import pictures
from tests.data.augment.test_colour import image_of, values_of

SIDE = 24
PILLOW = {  # what the authors' code calls; `level` is from 0 to 30
    "identity": lambda image, level: image,
    "auto_contrast": lambda image, level: ImageOps.autocontrast(image),
    "equalize": lambda image, level: ImageOps.equalize(image),
    "solarize": lambda image, level: ImageOps.solarize(image, 256 - int(256 * level / 30)),
    "posterize": lambda image, level: ImageOps.posterize(image, 8 - int(6 * level / 30)),
    "brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(0.01 + 1.99 * level / 30),
    "contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(0.01 + 1.99 * level / 30),
    "color": lambda image, level: ImageEnhance.Color(image).enhance(0.01 + 1.99 * level / 30),
    "sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(0.01 + 1.99 * level / 30),
}
HALF = SIDE / 2
MOVES = {  # about the middle: the six numbers of Pillow's affine transform
    "shear_x": lambda amount: (1, 0.99 * amount, -0.99 * amount * HALF, 0, 1, 0),
    "shear_y": lambda amount: (1, 0, 0, 0.99 * amount, 1, -0.99 * amount * HALF),
    "translate_x": lambda amount: (1, 0, 32 * amount, 0, 1, 0),
    "translate_y": lambda amount: (1, 0, 0, 0, 1, 32 * amount),
}


def choice_of(operation: str, level: int, sign: int = 1, count: int = 1) -> Choice:
    numbers = (OPERATIONS.index(operation), level / (LEVELS - 1), sign)
    operations, strength, signs = (torch.tensor([number] * count) for number in numbers)
    return Choice(operations, strength.double(), signs)


def changed(images: torch.Tensor, choice: Choice) -> torch.Tensor:
    return trivial.recolour(resample(images, trivial.affine(choice), tuple(images.shape[2:])), choice)


def test_there_are_fourteen_operations_and_each_has_its_reference():
    assert sorted(OPERATIONS) == sorted([*PILLOW, *MOVES, "rotate"])
    assert len(OPERATIONS) == 14


@pytest.mark.parametrize("operation", PILLOW)
@settings(max_examples=15, deadline=None)
@given(level=st.integers(0, 30), seed=st.integers(0, 99), side=st.integers(3, 40), span=st.integers(1, 256))
def test_every_change_of_colour_is_pillows(operation, level, seed, side, span):
    draw = torch.Generator().manual_seed(seed)
    for channels in (1, 3):
        images = torch.randint(0, span, (1, channels, side, side), dtype=torch.uint8, generator=draw)
        expected = values_of(PILLOW[operation](image_of(images[0]), level))
        difference = np.abs(changed(images, choice_of(operation, level))[0].numpy().astype(int) - expected)
        # Exact but for a cut-off of fractions, and for the luminance, which Pillow rounds.
        blends = operation in ("brightness", "contrast", "color", "sharpness", "auto_contrast")
        assert difference.max() <= (2 if operation in ("color", "contrast") else 1 if blends else 0)


@pytest.mark.parametrize("operation", [*MOVES, "rotate"])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("level", [0, 1, 7, 18, 30])
def test_every_movement_is_pillows_where_it_sees_the_picture(operation, sign, level):
    images = pictures(1, 3, SIDE, SIDE)
    amount, bilinear = sign * level / 30, Image.Resampling.BILINEAR

    def move(image: Image.Image) -> Image.Image:
        if operation == "rotate":
            return image.rotate(135 * amount, bilinear)
        return image.transform(image.size, Image.Transform.AFFINE, MOVES[operation](amount), bilinear)

    expected = values_of(move(image_of(images[0])))
    seen = values_of(move(Image.new("L", (SIDE, SIDE), 255)))[0] == 255
    edge = np.zeros((SIDE, SIDE), dtype=bool)
    edge[1:-1, 1:-1] = True  # Pillow repeats the outermost pixels for half a pixel
    inner = values_of(move(Image.fromarray((edge * 255).astype(np.uint8))))[0] == 255
    shown = changed(images, choice_of(operation, level, sign))[0].numpy().astype(int)
    assert np.abs(shown - expected)[:, seen & inner].max(initial=0) <= 1
    assert (seen & inner).sum() > 20 or operation.startswith("translate")


def test_all_operations_strengths_and_signs_are_equally_likely():
    choice = trivial.choose(Draws(torch.arange(62_000), 0, 0))
    for drawn, count in (
        (choice.operation, 14),
        ((choice.strength * 30).round().long(), LEVELS),
        ((choice.sign + 1) // 2, 2),
    ):
        share = torch.bincount(drawn, minlength=count) / len(drawn)
        assert len(share) == count
        assert torch.allclose(share, torch.full((count,), 1 / count), rtol=0.08)


def test_each_picture_undergoes_its_own_operation():
    images, index = pictures(60, 3, 12, 12), torch.arange(60)
    result = augment(images, index, Augmentation(trivial_augment=True), epoch=1, seed=4)
    choice = trivial.choose(Draws(index, 1, 4))
    for number in range(60):
        alone = Choice(*(part[number : number + 1] for part in choice))
        assert torch.equal(result[number : number + 1], changed(images[number : number + 1], alone))


def test_a_movement_joins_the_one_interpolation():
    """Turned to and fro, a picture that is interpolated once is as it was."""
    images = pictures(400, 1, 9, 9)
    index = torch.arange(400)
    policy = Augmentation(trivial_augment=True, shift=1, crop_area=0.999999)
    apart = augment(images, index, Augmentation(trivial_augment=True), epoch=0, seed=0)
    joined = augment(images, index, policy, epoch=0, seed=0)
    choice = trivial.choose(Draws(index, 0, 0))
    whole = (choice.operation == OPERATIONS.index("translate_x")) & ((choice.strength * 32) % 1 == 0)
    assert whole.any()
    values = [set(picture.flatten().tolist()) for picture in images[whole]]
    assert all(set(one.flatten().tolist()) <= known for one, known in zip(joined[whole], values, strict=True))
    assert not torch.equal(apart, joined)
