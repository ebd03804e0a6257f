from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.zoo import ZOO
from striate.networks.zoo.resnet import Bottleneck, PaddedIdentity, SimpleBlock, projection
from tests.networks.zoo.test_zoo import make_spec

NAMES = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
V1 = [f"resnet{depth}_v1" for depth in (50, 101, 152)]
CIFAR = [f"resnet{depth}_cifar10" for depth in (20, 32, 44, 56, 110)]
PAPER = [f"{name}_paper" for name in CIFAR]
MILLIONS = (0.27, 0.46, 0.66, 0.85, 1.7)  # table 6 of the paper


def on_meta(name: str) -> nn.Module:
    entry = ZOO.get(name)
    return build_on_meta(name, make_spec(entry.shape, entry.classes)).eval()


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(name: str) -> int:
    """Return those of convolutions and matrix products, for one picture of the paper's size."""
    with FlopCounterMode(display=False) as counter:
        on_meta(name)(torch.empty(1, *ZOO.get(name).shape, device="meta"))
    return int(counter.get_total_flops()) // 2


def stage_sizes(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of each stage's output for one picture of the paper's size."""
    network, sizes = on_meta(name), {}

    def note(stage: str, output: Tensor) -> None:
        sizes[stage] = tuple(output.shape[1:])

    for stage, module in network.stages.items():  # type: ignore[operator, union-attr]
        module.register_forward_hook(lambda _, __, output, stage=stage: note(stage, output))
    network(torch.empty(1, *ZOO.get(name).shape, device="meta"))
    return sizes


def layers_with_weights(network: nn.Module, shortcut: str = "shortcut") -> int:
    """Return the number of convolutions and linear layers, without those whose path contains ``shortcut``."""
    kinds = (nn.Conv2d, nn.Linear)
    return sum(isinstance(module, kinds) and shortcut not in path for path, module in network.named_modules())


@pytest.mark.parametrize("name", [*NAMES, *V1, *CIFAR, *PAPER])
def test_the_name_is_the_number_of_layers(name: str) -> None:
    depth = int(name.removeprefix("resnet").split("_")[0])
    assert layers_with_weights(on_meta(name), "downsample") == depth


@pytest.mark.parametrize(("name", "millions"), list(zip(PAPER, MILLIONS, strict=True)))
def test_identity_shortcuts_have_the_published_number_of_parameters(name: str, millions: float) -> None:
    network = on_meta(name)
    digits = 1 if millions > 1 else 2
    assert round(count(network) / 1e6, digits) == millions
    assert not any("downsample" in path for path, _ in network.named_parameters())


def test_only_two_shortcuts_of_the_projecting_form_have_weights() -> None:
    shapes = {path: tuple(p.shape) for path, p in on_meta("resnet20_cifar10").named_parameters() if p.ndim == 4}
    projections = {path: shape for path, shape in shapes.items() if "downsample" in path}
    assert projections == {
        "layer2.0.downsample.0.weight": (32, 16, 1, 1),
        "layer3.0.downsample.0.weight": (64, 32, 1, 1),
    }


@pytest.mark.parametrize("name", ["resnet50", "resnet152"])
def test_the_paper_strides_before_the_3x3_with_the_same_weights(name: str) -> None:
    today, paper = on_meta(name), on_meta(f"{name}_v1")
    assert {k: v.shape for k, v in today.state_dict().items()} == {k: v.shape for k, v in paper.state_dict().items()}
    for network, first, second in ((today, (1, 1), (2, 2)), (paper, (2, 2), (1, 1))):
        assert network.get_submodule("layer2.0.conv1").stride == first
        assert network.get_submodule("layer2.0.conv2").stride == second


def test_striding_before_the_3x3_spares_work() -> None:
    assert multiply_adds("resnet50") == 4_089_184_256
    assert multiply_adds("resnet50_v1") == 3_857_973_248  # 3.8 G in table 1


@pytest.mark.parametrize(("name", "wide"), [("resnet34", 64), ("resnet50", 256), ("resnet152_v1", 256)])
def test_the_stages_have_the_sizes_of_the_papers_table(name: str, wide: int) -> None:
    assert stage_sizes(name) == {
        "conv1": (64, 112, 112),
        "bn1": (64, 112, 112),
        "maxpool": (64, 56, 56),
        "layer1": (wide, 56, 56),
        "layer2": (2 * wide, 28, 28),
        "layer3": (4 * wide, 14, 14),
        "layer4": (8 * wide, 7, 7),
        "avgpool": (8 * wide, 1, 1),
        "fc": (1000,),
    }


@pytest.mark.parametrize("name", ["resnet32_cifar10", "resnet44_cifar10_paper"])
def test_the_stages_for_small_pictures_have_the_papers_sizes(name: str) -> None:
    assert stage_sizes(name) == {
        "conv1": (16, 32, 32),
        "bn1": (16, 32, 32),
        "layer1": (16, 32, 32),
        "layer2": (32, 16, 16),
        "layer3": (64, 8, 8),
        "avgpool": (64, 1, 1),
        "fc": (10,),
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet20_cifar10", "resnet20_cifar10_paper"])
def test_the_stages_hold_every_weight_and_end_with_the_head(name: str) -> None:
    network = on_meta(name)
    stages: dict[str, nn.Module] = network.stages  # type: ignore[assignment]
    assert sum(count(stage) for stage in stages.values()) == count(network)
    assert list(stages.values())[-1] is network.head


@pytest.mark.parametrize("side", [6, 7])
def test_a_padded_identity_takes_every_second_pixel_and_appends_zeros(side: int) -> None:
    maps = torch.randn(2, 3, side, side)
    padded = PaddedIdentity(3, 5, 2)(maps)
    rows = range(0, side, 2)
    for image, channel in ((0, 0), (1, 2)):
        expected = [[maps[image, channel, row, column].item() for column in rows] for row in rows]
        assert padded[image, channel].tolist() == expected
    assert padded.shape == projection(3, 5, 2)(maps).shape
    assert padded[:, 3:].abs().max() == 0


@pytest.mark.parametrize("side", [5, 8])
def test_a_block_without_residual_hands_on_its_input(side: int) -> None:
    simple, bottleneck = SimpleBlock(8, 8, 1, None), Bottleneck(8, 8, 1, None)
    nn.init.zeros_(simple.bn2.weight)
    nn.init.zeros_(bottleneck.bn3.weight)
    maps = torch.randn(2, 8, side, side)
    for block in (simple, bottleneck):
        before = maps.clone()
        assert torch.equal(block(maps), maps.relu())
        assert torch.equal(maps, before)  # the additions in place are not to the input


def test_a_block_adds_the_shortcut_before_the_last_relu() -> None:
    shortcut = PaddedIdentity(4, 8, 2)
    block = SimpleBlock(4, 8, 2, shortcut).eval()
    maps = torch.randn(2, 4, 6, 6)
    residual = block.bn2(block.conv2(block.bn1(block.conv1(maps)).relu()))
    torch.testing.assert_close(block(maps), (residual + shortcut(maps)).relu())


@pytest.mark.parametrize(("path", "outputs", "kernel_size"), [("conv1", 16, 3), ("layer3.1.conv2", 64, 3)])
def test_convolutions_begin_with_the_deviation_of_he_et_al(path: str, outputs: int, kernel_size: int) -> None:
    weight = st.build("resnet20_cifar10", make_spec((3, 32, 32), 10)).get_submodule(path).weight
    assert isinstance(weight, Tensor)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (outputs * kernel_size**2)), rel=0.1)


@pytest.mark.parametrize(("name", "shape"), [("resnet18", (1, 1, 1)), ("resnet20_cifar10_paper", (2, 3, 5))])
def test_takes_pictures_of_any_size(name: str, shape: tuple[int, int, int]) -> None:
    network = st.build(name, make_spec(shape, 4)).eval()
    assert network(torch.randn(2, *shape)).shape == (2, 4)
