"""The machine: device, precision, memory format, threads, memory. The one place that knows hardware."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from striate.core import files, processes, small_maps
from striate.core.copying import copy_of
from striate.core.errors import FileError, RecipeError

Precision = Literal["fp32", "bf16"]
MemoryFormat = Literal["contiguous", "channels_last"]
DeviceKind = Literal["cpu", "cuda"]

_CGROUP = Path("/sys/fs/cgroup")
_UNITS = {"": 1, "b": 1, "bytes": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "pb": 10**15}

# A run that takes less does not gain what compiling takes, let alone measuring it: 16 to 28 s for a ResNet-18.
_LEAST_SECONDS_TO_COMPILE = 60.0

_MEASURED_AS = 2  # of how a network is run: what was measured of it otherwise is forgotten

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@dataclass(frozen=True)
class Execution:
    """How a network is run here: what was measured to be fastest, or what was asked for."""

    precision: Precision = "fp32"
    memory_format: MemoryFormat = "contiguous"
    compiled: bool = False

    def place(self, network: nn.Module) -> nn.Module:
        """Move the network's tensors into this memory format and onto the device, in place."""
        network.to(device())
        if any(tensor.dim() == 4 for tensor in network.parameters()):
            network.to(memory_format=self._torch_format())  # type: ignore[call-overload]
        return network

    def arrange(self, images: torch.Tensor, where: torch.device | None = None) -> torch.Tensor:
        """Return the batch on a device, that which is in use where none is named, in this memory format."""
        images = images.to(where or device(), non_blocking=True)
        return images.contiguous(memory_format=self._torch_format()) if images.dim() == 4 else images

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which the forward pass runs."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(device().type, dtype=torch.bfloat16)

    def forward(self, network: nn.Module, images: torch.Tensor) -> Any:
        """Return what the network answers in training, in this precision; compiled, where so. Evaluation never is.

        Raises:
            RecipeError: it cannot be compiled here.
        """
        with self.autocast():
            if not self.compiled:
                with self._small_maps(network):
                    return network(images)
            try:
                return _compiled(network)(images)
            except Exception as error:
                if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise
                why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise RecipeError(f"The network cannot be compiled here: {why} Leave out --compile.") from error

    def _small_maps(self, network: nn.Module) -> contextlib.AbstractContextManager[object]:
        return small_maps.written_out(network) if device().type == "cpu" else contextlib.nullcontext()

    def _torch_format(self) -> torch.memory_format:
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format


@functools.lru_cache(maxsize=1)  # the network in training; one that is gone is not kept for long
def _compiled(network: nn.Module) -> Callable[[torch.Tensor], Any]:
    # Each size of pictures by itself: what is dynamic depends on which sizes came before, and a resumed run has others.
    compiled: Callable[[torch.Tensor], Any] = torch.compile(network, dynamic=False)
    return compiled


_kind: DeviceKind | None = None  # that was asked for


def use_device(kind: DeviceKind | None) -> None:
    """Run on this kind of device from now on; None for the accelerator where there is one, else the CPU.

    Raises:
        RecipeError: a GPU is asked for, and none can be used.
    """
    global _kind
    if kind == "cuda" and not torch.cuda.is_available():
        why = "PyTorch finds none that works" if torch.version.cuda else "this PyTorch is built for the processor alone"
        raise RecipeError(f"device cuda needs a CUDA GPU, and {why}. Take --device cpu to train on the processor.")
    _kind = kind
    device.cache_clear()


@functools.cache
def device() -> torch.device:
    """Return the device that `use_device` was told, else the accelerator where there is one, else the CPU.

    Raises:
        RecipeError: there are more processes on this machine than GPUs.
    """
    if _kind == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if processes.world() == 1:
        return torch.device("cuda", torch.cuda.current_device())
    number, gpus = processes.local_rank(), torch.cuda.device_count()
    if number >= gpus:
        raise RecipeError(
            f"Each process must have a GPU of its own, and the {gpus} here are too few for {number + 1} of them. "
            f"Take --nproc-per-node {gpus}, or --device cpu."
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


@functools.cache
def keep_buffers() -> None:
    """Tell the C library not to give large buffers back to the system after every use.

    A training step frees and allocates the same large activations again and again; by default glibc maps them anew
    each time and the kernel clears every page again. Keeping them makes training up to 1.7 times as fast, for 5 to 50 %
    more resident memory. Does nothing where the C library is not glibc, or the user has chosen otherwise.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return
    if any(name.startswith("MALLOC_") for name in os.environ) or "jemalloc" in os.environ.get("LD_PRELOAD", ""):
        return
    libc = ctypes.CDLL(None)
    largest = 2**31 - 1
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, largest)
    libc.mallopt(_M_TOP_PAD, 64 * 2**20)


def seed_draws(seed: int) -> None:
    """Seed PyTorch's global generators, of the CPU and of the device in use.

    ``torch.manual_seed`` does the same for every kind of device that there might be, and takes a hundred times as
    long: 0.2 ms, which is 1 % of a step of a small network.
    """
    torch.default_generator.manual_seed(seed)
    if device().type == "cuda":
        torch.cuda.manual_seed(seed)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let PyTorch compute with so many threads for a while; None for as many as it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keeping_draws() -> contextlib.AbstractContextManager[object]:
    """Return a context after which PyTorch's global generators, of the CPU and of the device in use, are as before.

    Without names ``torch.random.fork_rng`` asks every GPU of the machine, takes memory on each of them, and warns.
    """
    return torch.random.fork_rng([device()] if device().type == "cuda" else [])


def synchronise() -> None:
    """Wait until the device has done what it was told: a GPU is only asked to, and what it takes is measured later."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def available_memory() -> int:
    """Return the bytes that a network can take: of the accelerator, else of this process's part of the system's."""
    if device().type == "cuda":
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # by PyTorch, for what comes next
        return int(torch.cuda.mem_get_info()[0]) + kept
    return available_system_memory() // processes.on_this_machine()


def available_system_memory() -> int:
    """Return the bytes that pictures can take, within what a container may use."""
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024, _cgroup_limit())
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _cgroup_limit() -> int:
    """Return what a container may still take, or a number larger than any machine.

    Files that the kernel keeps in memory count as used there, but it gives them up when memory is asked for.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        limit, used, stat = ((_CGROUP / f"memory.{name}").read_text("ascii") for name in ("max", "current", "stat"))
        bytes_of = dict(line.split() for line in stat.splitlines())
        return int(limit) - int(used) + int(bytes_of["active_file"]) + int(bytes_of["inactive_file"])
    return sys.maxsize


def in_words(size_bytes: float) -> str:
    """Return a size as people say it: ``"1.5 GB"``."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if size_bytes < 1000 or unit == "PB":
            return f"{size_bytes:.0f} {unit}" if size_bytes >= 100 or unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError


def bytes_in(words: str) -> int | None:
    """Return the bytes of a size as people say it, such as ``"500MB"`` or ``"1.5 GB"``; None where it is none."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([a-z]*)", words.strip().lower())
    if found is None or found[2] not in _UNITS:
        return None
    return round(float(found[1]) * _UNITS[found[2]])


def describe() -> dict[str, str | int]:
    """Return what a measurement must say about where it was taken."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability() + ", bf16" * _has_bf16(),
        "device": torch.cuda.get_device_name() if device().type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }


@functools.cache
def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def fastest_execution(
    network: nn.Module,
    train_once: Callable[[nn.Module, Execution], None],
    *,
    precision: Precision | None,
    memory_format: MemoryFormat | None,
    compiled: bool | None,
    steps: int,
    budget: float | None = None,
    key: str,
) -> tuple[Execution, float | None]:
    """Measure which precision and memory format train this network fastest here, and remember it.

    Args:
        network: left untouched; a copy is trained.
        train_once: one forward and backward pass of the network it is given, on one batch.
        precision, memory_format: what the user chose; ``None`` leaves it to the measurement.
        compiled: the same; ``None`` is False on the CPU, where it was measured to gain nothing, and elsewhere measured
            where the run is long enough that it may pay.
        steps: of the run.
        budget: its seconds, where these say how many steps it has.
        key: what else the answer depends on (network, shapes, batch size).

    Returns:
        The execution, and the seconds of one pass; None where nothing was left to measure.

    Consumes no randomness. The answer is kept in the cache folder per machine, versions and key.
    """
    if compiled is None and device().type == "cpu":
        compiled = False
    if precision is not None and memory_format is not None and compiled is not None:
        return Execution(precision, memory_format, compiled), None
    with _remembered(f"{_MEASURED_AS} {key} {precision} {memory_format} {json.dumps(describe())}") as known:
        if not {"precision", "memory_format", "seconds"} <= set(known):
            best, seconds = _fastest_uncompiled(network, train_once, precision, memory_format)
            known |= {"precision": best.precision, "memory_format": best.memory_format, "seconds": seconds}
        chosen = Execution(known["precision"], known["memory_format"], bool(compiled))
        steps = steps if budget is None else int(budget / known["seconds"])
        if compiled is None and _compiling_pays(network, train_once, chosen, known, steps):
            return replace(chosen, compiled=True), known["compiled_seconds"]
        return chosen, known["seconds"]


def _fastest_uncompiled(
    network: nn.Module,
    train_once: Callable[[nn.Module, Execution], None],
    precision: Precision | None,
    memory_format: MemoryFormat | None,
) -> tuple[Execution, float]:
    formats: list[MemoryFormat] = [memory_format] if memory_format else ["channels_last", "contiguous"]
    seconds = {
        choice: _seconds_of(choice, network, train_once)
        for choice in (Execution(precision or "fp32", choice) for choice in formats)
    }
    best = min(seconds, key=seconds.__getitem__)
    if precision is None and _computes_in_bf16():
        half = Execution("bf16", best.memory_format)
        with contextlib.suppress(RuntimeError, TypeError):  # what does not run in bf16 is not run in it
            seconds[half] = _seconds_of(half, network, train_once)
        best = min(seconds, key=seconds.__getitem__)
    return best, seconds[best]


def _compiling_pays(
    network: nn.Module,
    train_once: Callable[[nn.Module, Execution], None],
    uncompiled: Execution,
    known: dict[str, Any],
    steps: int,
) -> bool:
    """Return whether compiling takes less than it saves over these steps; what is measured is added to ``known``."""
    if steps * known["seconds"] < _LEAST_SECONDS_TO_COMPILE:
        return False
    if not {"compiled_seconds", "compiling_seconds"} <= set(known):
        start, seconds = time.perf_counter(), math.inf
        try:
            seconds = _seconds_of(replace(uncompiled, compiled=True), network, train_once)
        except RecipeError:  # what cannot be compiled never pays
            pass
        except Exception:  # such as memory that ran out: it may be otherwise another time
            return False
        finally:
            _compiled.cache_clear()  # it holds the copy that was measured
        known |= {"compiled_seconds": seconds, "compiling_seconds": time.perf_counter() - start}
    return bool(known["compiling_seconds"] + steps * known["compiled_seconds"] < steps * known["seconds"])


def _computes_in_bf16() -> bool:
    """Return False where bf16 could only be emulated: measuring that takes longer than training a small network."""
    if device().type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return True
    return _has_bf16()


def _has_bf16() -> bool:
    """Return whether the processor, of the x86 family, has instructions for bf16."""
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def _seconds_of(execution: Execution, network: nn.Module, train_once: Callable[[nn.Module, Execution], None]) -> float:
    with keeping_draws():
        trial = execution.place(copy_of(network)).train()
        _seconds(train_once, trial, execution)  # the first pass also plans and allocates
        return min(_seconds(train_once, trial, execution) for _ in range(2))


def _seconds(train_once: Callable[[nn.Module, Execution], None], network: nn.Module, execution: Execution) -> float:
    start = time.perf_counter()
    train_once(network, execution)
    synchronise()
    return time.perf_counter() - start


@contextlib.contextmanager
def _remembered(key: str) -> Iterator[dict[str, Any]]:
    """Yield what the cache knows under ``key``; what is added to it is kept. A cache that cannot be used is ignored."""
    path = None
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, FileError):
        path = files.cache_folder() / "measured" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
        read = json.loads(path.read_text(encoding="utf-8"))
        known = read if isinstance(read, dict) else {}
    before = dict(known)
    yield known
    if path is not None and known != before:
        with contextlib.suppress(OSError, FileError):
            files.write_text(path, json.dumps(known))
