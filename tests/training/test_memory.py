from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import striate as st
from striate.core import machine, processes
from striate.core.errors import RecipeError, TrainingError
from striate.training.memory import (
    CODE,
    KERNELS,
    PER_FIXED_BYTE,
    PER_PICTURE_BYTE,
    LiveBytes,
    Moment,
    Need,
    memory_explained,
    moments_between,
)
from striate.training.rehearsal import rehearse


def test_counts_what_autograd_keeps_and_nothing_for_what_is_done_in_place() -> None:
    layer, pictures = nn.Conv2d(1, 4, 3), torch.zeros(2, 1, 10, 10)
    with LiveBytes() as live:
        output = torch.relu_(layer(pictures))
        assert live.now == 4 * 2 * 4 * 8 * 8
        doubled = output * 2
        assert live.now == 2 * 4 * 2 * 4 * 8 * 8
        del doubled
        assert live.now == 4 * 2 * 4 * 8 * 8
        forward = max(live.take_moments())
        output.sum().backward()
        del output
        weights = sum(one.nbytes for one in layer.parameters())
        assert live.now == weights  # their gradients
        assert forward <= max(live.take_moments())


def test_every_moment_of_a_step_grows_with_the_batch_as_measured_at_a_third_one() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(256, 3)
    )
    taken = {}
    with LiveBytes() as live:
        for count in (2, 3, 17):
            live.take_moments()
            network(torch.zeros(count, 1, 10, 10)).sum().backward()
            network.zero_grad(set_to_none=True)
            taken[count] = live.take_moments()
    moments = moments_between(taken[2], taken[3], 2)
    assert [one.fixed + 17 * one.picture for one in moments] == taken[17]


def test_of_a_network_that_does_not_always_do_the_same_the_peaks_are_compared() -> None:
    assert moments_between([1, 50, 20], [1, 60], 2) == [Moment(30, 10)]


def test_a_step_is_rehearsed_operation_by_operation() -> None:
    """What is kept from one step to the next would make the second another one, of which only the peak is known."""
    pictures, labels = torch.zeros(9, 1, 13, 11, dtype=torch.uint8), torch.arange(9) % 3
    images = st.load_data({"train": (pictures, labels), "val": (pictures, labels)})  # a Spec of its own
    need = rehearse(st.build("conv 4@3x3 relu | gap | fc 3", images.spec), images, st.Recipe())
    assert len(need.moments) > 20
    assert max(one.picture for one in need.moments) >= 4 * 4 * 13 * 11  # the maps, float32


def test_the_largest_batch_is_the_last_that_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(10**6, [Moment(4 * 10**6, 10**4), Moment(0, 10**5)])
    monkeypatch.setattr(machine, "available_memory", lambda: 10**9)
    most = need.largest(10**9)
    need.check(most)
    advised = int(0.95 * most)
    with pytest.raises(
        RecipeError, match=rf"at most about {advised}, got {most + 1}, .*: try --batch-size {advised}\."
    ):
        need.check(most + 1)
    assert need.bytes(most) <= 10**9 + CODE + PER_FIXED_BYTE * need.weights < need.bytes(most + 1)


def test_weights_that_do_not_fit_leave_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(10**8, [Moment(6 * 10**8, 1.0), Moment(0, 10**5)])
    monkeypatch.setattr(machine, "available_memory", lambda: 5 * 10**8)
    with pytest.raises(RecipeError, match=r"at most about 0, got 1, .*: try smaller pictures"):
        need.check(1)


def test_the_batch_that_is_advised_is_accepted_with_a_little_less_memory(
    image_set: st.ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = st.build("conv 8@3x3 pad 1 relu | fc 3", image_set.spec)
    need = rehearse(network, image_set, st.Recipe(batch_size=8))
    free = KERNELS + max(one.bytes(40) for one in need.moments)
    monkeypatch.setattr(machine, "available_memory", lambda: int(free))
    with pytest.raises(RecipeError, match="batch_size must be one that fits in memory, at most about") as refused:
        st.fit(network, image_set, batch_size=80, progress=False)
    assert not Path("runs").exists()
    advised = re.search(r"try --batch-size (\d+)", str(refused.value))
    assert advised is not None
    assert 32 <= int(advised[1]) <= 40
    monkeypatch.setattr(machine, "available_memory", lambda: int(free - 2_000))
    assert st.fit(network, image_set, batch_size=int(advised[1]), epochs=1, progress=False).finished


def test_optimiser_average_and_val_count(image_set: st.ImageSet) -> None:
    network = st.build("fc 400 relu | fc 3", image_set.spec)
    weights = sum(one.nbytes for one in network.state_dict().values())
    plain = st.Recipe(batch_size=8, optimizer="sgd", momentum=0)
    sgd = rehearse(network, image_set, plain).bytes(1)
    for changes, copies in (({"momentum": 0.9}, 1), ({"optimizer": "adamw"}, 2), ({"average": "ema"}, 1)):
        more = rehearse(network, image_set, plain.changed(**changes)).bytes(1) - sgd
        assert more == pytest.approx(PER_FIXED_BYTE * copies * weights, rel=0.05)
    wide = st.build("conv 64@3x3 pad 1 relu | gap | fc 3", image_set.spec)
    looks = rehearse(wide, image_set, plain).bytes(1)  # at all of val together
    assert looks > PER_FIXED_BYTE * len(image_set.val) * 4 * 64 * 8 * 8
    assert rehearse(wide, image_set, plain.changed(learn_from="train+val")).bytes(1) < looks


CHILD = """
import sys
import numpy as np
import torch
import striate as st

def resident(which):
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))

draw = np.random.default_rng(0)
splits = {
    split: (draw.integers(0, 256, (count, 32, 32, 3), np.uint8), np.arange(count) % 4)
    for split, count in (("train", 128), ("val", 32), ("test", 8))
}
images = st.load_data(splits)
before = resident("VmRSS")
network = st.build(sys.argv[1], images.spec)
run = st.fit(network, images, batch_size=64, epochs=1, progress=False, doctor=False)
print(run.expected_bytes / (resident("VmHWM") - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("model", ["speednet_small", "resnet20_cifar10"])
def test_what_is_foretold_is_within_a_quarter_of_what_a_process_grows_by(model: str) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, model], capture_output=True, text=True, check=True)
    assert 0.75 <= float(done.stdout) <= 1.25


def test_on_a_gpu_tensors_count_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(10**9, [Moment(10**9, 10**6)])
    assert need.largest(5e9) == int((5e9 - KERNELS - PER_FIXED_BYTE * 1e9) / (PER_PICTURE_BYTE * 1e6))
    monkeypatch.setattr(machine, "device", lambda: torch.device("cuda"))
    assert need.largest(5e9) == int((5e9 - KERNELS - 1e9) / 1e6)
    assert need.bytes(100) == CODE + KERNELS + 2.1e9


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_memory_that_runs_out_is_explained(error: Exception) -> None:
    with (
        pytest.raises(
            TrainingError, match=r"Memory ran out\. batch_size must be one that fits in memory, at most about 32"
        ),
        memory_explained(Need(1, [Moment(0.0, 1.0)]), 64),
    ):
        raise error
    with pytest.raises(RuntimeError, match="shapes"), memory_explained(Need(1, [Moment(0.0, 1.0)]), 64):
        raise RuntimeError("shapes")


def test_several_processes_are_told_of_the_batch_that_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(10**6, [Moment(0, 10**5)])
    monkeypatch.setattr(machine, "available_memory", lambda: 10**9)
    monkeypatch.setattr(processes, "world", lambda: 4)
    most = need.largest(10**9)
    need.check(4 * most)
    advised = 4 * int(0.95 * most)
    with pytest.raises(
        RecipeError, match=rf"about {advised}, got {4 * most + 1}, .* in each process: try --batch-size {advised}"
    ):
        need.check(4 * most + 1)
