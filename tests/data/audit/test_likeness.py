from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.data.audit.likeness import (
    LEAST_CONTRAST,
    LIKENESS,
    RADIUS,
    STRUCTURE,
    _likeness,
    _structure,
    contrast,
    find_alike,
    hashes,
)
from tests.data.audit.conftest import scene


def thumbnail(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.array(scene(seed).resize((32, 32)))).permute(2, 0, 1)


def test_the_hash_is_of_the_signs_of_the_cosine_transform():
    picture = thumbnail(3)
    grey = 0.299 * picture[0].double() + 0.587 * picture[1].double() + 0.114 * picture[2].double()
    places = sorted(((u, v) for u in range(9) for v in range(9)), key=lambda uv: (sum(uv), uv[0]))[1:65]
    code = 0
    for bit, (u, v) in enumerate(places):
        wave = sum(
            float(grey[y, x]) * np.cos(np.pi * u * (y + 0.5) / 32) * np.cos(np.pi * v * (x + 0.5) / 32)
            for y in range(32)
            for x in range(32)
        )
        code |= int(wave > 0) << (bit % 4 * 16 + bit // 4)
    difference = int(hashes(picture[None], np.array([0]))[0]) ^ code
    assert difference.bit_count() <= 1  # a wave of nearly nothing may have either sign in float32


def test_copies_are_found_and_others_are_not():
    pictures = torch.stack([thumbnail(seed) for seed in range(60)])
    brighter = (pictures[7].float() * 1.1 + 5).clamp(0, 255).to(torch.uint8)
    alike = find_alike(torch.cat([pictures, brighter[None]]), np.ones(61, bool))
    assert alike.pairs.tolist() == [[7, 60]]
    assert 0.98 <= alike.likeness[0] <= 1.0001
    assert not alike.crowded


def test_contrast_is_the_deviation_of_all_values():
    noise = torch.randint(100, 103, (20, 1, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert (contrast(noise) < LEAST_CONTRAST).all()
    assert np.allclose(contrast(noise), noise.double().flatten(1).std(1, correction=0), atol=1e-4)


def test_pictures_that_differ_in_one_place_only_are_not_copies():
    """As two shirts with other prints on the same cloth."""
    pictures = torch.stack([thumbnail(seed) for seed in range(60)])
    printed = pictures[7].clone()
    printed[:, 8:24, 8:24] = (0.8 * printed[:, 8:24, 8:24] + 0.2 * pictures[8][:, 8:24, 8:24]).to(torch.uint8)
    printed[:, 12:20, 12:20] = printed[:, 12:20, 12:20].flip(1, 2)
    both = torch.cat([pictures, printed[None]])
    assert find_alike(both, np.ones(61, bool)).pairs.tolist() == []


def sky(*dark: tuple[int, int]) -> torch.Tensor:
    """A blue sky, a little brighter towards a corner, with dark things of 2×2 px in it."""
    slope = torch.linspace(-1, 1, 32)
    brightness = slope[:, None] + slope / 2
    picture = torch.stack([brightness + 90, brightness + 140, brightness + 200])
    for row, column in dark:
        picture[:, row : row + 2, column : column + 2] -= 90
    return picture.to(torch.uint8)


def test_an_empty_sky_does_not_make_two_birds_one():
    pictures = [thumbnail(seed) for seed in range(60)]
    one, other = sky((18, 15), (18, 18), (15, 19)), sky((20, 16), (16, 17), (15, 20))
    everything = torch.stack([*pictures, one, other, one + 3])
    pair = np.array([[60, 61]])
    assert int(np.bitwise_xor(*hashes(everything, pair[0]))).bit_count() <= RADIUS
    assert _likeness(everything, pair, 0)[0] >= LIKENESS
    assert _structure(everything, pair, 0)[0] >= STRUCTURE
    assert find_alike(everything, np.ones(63, bool)).pairs.tolist() == [[60, 62]]


def test_the_structure_is_that_of_the_lowest_tenth_of_the_patches():
    one, other = thumbnail(1), (0.9 * thumbnail(1).float() + 0.1 * thumbnail(2)).to(torch.uint8)
    a, b = ((each - each.mean()) / each.std() for each in (one.numpy().astype(float), other.numpy().astype(float)))
    similar = []
    for top in range(0, 25, 4):
        for left in range(0, 25, 4):
            u, v = (each[:, top : top + 8, left : left + 8].flatten() for each in (a, b))
            similar.append((2 * np.cov(u, v, bias=True)[0, 1] + 0.02) / (u.var() + v.var() + 0.02))
    expected = np.quantile(similar, 0.1)
    assert _structure(torch.stack([one, other]), np.array([[0, 1]]), 0)[0] == pytest.approx(expected, abs=1e-4)
    assert STRUCTURE < expected < 1


def test_unusable_pictures_are_never_alike():
    pictures = thumbnail(1).repeat(3, 1, 1, 1)
    assert find_alike(pictures, np.array([True, False, True])).pairs.tolist() == [[0, 2]]


def test_where_all_resemble_each_other_only_nearly_equal_ones_are_found():
    generator = torch.Generator().manual_seed(0)
    noise = 25 * torch.randn((80, 3, 32, 32), generator=generator)
    pictures = (thumbnail(5) + noise).clamp(0, 255).to(torch.uint8)
    pictures[79] = pictures[3]
    alike = find_alike(pictures, np.ones(80, bool))
    assert alike.crowded
    assert alike.pairs.tolist() == [[3, 79]]


def test_there_may_be_no_pictures():
    assert len(find_alike(torch.zeros(0, 3, 32, 32, dtype=torch.uint8), np.zeros(0, bool)).pairs) == 0
