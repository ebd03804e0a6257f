from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.luminance import luminance


def test_it_is_what_pillow_makes_of_a_colour():
    colours = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    pixels = torch.from_numpy(colours).permute(2, 0, 1)
    pillow = torch.from_numpy(np.array(Image.fromarray(colours).convert("L")))
    assert float((luminance(pixels.double())[0] - pillow).abs().max()) < 0.501  # which is rounded
    assert torch.equal(luminance(pixels.float()[None])[0], luminance(pixels.float()))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_of_other_channels_it_is_the_mean(channels):
    pixels = torch.rand(2, channels, 3, 4)
    assert torch.equal(luminance(pixels), pixels.mean(1, keepdim=True))
