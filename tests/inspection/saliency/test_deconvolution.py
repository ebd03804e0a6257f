from __future__ import annotations

import warnings

import pytest
import torch
from captum.attr import Deconvolution
from torch import Tensor, nn
from torch.nn import functional as F

import striate as st
from striate.inspection.saliency.deconvolution import deconvolution
from striate.inspection.saliency.gradient import input_gradients
from striate.networks.zoo import alexnet
from tests.inspection.saliency.references import TARGETS, inputs, small


def deconvolved_by_hand(network: nn.Module, images: Tensor, target: int) -> Tensor:
    """Return AlexNet's projection of a logit onto the pixels: unpooling, rectifying and transposed filters one by one.

    Args:
        network: `alexnet`, whose last maps are 1×1, so that its adaptive pool only repeats them.
        images: (1, 3, H, W).
    """
    layers = list(network.features)
    sizes, switches, values = [], {}, images
    with torch.no_grad():
        for number, layer in enumerate(layers):
            sizes.append(values.shape)
            if isinstance(layer, nn.MaxPool2d):
                values, switches[number] = F.max_pool2d(values, layer.kernel_size, layer.stride, return_indices=True)
            else:
                values = layer(values.clone())
        assert values.shape[2:] == (1, 1)
        linear = [layer for layer in network.classifier if isinstance(layer, nn.Linear)]
        back = linear[2].weight[target][None].clamp(min=0) @ linear[1].weight  # a ReLU stands before the last layer
        back = back.clamp(min=0) @ linear[0].weight
        back = back.view(1, 256, 6, 6).sum((2, 3), keepdim=True)  # what was repeated comes together again
        for number in reversed(range(len(layers))):
            layer = layers[number]
            if isinstance(layer, nn.ReLU):
                back = back.clamp(min=0)
            elif isinstance(layer, nn.MaxPool2d):
                back = unpooled(back, switches[number], sizes[number])
            else:
                missing = [
                    size - ((given - 1) * stride - 2 * padding + kernel)
                    for size, given, stride, padding, kernel in zip(
                        sizes[number][2:], back.shape[2:], layer.stride, layer.padding, layer.kernel_size, strict=True
                    )
                ]
                back = F.conv_transpose2d(back, layer.weight, None, layer.stride, layer.padding, missing)
    return back


def unpooled(values: Tensor, switches: Tensor, size: torch.Size) -> Tensor:
    """Put each value where its maximum was; where windows overlap in a maximum, its values add up."""
    if all(len(map_.unique()) == map_.numel() for map_ in switches[0]):
        return F.max_unpool2d(values, switches, 3, 2, output_size=list(size))
    whole = torch.zeros(size, dtype=values.dtype).flatten(2)
    return whole.scatter_add(2, switches.flatten(2), values.flatten(2)).view(size)


def test_it_is_unpooling_and_transposed_convolution_on_alexnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alexnet, "_UNITS", 64)  # fully connected ones, instead of 4,096: they are most of the time
    network = st.build("alexnet", st.Spec.of((3, 67, 67), 10), seed=0).double().eval()
    images = torch.randn(1, 3, 67, 67, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = input_gradients(network, images, torch.tensor([4]), "deconvolution")
    expected = deconvolved_by_hand(network, images, 4)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max()))
    torch.testing.assert_close(deconvolution(network, images, torch.tensor([4])), expected.abs().amax(1))


def test_it_agrees_with_captum() -> None:
    network, pictures = small(), inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it sets hooks
        theirs = Deconvolution(network).attribute(pictures.clone(), target=TARGETS)
    torch.testing.assert_close(deconvolution(network, pictures, TARGETS), theirs.abs().amax(1))
