from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.networks.zoo.preresnet import Bottleneck, SimpleBlock
from tests.networks.zoo.test_resnet import count, layers_with_weights, multiply_adds, on_meta, stage_sizes
from tests.networks.zoo.test_zoo import make_spec

NAMES = [f"preresnet{depth}" for depth in (18, 34, 50, 101, 152, 200)]
CIFAR = ["preresnet110_cifar10", "preresnet164bn_cifar10", "preresnet1001_cifar10"]


@pytest.mark.parametrize("name", [*NAMES, *CIFAR])
def test_the_name_is_the_number_of_layers(name: str) -> None:
    depth = int(name.removeprefix("preresnet").split("_")[0].removesuffix("bn"))
    assert layers_with_weights(on_meta(name), "projection") == depth


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("preresnet200", 64_666_280), ("preresnet164bn_cifar10", 1_703_258), ("preresnet1001_cifar10", 10_327_706)],
)
def test_parameters(name: str, parameters: int) -> None:
    assert count(on_meta(name)) == parameters


@pytest.mark.parametrize(("name", "work"), [("preresnet50", 3_857_973_248), ("preresnet164bn_cifar10", 247_646_720)])
def test_work(name: str, work: int) -> None:
    assert multiply_adds(name) == work


@pytest.mark.parametrize(
    ("name", "millions"), [("preresnet164bn_cifar10", 1.7), ("preresnet1001_cifar10", 10.2)]
)  # as the paper states them
def test_the_convolutions_have_the_published_number_of_parameters(name: str, millions: float) -> None:
    convolutions = [module for module in on_meta(name).modules() if isinstance(module, nn.Conv2d)]
    assert round(sum(count(convolution) for convolution in convolutions) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("preresnet50", (2, 2), (1, 1)), ("preresnet200", (2, 2), (1, 1)), ("preresnet164bn_cifar10", (1, 1), (2, 2))],
)
def test_what_strides_in_a_bottleneck(name: str, first: tuple[int, int], second: tuple[int, int]) -> None:
    network = on_meta(name)
    assert network.get_submodule("layer2.0.conv1").stride == first
    assert network.get_submodule("layer2.0.conv2").stride == second
    assert network.get_submodule("layer2.0.projection").stride == (2, 2)


@pytest.mark.parametrize(("name", "wide"), [("preresnet18", 64), ("preresnet50", 256)])
def test_the_stages_have_the_sizes_of_the_table(name: str, wide: int) -> None:
    assert stage_sizes(name) == {
        "conv1": (64, 112, 112),
        "bn1": (64, 112, 112),
        "maxpool": (64, 56, 56),
        "layer1": (wide, 56, 56),
        "layer2": (2 * wide, 28, 28),
        "layer3": (4 * wide, 14, 14),
        "layer4": (8 * wide, 7, 7),
        "bn2": (8 * wide, 7, 7),
        "relu2": (8 * wide, 7, 7),
        "avgpool": (8 * wide, 1, 1),
        "fc": (1000,),
    }


@pytest.mark.parametrize(("name", "wide"), [("preresnet110_cifar10", 16), ("preresnet164bn_cifar10", 64)])
def test_the_stages_for_small_pictures_have_the_sizes_of_the_table(name: str, wide: int) -> None:
    assert stage_sizes(name) == {
        "conv1": (16, 32, 32),
        "layer1": (wide, 32, 32),
        "layer2": (2 * wide, 16, 16),
        "layer3": (4 * wide, 8, 8),
        "bn": (4 * wide, 8, 8),
        "relu": (4 * wide, 8, 8),
        "avgpool": (4 * wide, 1, 1),
        "fc": (10,),
    }


@pytest.mark.parametrize("name", ["preresnet18", "preresnet110_cifar10"])
def test_the_stages_hold_every_weight_and_end_with_the_head(name: str) -> None:
    network = on_meta(name)
    stages: dict[str, nn.Module] = network.stages  # type: ignore[assignment]
    assert sum(count(stage) for stage in stages.values()) == count(network)
    assert list(stages.values())[-1] is network.head


@pytest.mark.parametrize("stride_first", [True, False])
def test_a_block_without_residual_is_the_identity(stride_first: bool) -> None:
    simple, bottleneck = SimpleBlock(8, 8, 1), Bottleneck(8, 8, 1, stride_first=stride_first)
    nn.init.zeros_(simple.conv2.weight)
    nn.init.zeros_(bottleneck.conv3.weight)
    maps = torch.randn(2, 8, 5, 5)
    assert torch.equal(simple(maps), maps)  # negative values too
    assert torch.equal(bottleneck(maps), maps)


@pytest.mark.parametrize("stride_first", [True, False])
def test_a_projection_sees_the_activated_input(stride_first: bool) -> None:
    simple, bottleneck = SimpleBlock(4, 8, 2), Bottleneck(4, 8, 2, stride_first=stride_first)
    nn.init.zeros_(simple.conv2.weight)
    nn.init.zeros_(bottleneck.conv3.weight)
    maps = torch.randn(2, 4, 7, 7)
    for block in (simple.eval(), bottleneck.eval()):
        assert isinstance(block, SimpleBlock | Bottleneck)
        assert block.projection is not None
        torch.testing.assert_close(block(maps), block.projection(block.bn1(maps).relu()))


def test_norm_and_relu_come_before_each_convolution() -> None:
    block = Bottleneck(8, 8, 1, stride_first=False).eval()
    maps = torch.randn(2, 8, 5, 5)
    residual = maps
    for norm, convolution in ((block.bn1, block.conv1), (block.bn2, block.conv2), (block.bn3, block.conv3)):
        norm.running_mean = torch.randn(norm.num_features)
        residual = convolution(norm(residual).relu())
    torch.testing.assert_close(block(maps), maps + residual)


def test_convolutions_begin_with_the_deviation_of_he_et_al() -> None:
    network = st.build("preresnet110_cifar10", make_spec((3, 32, 32), 10))
    weight = network.get_submodule("layer3.1.conv2").weight
    assert isinstance(weight, Tensor)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)


@pytest.mark.parametrize(("name", "shape"), [("preresnet18", (1, 1, 1)), ("preresnet110_cifar10", (2, 3, 5))])
def test_takes_pictures_of_any_size(name: str, shape: tuple[int, int, int]) -> None:
    network = st.build(name, make_spec(shape, 4)).eval()
    assert network(torch.randn(2, *shape)).shape == (2, 4)
