from __future__ import annotations

import time

import pytest
import torch
from captum.attr import Occlusion

import striate as st
from striate.inspection.saliency import registry
from striate.inspection.saliency.occlusion import occlusion
from tests.inspection.saliency.references import TARGETS, inputs, small


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 3), (3, 1), (12, 1)])
def test_it_agrees_with_captum(window: int, stride: int) -> None:
    network, pictures = small(), inputs()
    theirs = Occlusion(network).attribute(
        pictures, sliding_window_shapes=(2, window, window), strides=(2, stride, stride), target=TARGETS, baselines=0
    )
    maps = occlusion(network, pictures, TARGETS, window=window, stride=stride)
    torch.testing.assert_close(maps, theirs[:, 0].double(), rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    network, picture = small(), inputs(1)
    total, times = torch.zeros(12, 12, dtype=torch.float64), torch.zeros(12, 12, dtype=torch.float64)
    with torch.no_grad():
        for top in range(0, 12, 3):
            for left in range(0, 12, 3):
                covered = picture.clone()
                covered[:, :, top : top + 4, left : left + 4] = 0
                loss = (network(picture) - network(covered))[0, 2]
                total[top : top + 4, left : left + 4] += loss
                times[top : top + 4, left : left + 4] += 1
    found = occlusion(network, picture, torch.tensor([2]), window=4, stride=3)
    torch.testing.assert_close(found[0], total / times)


def test_the_work_is_done_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    network, pictures = small(), inputs()
    whole = occlusion(network, pictures, TARGETS)
    largest = 0

    def watch(_: object, given: tuple[torch.Tensor]) -> None:
        nonlocal largest
        largest = max(largest, len(given[0]))

    monkeypatch.setattr(registry, "NUMBERS_AT_ONCE", 4 * 288)
    handle = network.register_forward_pre_hook(watch)
    torch.testing.assert_close(occlusion(network, pictures, TARGETS), whole)
    handle.remove()
    assert largest == 4


@pytest.mark.slow
def test_a_photograph_takes_no_more_than_ten_seconds() -> None:
    network = st.build("resnet18", st.Spec.of((3, 96, 96), 10)).eval()
    picture = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    occlusion(network, picture, torch.tensor([0]))
    assert time.perf_counter() - start < 10
