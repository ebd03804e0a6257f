from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data import resample as resample_module
from striate.data.resample import resample

FILTERS = ("bilinear", "bicubic")


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 90), st.integers(1, 90), st.integers(1, 40),
    st.integers(2, 40), st.sampled_from(FILTERS),
)  # fmt: skip
def test_it_is_what_pytorch_interpolates(batch, channels, height, width, wanted_height, wanted_width, filter):
    source = pictures(batch, channels, height, width)
    theirs = F.interpolate(source.float(), (wanted_height, wanted_width), mode=filter, antialias=True)
    ours = resample(source, (wanted_height, wanted_width), filter)
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 2e-3  # theirs places the filter in float32, ours in float64


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (0, 2, 1), (2, 1, 0)], ids=str)
def test_a_picture_is_the_same_alone_and_in_a_batch_in_any_order_of_memory(filter, channels, order):
    batch = pictures(5, channels, 200, 260)
    together = resample(batch, (70, 61), filter)
    for number, picture in enumerate(batch):
        back = [order.index(dimension) for dimension in range(3)]
        alone = resample(picture.permute(order).contiguous().permute(back)[None], (70, 61), filter)
        assert torch.equal(alone[0], together[number])


@pytest.mark.parametrize("filter", FILTERS)
def test_an_exported_graph_resizes_alike(filter):
    class Resize(torch.nn.Module):
        def forward(self, source: torch.Tensor) -> torch.Tensor:
            return resample(source, (9, 1), filter)

    source = pictures(2, 3, 20, 30)
    exported = torch.export.export(Resize(), (source,)).module()(source)
    assert float((exported - resample(source, (9, 1), filter)).abs().max()) < 2e-3


def test_no_pictures_are_resized_to_none():
    assert resample(pictures(0, 3, 20, 30), (8, 9), "bilinear").shape == (0, 3, 8, 9)


def test_weights_of_one_size_are_made_once():
    resample_module._weights.cache_clear()
    for _ in range(3):
        resample(pictures(2, 1, 30, 30), (10, 10), "bilinear")
    assert resample_module._weights.cache_info().misses == 1


def test_weights_made_while_nothing_is_learned_serve_in_training():
    resample_module._weights.cache_clear()
    source = pictures(1, 1, 30, 20)
    with torch.inference_mode():
        first = resample(source, (10, 10), "bilinear")
    assert torch.equal(resample(source, (10, 10), "bilinear"), first)
