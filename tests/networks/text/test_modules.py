"""Convolutions of the text against loops in float64: padding modes, stride, dilation, groups, 1 to 3 axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from striate.networks.text import build_text

Array = NDArray[np.float64]
NUMPY_MODES = {
    "zeros": "constant",
    "mirror": "reflect",
    "nearest": "edge",
    "wrap": "wrap",
    "constant": "constant",
}


def loops(x: Array, weight: Array, upstream_seed: int, stride: int, dilation: int, groups: int) -> tuple[Array, ...]:
    """The convolution of x: (C, …), padded already; random upstream gradients; those of x and weight."""
    filters, depth, *kernel = weight.shape
    outputs = [(n - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x.shape[1:], kernel, strict=True)]
    upstream = np.random.default_rng(upstream_seed).normal(size=(filters, *outputs))
    out, x_gradient, weight_gradient = np.zeros_like(upstream), np.zeros_like(x), np.zeros_like(weight)
    for f, *place in np.ndindex(*out.shape):
        for c, *tap in np.ndindex(depth, *kernel):
            channel = f // (filters // groups) * depth + c
            pixel = (channel, *(p * stride + t * dilation for p, t in zip(place, tap, strict=True)))
            out[(f, *place)] += weight[(f, c, *tap)] * x[pixel]
            x_gradient[pixel] += weight[(f, c, *tap)] * upstream[(f, *place)]
            weight_gradient[(f, c, *tap)] += x[pixel] * upstream[(f, *place)]
    return out, upstream, x_gradient, weight_gradient


def fold_back(gradient: Array, origins: NDArray[np.int64], pixels: int) -> Array:
    """The gradient of the picture from the padded one's; origins: the pixel each repeats, or −1."""
    folded = np.zeros(pixels)
    for origin, value in zip(origins.flat, gradient.flat, strict=True):
        if origin >= 0:
            folded[origin] += value
    return folded


@pytest.mark.parametrize("padmode", ["zeros", "mirror", "nearest", "wrap", "constant 0.7"])
@pytest.mark.parametrize(
    ("geometry", "shape"),
    [
        ("conv 4@3 pad 1", (2, 5, 4)),
        ("conv 4@2x3 pad 1x2 stride 2", (2, 6, 5)),
        ("conv 4@3 pad 2 dilation 2 groups 2", (2, 5, 6)),
        ("conv 4@3 pad same stride 2 groups depthwise", (2, 5, 6)),
        ("conv 2@2 pad same", (1, 3, 4)),
        ("conv1d 4@3 pad 2 stride 2", (2, 7)),
        ("conv1d 4@4 pad same dilation 2", (2, 9)),
        ("conv3d 2@2 pad 1 stride 2", (2, 3, 4, 3)),
        ("conv3d 2@3x1x2 pad same", (1, 3, 2, 4)),
    ],
)
def test_forward_and_gradients_are_those_of_the_loops(geometry: str, shape: tuple[int, ...], padmode: str) -> None:
    network = build_text(f"{geometry} padmode {padmode}", shape).double()
    conv = network.head
    assert isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    x = np.random.default_rng(0).normal(size=shape)
    stride, dilation = conv.stride[0], conv.dilation[0]
    pads = [(0, 0)]
    for size, kernel, word in zip(shape[1:], conv.kernel_size, _pads(geometry, len(shape) - 1), strict=True):
        total = (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size
        pads.append((total // 2, total - total // 2) if word == "same" else (int(word), int(word)))
    mode, *value = padmode.split()
    constant = {"constant_values": float(value[0]) if value else 0.0} if NUMPY_MODES[mode] == "constant" else {}
    padded = np.pad(x, pads, mode=NUMPY_MODES[mode], **constant)  # type: ignore[call-overload]
    marker = {"constant_values": -1} if constant else {}
    origins = np.pad(np.arange(x.size).reshape(shape), pads, mode=NUMPY_MODES[mode], **marker)  # type: ignore[call-overload]

    weight = conv.weight.detach().numpy()
    out, upstream, x_gradient, weight_gradient = loops(padded, weight, 1, stride, dilation, conv.groups)
    images = torch.tensor(x[None], requires_grad=True)
    answer = network(images)
    answer.backward(torch.tensor(upstream[None]))
    assert images.grad is not None
    assert conv.weight.grad is not None
    np.testing.assert_allclose(answer[0].detach().numpy(), out, atol=1e-12)
    np.testing.assert_allclose(conv.weight.grad.numpy(), weight_gradient, atol=1e-12)
    np.testing.assert_allclose(images.grad.numpy().ravel(), fold_back(x_gradient, origins, x.size), atol=1e-12)


def _pads(geometry: str, axes: int) -> list[str]:
    words = geometry.split()
    sizes = words[words.index("pad") + 1].split("x")
    return sizes * axes if len(sizes) == 1 else sizes


@pytest.mark.parametrize(
    ("text", "shape", "kind"),
    [
        ("maxpool 3 stride 2 pad 1", (2, 8, 8), nn.MaxPool2d),
        ("avgpool 2", (2, 8), nn.AvgPool1d),
        ("avgpool 2 ceil", (2, 5, 5, 5), nn.AvgPool3d),
        ("adaptive avg 2x3", (2, 8, 8), nn.AdaptiveAvgPool2d),
        ("adaptive max 2", (2, 8), nn.AdaptiveMaxPool1d),
        ("bn", (7,), nn.BatchNorm1d),
        ("bn", (2, 8, 8), nn.BatchNorm2d),
        ("bn", (2, 4, 4, 4), nn.BatchNorm3d),
        ("dropout 0.3", (7,), nn.Dropout),
        ("leaky 0.2", (7,), nn.LeakyReLU),
        ("prelu", (2, 4, 4), nn.PReLU),
        ("softmax", (7,), nn.Softmax),
        ("lrn", (7, 2, 2), nn.LocalResponseNorm),
        ("flatten", (2, 4, 4), nn.Flatten),
    ],
)
def test_pytorchs_own_modules_wherever_it_has_them(text: str, shape: tuple[int, ...], kind: type[nn.Module]) -> None:
    network = build_text(text, shape)
    (stage,) = network.stages.values()
    assert type(stage) is kind
    network(torch.zeros(2, *shape))
