from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.summary import summary
from striate.networks.zoo.alexnet import AlexNetPaper
from tests.networks.zoo.test_zoo import make_spec


def sizes_of_stages(name: str, shape: tuple[int, int, int], classes: int = 1000) -> dict[str, tuple[int, ...]]:
    network = build_on_meta(name, make_spec(shape, classes)).eval()
    seen: dict[str, tuple[int, ...]] = {}
    for stage, module in network.stages.items():  # type: ignore[operator,union-attr]
        module.register_forward_hook(lambda _, args, output, stage=stage: seen.update({stage: tuple(output.shape[1:])}))
    network(torch.empty(1, *shape, device="meta"))
    assert list(seen) == list(network.stages)  # type: ignore[arg-type]
    return seen


@pytest.mark.parametrize("side", [224, 227])
def test_the_paper_has_60_965_224_parameters_and_its_maps(side: int) -> None:
    network = build_on_meta("alexnet_paper", make_spec((3, side, side), 1000))
    by_layer = [sum(parameter.numel() for parameter in layer.parameters()) for layer in network.children()]
    assert by_layer == [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000]
    assert sum(by_layer) == 60_965_224
    assert sizes_of_stages("alexnet_paper", (3, side, side)) == {
        "layer1": (96, 27, 27),
        "layer2": (256, 13, 13),
        "layer3": (384, 13, 13),
        "layer4": (384, 13, 13),
        "layer5": (256, 6, 6),
        "layer6": (4096,),
        "layer7": (4096,),
        "head": (1000,),
    }


def test_the_neurons_are_those_that_the_paper_counts_from_layer_2_on() -> None:
    spec = make_spec((3, 224, 224), 1000)
    rows = summary(build_on_meta("alexnet_paper", spec), spec).rows
    neurons = [int(np.prod(row.output)) for row in rows if row.kind in ("Conv2d", "Linear")]
    assert neurons[1:] == [186_624, 64_896, 64_896, 43_264, 4_096, 4_096, 1_000]
    assert neurons[0] == 55 * 55 * 96  # where the paper says 253,440, which is 55·48·96


def test_224_is_227_with_two_pixels_of_zeros_before_and_one_after() -> None:
    small, large = AlexNetPaper((1, 64, 64), 3), AlexNetPaper((1, 67, 67), 3)  # 64 → 67 as 224 → 227
    large.load_state_dict(small.state_dict())
    images = torch.randn(2, 1, 64, 64)
    padded = nn.functional.pad(images, (2, 1, 2, 1))
    torch.testing.assert_close(small.eval()(images), large.eval()(padded))


def test_normalisation_and_groups_are_the_papers() -> None:
    network = AlexNetPaper((1, 64, 64), 3)
    maps = 100 * torch.randn(1, 8, 2, 3, dtype=torch.float64)
    pixels, expected = maps.numpy(), np.empty((1, 8, 2, 3))
    for c in range(8):
        squares = (pixels[:, max(0, c - 2) : c + 3] ** 2).sum(1)
        expected[:, c] = pixels[:, c] / (2 + 1e-4 * squares) ** 0.75
    for layer in (network.layer1, network.layer2):
        assert [type(module) for module in layer] == [nn.Conv2d, nn.ReLU, nn.LocalResponseNorm, nn.MaxPool2d]
        np.testing.assert_allclose(layer[2](maps).numpy(), expected, rtol=1e-12)
    groups = [module.groups for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert groups == [1, 2, 1, 2, 2]


def test_the_paper_starts_from_its_own_weights_and_biases() -> None:
    network = AlexNetPaper((3, 64, 64), 10)
    biases = [p for name, p in network.named_parameters() if name.endswith("bias")]
    assert [set(bias.tolist()) for bias in biases] == [{0}, {1}, {0}, {1}, {1}, {1}, {1}, {0}]
    deviations = torch.stack([p.std() for name, p in network.named_parameters() if name.endswith("weight")])
    torch.testing.assert_close(deviations, torch.full((8,), 0.01), rtol=0.03, atol=0)


def test_torchvisions_maps() -> None:
    sizes = sizes_of_stages("alexnet", (3, 224, 224))
    assert [size for size in sizes.values() if len(size) == 3] == [
        (64, 55, 55), (64, 27, 27), (192, 27, 27), (192, 13, 13),
        (384, 13, 13), (256, 13, 13), (256, 13, 13), (256, 6, 6),
    ]  # fmt: skip
    assert list(sizes.values())[-3:] == [(4096,), (4096,), (1000,)]


@pytest.mark.parametrize(("name", "least"), [("alexnet", 63), ("alexnet_paper", 64)])
def test_the_least_picture_fits_and_a_smaller_one_is_refused_with_the_fix(name: str, least: int) -> None:
    assert sizes_of_stages(name, (1, least, least + 9), 7)  # it runs
    words = rf"^{name} needs pictures of at least {least}×{least}, got {least - 1}×{least}\. Enlarge .*--size 224"
    with pytest.raises(st.NetworkError, match=words):
        st.build(name, make_spec((1, least - 1, least), 7))
