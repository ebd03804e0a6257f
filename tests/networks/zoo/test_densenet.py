from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.core.errors import NetworkError
from striate.networks.build import build_on_meta
from striate.networks.zoo.densenet import DenseBlock
from tests.networks.zoo.test_resnet import count, layers_with_weights, multiply_adds, on_meta, stage_sizes
from tests.networks.zoo.test_zoo import make_spec

NAMES = [f"densenet{depth}" for depth in (121, 161, 169, 201)]
CIFAR = ["densenet40_k12_cifar10", "densenet40_k12_cifar10_paper", "densenet100_k12_bc_cifar10"]


@pytest.mark.parametrize("name", [*NAMES, *CIFAR])
def test_the_name_is_the_number_of_layers(name: str) -> None:
    depth = int(name.removeprefix("densenet").split("_")[0])
    assert layers_with_weights(on_meta(name)) == depth


@pytest.mark.parametrize(
    ("name", "millions"), [("densenet40_k12_cifar10_paper", 1.0), ("densenet100_k12_bc_cifar10", 0.8)]
)  # table 2 of the paper
def test_the_published_number_of_parameters(name: str, millions: float) -> None:
    assert round(count(on_meta(name)) / 1e6, 1) == millions


def test_the_paper_begins_with_16_filters_and_its_transitions_keep_all_channels() -> None:
    paper = stage_sizes("densenet40_k12_cifar10_paper")
    donor = stage_sizes("densenet40_k12_cifar10")
    channels = [(stage, paper[stage][0], donor[stage][0]) for stage in paper]
    assert channels == [
        ("features.conv0", 16, 24),
        ("features.denseblock1", 160, 168),
        ("features.transition1", 160, 84),
        ("features.denseblock2", 304, 228),
        ("features.transition2", 304, 114),
        ("features.denseblock3", 448, 258),
        ("features.norm4", 448, 258),
        ("features.relu4", 448, 258),
        ("avgpool", 448, 258),
        ("classifier", 10, 10),
    ]
    assert multiply_adds("densenet40_k12_cifar10_paper") == 264_812_928


def test_the_stages_have_the_sizes_of_the_papers_table() -> None:
    assert stage_sizes("densenet121") == {
        "features.conv0": (64, 112, 112),
        "features.norm0": (64, 112, 112),
        "features.pool0": (64, 56, 56),
        "features.denseblock1": (256, 56, 56),
        "features.transition1": (128, 28, 28),
        "features.denseblock2": (512, 28, 28),
        "features.transition2": (256, 14, 14),
        "features.denseblock3": (1024, 14, 14),
        "features.transition3": (512, 7, 7),
        "features.denseblock4": (1024, 7, 7),
        "features.norm5": (1024, 7, 7),
        "features.relu5": (1024, 7, 7),
        "avgpool": (1024, 1, 1),
        "classifier": (1000,),
    }


@pytest.mark.parametrize("name", ["densenet121", "densenet100_k12_bc_cifar10"])
def test_the_stages_hold_every_weight_and_end_with_the_head(name: str) -> None:
    network = on_meta(name)
    stages: dict[str, nn.Module] = network.stages  # type: ignore[assignment]
    assert sum(count(stage) for stage in stages.values()) == count(network)
    assert list(stages.values())[-1] is network.head


@pytest.mark.parametrize("bottleneck", [True, False])
def test_each_layer_sees_the_input_and_all_layers_before_it(bottleneck: bool) -> None:
    block = DenseBlock(5, 3, 4, bottleneck=bottleneck).eval()
    maps = torch.randn(2, 5, 6, 6)
    before = maps.clone()
    known = [maps]
    for layer in block.children():
        known.append(layer(torch.cat(known, 1)))
        assert known[-1].shape == (2, 3, 6, 6)
    torch.testing.assert_close(block(maps), torch.cat(known, 1))
    assert len(known) == 5
    assert torch.equal(maps, before)


@pytest.mark.parametrize(("name", "least"), [("densenet121", 29), ("densenet40_k12_cifar10", 4)])
def test_the_least_size_is_the_one_that_the_message_names(name: str, least: int) -> None:
    network = build_on_meta(name, make_spec((3, least, least), 5)).eval()
    assert network(torch.empty(1, 3, least, least, device="meta")).shape == (1, 5)
    with pytest.raises(RuntimeError, match="too small"):
        network(torch.empty(1, 3, least, least - 1, device="meta"))
    message = rf"at least {least}×{least}, got {least}×{least - 1}. Enlarge them with --size {least} \(size={least}\)"
    with pytest.raises(NetworkError, match=message):
        st.build(name, make_spec((3, least, least - 1), 5))


def test_convolutions_begin_with_the_deviation_of_he_et_al() -> None:
    network = st.build("densenet40_k12_cifar10", make_spec((3, 32, 32), 10))
    convolution = network.get_submodule("features.transition1.conv")
    assert isinstance(convolution.weight, Tensor)
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / 168), rel=0.05)
    head = network.head
    assert isinstance(head, nn.Linear)
    assert head.bias.abs().max() == 0
