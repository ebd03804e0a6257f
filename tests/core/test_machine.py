from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import nn

from striate.core import machine
from striate.core.machine import Execution


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e15, "3.0 PB")]
)
def test_sizes_in_words(size: float, words: str) -> None:
    assert machine.in_words(size) == words
    assert machine.bytes_in(words) == size


@pytest.mark.parametrize(
    ("words", "size"),
    [("50GB", 50 * 10**9), (" 1.5 mb ", 1_500_000), ("7B", 7), ("12", 12)]
    + [(words, None) for words in ("much", "", "-1GB", "1e3", "3 GiB")],
)
def test_words_that_mean_a_size(words: str, size: int | None) -> None:
    assert machine.bytes_in(words) == size


def test_available_memory_is_what_the_system_has() -> None:
    assert 2**20 < machine.available_memory() < 2**50


def test_keep_buffers_may_be_called_again_and_again() -> None:
    machine.keep_buffers()
    machine.keep_buffers()
    assert torch.ones(2_000_000).sum().item() == 2_000_000


def slow_in(memory_format: str, seconds: float = 0.02) -> object:
    def train_once(network: nn.Module, execution: Execution) -> None:
        torch.rand(3)  # whatever is drawn here must not be missing elsewhere
        network(torch.zeros(1, 1, 4, 4)).sum().backward()
        time.sleep(seconds if execution.memory_format == memory_format or execution.precision == "bf16" else 0)

    return train_once


@pytest.mark.parametrize(("slow", "fast"), [("contiguous", "channels_last"), ("channels_last", "contiguous")])
def test_the_fastest_is_measured_on_a_copy_without_drawing_and_remembered(
    slow: str, fast: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    network = nn.Conv2d(1, 2, 3)
    before = network.weight.clone()
    torch.manual_seed(7)
    expected = torch.rand(4)

    torch.manual_seed(7)
    chosen, seconds = machine.fastest_execution(
        network,
        slow_in(slow),
        precision=None,
        memory_format=None,
        compiled=None,
        steps=10**9,
        key="a",  # type: ignore[arg-type]
    )
    assert chosen == Execution("fp32", fast)  # type: ignore[arg-type]
    assert seconds is not None
    assert 0 < seconds < 0.02
    assert torch.equal(torch.rand(4), expected)
    assert torch.equal(network.weight, before)
    assert network.weight.grad is None

    remembered, again = machine.fastest_execution(
        network,
        slow_in(fast),
        precision=None,
        memory_format=None,
        compiled=None,
        steps=10**9,
        key="a",  # type: ignore[arg-type]
    )
    assert (remembered, again) == (chosen, seconds)


def test_what_the_user_chose_is_not_measured() -> None:
    def fail(network: nn.Module, execution: Execution) -> None:
        raise AssertionError

    chosen = machine.fastest_execution(
        nn.Linear(1, 1), fail, precision="bf16", memory_format="contiguous", compiled=None, steps=9, key="b"
    )
    assert chosen == (Execution("bf16", "contiguous"), None)


def test_channels_last_reaches_the_weights_and_the_pictures() -> None:
    execution = Execution("fp32", "channels_last")
    network = execution.place(nn.Conv2d(3, 4, 3))
    images = execution.arrange(torch.zeros(2, 3, 8, 8))
    assert network.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator, union-attr]
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("limit", "free"), [("3000", 1600), ("max", None)])
def test_files_kept_in_memory_are_free_for_a_container(
    limit: str, free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    without = machine.available_system_memory()
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("2500\n")
    (tmp_path / "memory.stat").write_text("anon 1200\nfile 1300\ninactive_file 900\nactive_file 200\n")
    if free is None:
        assert machine.available_system_memory() > without / 2
    else:
        assert machine.available_system_memory() == free
