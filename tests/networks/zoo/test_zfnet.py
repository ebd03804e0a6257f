from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.summary import summary
from striate.networks.zoo.zfnet import ZFNet
from tests.networks.zoo.test_alexnet import sizes_of_stages
from tests.networks.zoo.test_zoo import make_spec


@pytest.mark.parametrize("name", ["zfnet", "zfnet_paper"])
def test_the_maps_are_those_of_figure_3(name: str) -> None:
    spec = make_spec((3, 224, 224), 1000)
    network = build_on_meta(name, spec)
    kinds = ("Conv2d", "MaxPool2d", "Linear")
    assert [row.output for row in summary(network, spec).rows if row.kind in kinds] == [
        (96, 110, 110), (96, 55, 55), (256, 26, 26), (256, 13, 13),
        (384, 13, 13), (384, 13, 13), (256, 13, 13), (256, 6, 6), (4096,), (4096,), (1000,),
    ]  # fmt: skip
    assert sum(parameter.numel() for parameter in network.parameters()) == 62_357_608
    assert list(sizes_of_stages(name, (3, 224, 224))) == [f"layer{number}" for number in range(1, 8)] + ["head"]


def test_the_paper_normalises_what_is_pooled_and_five_times_more() -> None:
    donor, paper = (ZFNet((1, 47, 47), 3, pool_first=first) for first in (False, True))
    maps = 50 * torch.randn(2, 96, 9, 9).relu()
    squares = nn.functional.pad(maps.square(), (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).sum(-1)  # of five neighbours
    for network, alpha in ((donor, 2e-5), (paper, 1e-4)):
        for layer in (network.layer1, network.layer2):
            norm = next(module for module in layer.modules() if isinstance(module, nn.LocalResponseNorm))
            torch.testing.assert_close(norm(maps), maps / (2 + alpha * squares) ** 0.75)
    assert [type(module) for module in list(paper.layer2.children())[-2:]] == [nn.MaxPool2d, nn.LocalResponseNorm]
    assert [type(module) for module in list(donor.layer2.children())[-2:]] == [nn.LocalResponseNorm, nn.MaxPool2d]


@pytest.mark.parametrize("name", ["zfnet", "zfnet_paper"])
def test_the_least_picture_fits_and_a_smaller_one_is_refused_with_the_fix(name: str) -> None:
    assert sizes_of_stages(name, (1, 47, 70), 7)["layer5"] == (256, 1, 1)
    with pytest.raises(st.NetworkError, match=r"^ZFNet needs pictures of at least 47×47, got 60×46\. .*--size 224"):
        st.build(name, make_spec((3, 60, 46), 10))


@pytest.mark.parametrize("side", [48, 97, 160, 225])
def test_other_sizes_fit(side: int) -> None:
    assert sizes_of_stages("zfnet", (2, side, side + 1), 7)["head"] == (7,)
