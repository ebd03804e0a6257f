from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.zoo.bninception import HalvingPool
from tests.networks.zoo.test_blocks import stage_shapes
from tests.networks.zoo.test_zoo import make_spec


def test_every_stage_has_the_size_of_the_table() -> None:
    assert stage_shapes("bninception", 224, 224) == {
        "conv1": (64, 112, 112),
        "pool1": (64, 56, 56),
        "conv2": (192, 56, 56),
        "pool2": (192, 28, 28),
        "inception3a": (256, 28, 28),
        "inception3b": (320, 28, 28),
        "inception3c": (576, 14, 14),
        "inception4a": (576, 14, 14),
        "inception4b": (576, 14, 14),
        "inception4c": (608, 14, 14),
        "inception4d": (608, 14, 14),
        "inception4e": (1056, 7, 7),
        "inception5a": (1024, 7, 7),
        "inception5b": (1024, 7, 7),
        "avgpool": (1024, 1, 1),
        "head": (1000,),
    }


def test_only_the_last_block_pools_by_the_largest() -> None:
    network = build_on_meta("bninception", make_spec((3, 224, 224), 10))
    pools = {
        name: type(network.get_submodule(f"{name}.branch4.0"))
        for name in network.stages  # type: ignore[union-attr]
        if name.startswith("inception") and name[-2:] not in ("3c", "4e")
    }
    assert pools.pop("inception5b") is nn.MaxPool2d
    assert set(pools.values()) == {nn.AvgPool2d}
    assert len(pools) == 7


@pytest.mark.parametrize("height", range(1, 10))
@pytest.mark.parametrize("width", [6, 7])
def test_the_halving_pool_has_the_size_of_the_halving_convolution(height: int, width: int) -> None:
    maps = torch.randn(2, 3, height, width)
    pooled = HalvingPool()(maps)
    assert pooled.shape == nn.Conv2d(3, 3, 3, 2, padding=1)(maps).shape
    for row in range(pooled.shape[2]):
        for column in range(pooled.shape[3]):
            top, left = 2 * row - height % 2, 2 * column - width % 2
            window = maps[:, :, max(top, 0) : top + 3, max(left, 0) : left + 3]
            assert torch.equal(pooled[:, :, row, column], window.amax((2, 3)))


def test_even_maps_are_pooled_as_the_donor_does() -> None:
    maps = torch.randn(2, 3, 28, 14)
    assert torch.equal(HalvingPool()(maps), F.max_pool2d(maps, 3, 2, ceil_mode=True))


def test_the_smallest_picture_trains_and_a_smaller_one_is_refused() -> None:
    network = st.build("bninception", make_spec((2, 7, 9), 4))
    assert network.train()(torch.randn(4, 2, 7, 9)).shape == (4, 4)
    with pytest.raises(st.NetworkError, match=r"^bninception needs pictures of at least 7×7, got 6×7\. Enlarge"):
        st.build("bninception", make_spec((3, 6, 7), 4))
