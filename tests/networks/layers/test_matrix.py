from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from striate.networks.layers import convolution_matrix

SETTINGS: list[dict[str, Any]] = [
    {"kernel_size": 3},
    {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2)},
    {"kernel_size": 3, "dilation": 2, "padding": 2},
    {"kernel_size": 3, "groups": 2, "padding": 1},
    {"kernel_size": 3, "groups": 4, "stride": 2, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "circular"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "replicate"},
    {"kernel_size": (2, 4), "padding": "same"},
    {"kernel_size": 3, "padding": "valid", "bias": False},
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # PyTorch's, of its own copy
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_matrix_times_the_picture_is_the_convolution(setting: dict[str, Any]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, dtype=torch.float64, **setting)
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    out = conv(x)
    bias = torch.zeros(8, dtype=torch.float64) if conv.bias is None else conv.bias.detach()
    matrix = convolution_matrix(conv, 5, 6)
    product = matrix @ x.flatten() + bias.repeat_interleave(out[0].numel())
    assert torch.allclose(product, out.flatten(), atol=1e-12)


def test_five_by_five_shares_25_weights_over_784_pixels() -> None:
    conv = nn.Conv2d(1, 1, 5, bias=False)
    matrix = convolution_matrix(conv, 28, 28)
    assert matrix.shape == (24 * 24, 784)
    assert int((matrix != 0).sum(dim=1).max()) == 25
    assert len(set(matrix[matrix != 0].tolist())) == 25
