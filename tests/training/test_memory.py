from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.core import machine
from striate.core.errors import RecipeError, TrainingError
from striate.training.memory import LiveBytes, Need, memory_explained


def test_counts_what_autograd_keeps_and_nothing_for_what_is_done_in_place() -> None:
    layer, pictures = nn.Conv2d(1, 4, 3), torch.zeros(2, 1, 10, 10)
    with LiveBytes([*layer.parameters(), pictures]) as live:
        output = torch.relu_(layer(pictures))
        assert live.now == 4 * 2 * 4 * 8 * 8
        doubled = output * 2
        assert live.now == 2 * 4 * 2 * 4 * 8 * 8
        del doubled
        assert live.now == 4 * 2 * 4 * 8 * 8


def test_the_largest_batch_is_the_last_that_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(weights=10**6, picture=10**5)
    monkeypatch.setattr(machine, "available_memory", lambda: 10**9)
    most = need.largest(10**9)
    need.check(most)
    with pytest.raises(RecipeError, match=rf"at most about {most}, got {most + 1}, .*: try --batch-size {most}\."):
        need.check(most + 1)


def test_a_batch_that_does_not_fit_is_refused_before_the_start(
    image_set: st.ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = st.build("conv 8@3x3 pad 1 relu | fc 3", image_set.spec)
    monkeypatch.setattr(machine, "available_memory", lambda: 20_100_000)
    with pytest.raises(RecipeError, match=r"batch_size must be one that fits in memory, at most about [1-9]"):
        st.fit(network, image_set, batch_size=96, progress=False)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_is_explained(error: Exception) -> None:
    with (
        pytest.raises(
            TrainingError, match=r"Memory ran out\. batch_size must be one that fits in memory, at most about 32"
        ),
        memory_explained(Need(1, 1.0), 64),
    ):
        raise error
    with pytest.raises(RuntimeError, match="shapes"), memory_explained(Need(1, 1.0), 64):
        raise RuntimeError("shapes")
