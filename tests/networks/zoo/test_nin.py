from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.zoo.nin import NetworkInNetwork, nin_cifar10
from tests.networks.zoo.test_alexnet import sizes_of_stages
from tests.networks.zoo.test_zoo import make_spec


def test_the_maps_for_cifar() -> None:
    assert sizes_of_stages("nin_cifar10", (3, 32, 32), 10) == {
        "blocks.0": (96, 32, 32),
        "blocks.1": (192, 16, 16),
        "blocks.2": (192, 8, 8),
        "head": (10, 8, 8),
    }


def test_the_maps_and_parameters_for_imagenet() -> None:
    assert sizes_of_stages("nin_imagenet", (3, 224, 224)) == {
        "blocks.0": (96, 54, 54),
        "blocks.1": (256, 27, 27),
        "blocks.2": (384, 13, 13),
        "blocks.3": (1024, 6, 6),
        "head": (1000, 6, 6),
    }
    network = build_on_meta("nin_imagenet", make_spec((3, 224, 224), 1000))
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_595_176
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [(layer.out_channels, layer.kernel_size[0]) for layer in convolutions] == [
        (96, 11), (96, 1), (96, 1), (256, 5), (256, 1), (256, 1),
        (384, 3), (384, 1), (384, 1), (1024, 3), (1024, 1), (1000, 1),
    ]  # fmt: skip


def test_a_logit_is_the_mean_of_its_rectified_map() -> None:
    network = nin_cifar10(shape=(1, 9, 12), classes=4).eval()
    assert isinstance(network, NetworkInNetwork)
    images, maps = torch.randn(2, 1, 9, 12), []
    network.blocks.register_forward_hook(lambda module, args, output: maps.append(output.clone()))
    logits = network(images)
    expected = network.head(maps[0]).clamp(min=0).sum((2, 3)) / (3 * 3)
    torch.testing.assert_close(logits, expected)
    assert (logits > 0).any()


def test_the_pools_of_cifar_differ_and_drop_half() -> None:
    network = build_on_meta("nin_cifar10", make_spec((3, 32, 32), 10))
    pools = [module for module in network.modules() if isinstance(module, nn.MaxPool2d | nn.AvgPool2d)]
    assert [type(pool) for pool in pools] == [nn.MaxPool2d, nn.AvgPool2d]
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.5, 0.5]


def test_any_size_fits_cifars_and_39_imagenets() -> None:
    assert sizes_of_stages("nin_cifar10", (1, 1, 5), 7)["head"] == (7, 1, 2)
    assert sizes_of_stages("nin_imagenet", (1, 39, 39), 7)["head"] == (7, 1, 1)
    words = r"^nin_imagenet needs pictures of at least 39×39, got 38×50\. .*--size 224.*nin_cifar10"
    with pytest.raises(st.NetworkError, match=words):
        st.build("nin_imagenet", make_spec((3, 38, 50), 10))
