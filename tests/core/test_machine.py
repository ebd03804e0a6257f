from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from striate.core import machine
from striate.core.errors import RecipeError
from striate.core.machine import Execution
from striate.data.imageset import ImageSet
from striate.training.fit import fit

TrainOnce = Callable[[nn.Module, Execution], None]


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


def slow_in(memory_format: str, seconds: float = 0.02) -> TrainOnce:
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
        key="a",
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
        key="a",
    )
    assert (remembered, again) == (chosen, seconds)


def test_what_does_not_run_in_bf16_is_not_run_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "_computes_in_bf16", lambda: True)

    def train_once(network: nn.Module, execution: Execution) -> None:
        if execution.precision == "bf16":
            raise RuntimeError("Index put requires the source and destination dtypes match")

    open_to_choose = {"precision": None, "memory_format": "contiguous", "compiled": None}
    chosen, _ = machine.fastest_execution(nn.Linear(1, 1), train_once, **open_to_choose, steps=9, key="c")  # type: ignore[arg-type]
    assert chosen == Execution("fp32", "contiguous")


def test_what_pytorch_keeps_of_a_gpu_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "device", lambda: torch.device("cuda"))
    for name, value in (("mem_get_info", (10, 100)), ("memory_reserved", 60), ("memory_allocated", 5)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert machine.available_memory() == 65


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


@pytest.fixture
def usual_device() -> Iterator[None]:
    yield
    machine.use_device(None)


def test_the_cpu_can_be_asked_for(usual_device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)  # which is asked once: it may change, by thread
    machine.use_device(None)
    assert machine.device() == torch.device("cuda", 1)
    machine.use_device("cpu")
    assert machine.device() == torch.device("cpu")
    machine.use_device("cuda")
    assert machine.device() == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("version", "why"),
    [(None, "this PyTorch is built for the processor alone"), ("13.0", "PyTorch finds none that works")],
)
def test_a_gpu_that_is_not_there_is_refused(version: str | None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", version)
    before = machine.device()
    with pytest.raises(RecipeError) as error:
        machine.use_device("cuda")
    assert str(error.value) == (
        f"device cuda needs a CUDA GPU, and {why}. Take --device cpu to train on the processor."
    )
    assert machine.device() == before


def compiling(compiling_seconds: float, compiled_seconds: float, passes: list[Execution]) -> TrainOnce:
    """A pass that takes what it is said to, on a clock that nobody waits for."""

    def train_once(network: nn.Module, execution: Execution) -> None:
        first = execution.compiled and execution not in passes
        passes.append(execution)
        clock[0] += (compiling_seconds if first else compiled_seconds) if execution.compiled else 1.0

    return train_once


clock = [0.0]


@pytest.mark.parametrize(
    ("steps", "pays", "measured"),
    [(59, False, False), (60, False, True), (100, False, True), (101, True, True), (1000, True, True)],
)
def test_compiling_pays_when_the_run_is_long_enough(
    steps: int, pays: bool, measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.time, "perf_counter", lambda: clock[0])
    passes: list[Execution] = []
    known = {"seconds": 1.0}
    for _ in range(2):  # the second time it is known: 49 s of compiling and of two passes at half a second each
        train_once = compiling(49.0, 0.5, passes)
        found = machine._compiling_pays(nn.Linear(1, 1), train_once, Execution(), known, steps)
        assert found == pays
    assert passes == [Execution(compiled=True)] * (3 if measured else 0)
    assert known.get("compiled_seconds") == (0.5 if measured else None)


@pytest.mark.parametrize(
    ("error", "known_now"),
    [
        (RecipeError("The network cannot be compiled here."), True),
        (RuntimeError("CUDA out of memory."), False),  # which may be otherwise another time
    ],
)
def test_what_cannot_be_compiled_never_pays(error: Exception, known_now: bool) -> None:
    def refuse(network: nn.Module, execution: Execution) -> None:
        raise error

    known = {"seconds": 1.0}
    assert not machine._compiling_pays(nn.Linear(1, 1), refuse, Execution(), known, 10**9)
    assert known.get("compiled_seconds") == (math.inf if known_now else None)


def test_a_budget_says_whether_compiling_may_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def pays(network: nn.Module, train_once: TrainOnce, chosen: Execution, known: dict[str, float], steps: int) -> bool:
        asked.append(steps)
        return False

    monkeypatch.setattr(machine, "device", lambda: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(machine, "describe", dict)
    monkeypatch.setattr(machine, "_seconds_of", lambda *of: 0.5)
    monkeypatch.setattr(machine, "_compiling_pays", pays)
    for budget in (None, 60.0):
        machine.fastest_execution(
            nn.Conv2d(1, 2, 3), slow_in("contiguous", 0.0), precision="fp32", memory_format="contiguous",
            compiled=None, steps=10**9, budget=budget, key="by budget",
        )  # fmt: skip
    assert asked == [10**9, 120]


def test_on_the_cpu_nothing_is_compiled_unless_asked_for(usual_device: None) -> None:
    machine.use_device("cpu")

    def choose(compiled: bool | None) -> Execution:
        train_once = slow_in("contiguous", 0.0)
        return machine.fastest_execution(
            nn.Conv2d(1, 2, 3),
            train_once,
            precision="fp32",
            memory_format="contiguous",
            compiled=compiled,
            steps=10**9,
            key="c",
        )[0]

    assert choose(None) == choose(False) == Execution("fp32", "contiguous", compiled=False)
    assert choose(True) == Execution("fp32", "contiguous", compiled=True)


def test_a_network_that_cannot_be_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCompilerError(RuntimeError):
        __module__ = "torch._inductor.exc"

    def fail(images: torch.Tensor) -> torch.Tensor:
        raise NoCompilerError("\nNo working C++ compiler found.\nmore")

    monkeypatch.setattr(torch, "compile", lambda network, **options: fail)
    message = r"^The network cannot be compiled here: No working C\+\+ compiler found\. Leave out --compile\.$"
    with pytest.raises(RecipeError, match=message):
        Execution(compiled=True).forward(nn.Linear(1, 1), torch.zeros(1, 1))


def test_an_error_of_the_network_stays_its_own_when_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Execution(compiled=True).forward(nn.Linear(2, 1), torch.zeros(1, 3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler uses what PyTorch has deprecated
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_answers_and_gradients_are_those_of_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))
    images = torch.rand(5, 1, 4, 4)
    found = []
    for compiled in (False, True):
        network.zero_grad()
        answer = Execution(compiled=compiled).forward(network, images)
        answer.square().sum().backward()
        found.append([answer.detach(), *(one.grad.clone() for one in network.parameters() if one.grad is not None)])
    torch.testing.assert_close(found[0], found[1])
    assert not isinstance(network, torch._dynamo.OptimizedModule)


@pytest.mark.parametrize("asked", [True, False])
def test_a_run_keeps_buffers_unless_told_not_to(
    asked: bool, image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []
    monkeypatch.setattr(machine, "keep_buffers", lambda: calls.append(None))
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(image_set.spec.task.classes))
    network(torch.zeros(1, *image_set.spec.input.shape))
    fit(network, image_set, folder=tmp_path / "run", epochs=1, keep_buffers=asked, progress=False, doctor=False)
    assert len(calls) == asked


def test_a_run_on_a_gpu_that_is_not_there_writes_nothing(
    image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match=r"^device cuda needs a CUDA GPU, and "):
        fit(nn.Flatten(), image_set, folder=tmp_path / "run", device="cuda", progress=False)
    assert not (tmp_path / "run").exists()


def test_draws_are_kept_without_asking_gpus_that_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_rng_state", asked.append)
    drawn = torch.get_rng_state()
    with machine.keeping_draws():
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert asked == []


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_system_memory", lambda: 1_000)
    monkeypatch.setattr(machine.processes, "several", lambda: True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert machine.available_memory() == 250
    monkeypatch.setattr(machine.processes, "several", lambda: False)
    assert machine.available_memory() == 1_000
