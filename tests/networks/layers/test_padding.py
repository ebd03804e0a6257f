from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from striate.networks.layers import SamePad
from striate.networks.layers.padding import PaddingMode

NUMPY_MODES: dict[PaddingMode, str] = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_widths_are_those_of_tensorflow_in_every_mode(mode: PaddingMode) -> None:
    x = np.random.default_rng(0).normal(size=(2, 1, 7, 8))
    for kernel, stride, dilation in [
        ((3, 3), (2, 2), (1, 1)),
        ((2, 4), (1, 3), (1, 1)),
        ((3, 2), (2, 1), (2, 3)),
    ]:
        pads = [(0, 0), (0, 0)]
        for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
            total = max(0, (math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size)
            pads.append((total // 2, total - total // 2))
        options = {"constant_values": 0.5} if mode == "constant" else {}
        expected = np.pad(x, pads, mode=NUMPY_MODES[mode], **options)  # type: ignore[call-overload]
        padded = SamePad(kernel, stride, dilation, mode, 0.5)(torch.tensor(x))
        np.testing.assert_array_equal(padded.numpy(), expected)


def test_the_odd_pixel_goes_after() -> None:
    padded = SamePad((3,), (2,), (1,))(torch.ones(1, 1, 4))
    assert padded.tolist() == [[[1, 1, 1, 1, 0]]]
