from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.zoo.inception_resnet import InceptionResidual, block_a, block_b, block_c
from tests.networks.zoo.test_blocks import stage_shapes
from tests.networks.zoo.test_zoo import make_spec

STEM = {
    "conv2d_1a": (32, 149, 149),
    "conv2d_2a": (32, 147, 147),
    "conv2d_2b": (64, 147, 147),
    "maxpool_3a": (64, 73, 73),
    "conv2d_3b": (80, 73, 73),
    "conv2d_4a": (192, 71, 71),
}
BOTH = ("inceptionresnetv1", "inception_resnet_v2")


def test_every_stage_of_v1_has_the_size_of_the_table() -> None:
    assert stage_shapes("inceptionresnetv1", 299, 299) == {
        **STEM,
        "conv2d_4b": (256, 35, 35),
        **{f"repeat.{number}": (256, 35, 35) for number in range(5)},
        "mixed_6a": (896, 17, 17),
        **{f"repeat_1.{number}": (896, 17, 17) for number in range(10)},
        "mixed_7a": (1792, 8, 8),
        **{f"repeat_2.{number}": (1792, 8, 8) for number in range(5)},
        "block8": (1792, 8, 8),
        "global_pool": (1792, 1, 1),
        "bottleneck": (512,),
        "classif": (1000,),
    }


def test_every_stage_of_v2_has_the_size_of_the_table() -> None:
    assert stage_shapes("inception_resnet_v2", 299, 299) == {
        **STEM,
        "maxpool_5a": (192, 35, 35),
        "mixed_5b": (320, 35, 35),
        **{f"repeat.{number}": (320, 35, 35) for number in range(10)},
        "mixed_6a": (1088, 17, 17),
        **{f"repeat_1.{number}": (1088, 17, 17) for number in range(20)},
        "mixed_7a": (2080, 8, 8),
        **{f"repeat_2.{number}": (2080, 8, 8) for number in range(9)},
        "block8": (2080, 8, 8),
        "conv2d_7b": (1536, 8, 8),
        "global_pool": (1536, 1, 1),
        "classif": (1000,),
    }


@pytest.mark.parametrize(
    ("block", "scale", "rectified"),
    [
        (block_a(16, (32, 32)), 0.17, True),
        (block_b(16, 8, (8, 8, 8)), 0.10, True),
        (block_c(16, (8, 8, 8)), 0.20, True),
        (block_c(16, (8, 8, 8), last=True), 1.0, False),
    ],
)
def test_a_block_adds_its_scaled_branches(block: InceptionResidual, scale: float, rectified: bool) -> None:
    maps = torch.randn(2, 16, 8, 8)
    branches = [branch for name, branch in block.named_children() if name.startswith("branch")]
    block.eval()
    total = maps + scale * block.conv2d(torch.cat([branch(maps) for branch in branches], dim=1))
    assert bool((total < 0).any())
    kept = maps.clone()
    torch.testing.assert_close(block(maps), total.clamp(min=0) if rectified else total)
    assert torch.equal(maps, kept)  # nothing is rectified in place that came from outside


@pytest.mark.parametrize("name", BOTH)
def test_the_smallest_picture_leaves_one_pixel_and_a_smaller_one_is_refused(name: str) -> None:
    assert stage_shapes(name, 75, 75)["block8"][1:] == (1, 1)
    with pytest.raises(st.NetworkError, match=rf"^{name} needs pictures of at least 75×75, got 74×99\. Enlarge"):
        st.build(name, make_spec((3, 74, 99), 4))


def test_v1_learns_on_the_smallest_picture() -> None:
    network = st.build("inceptionresnetv1", make_spec((1, 75, 75), 3))
    network.train()(torch.randn(2, 1, 75, 75)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize(("name", "share"), [("inceptionresnetv1", 0.6), ("inception_resnet_v2", 0.0)])
def test_dropout_is_an_option(name: str, share: float) -> None:
    for model, expected in ((name, share), (f"{name}(dropout=0.3)", 0.3)):
        network = build_on_meta(model, make_spec((3, 75, 75), 4))
        dropouts = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
        assert dropouts == [expected]
