from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.zoo.inception_v4 import InceptionC, inception_b, reduction_b
from tests.networks.zoo.test_blocks import stage_shapes
from tests.networks.zoo.test_zoo import make_spec


def test_every_stage_has_the_size_of_figures_3_and_9() -> None:
    shapes = list(stage_shapes("inception_v4", 299, 299).values())
    stem = [(32, 149, 149), (32, 147, 147), (64, 147, 147), (160, 73, 73), (192, 71, 71), (384, 35, 35)]
    assert shapes[:6] == stem
    assert shapes[6:10] == 4 * [(384, 35, 35)]
    assert shapes[10:18] == 8 * [(1024, 17, 17)]
    assert shapes[18:22] == 4 * [(1536, 8, 8)]
    assert shapes[22:] == [(1536, 1, 1), (1000,)]


def test_the_smallest_picture_leaves_one_pixel_and_a_smaller_one_is_refused() -> None:
    assert stage_shapes("inception_v4", 75, 80)["features.21"] == (1536, 1, 1)
    with pytest.raises(st.NetworkError, match=r"^inception_v4 needs pictures of at least 75×75, got 75×74\. Enlarge"):
        st.build("inception_v4", make_spec((3, 75, 74), 4))


@pytest.mark.parametrize(("block", "channels"), [(inception_b(), 1024), (reduction_b(), 1024), (InceptionC(), 1536)])
def test_blocks_learn(block: nn.Module, channels: int) -> None:
    block(torch.randn(2, channels, 5, 4)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in block.parameters())


def test_the_average_leaves_out_what_is_beyond_the_border() -> None:
    network = build_on_meta("inception_v4", make_spec((3, 299, 299), 10))
    pools = [module for module in network.modules() if isinstance(module, nn.AvgPool2d)]
    assert len(pools) == 14
    ones = torch.ones(1, 1, 3, 3)
    assert all(torch.equal(pool(ones), ones) for pool in pools)


def test_dropout_is_an_option() -> None:
    network = build_on_meta("inception_v4(dropout=0.2)", make_spec((3, 75, 75), 4))
    assert network.get_submodule("head_drop").p == 0.2
