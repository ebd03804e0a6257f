from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from striate.core import processes
from striate.core.errors import RecipeError
from striate.networks.layers.sync_norm import synchronised

ROWS = 7  # of a batch, which 2 or 3 processes cannot divide evenly


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5)
    return nn.Sequential(*layers, nn.BatchNorm1d(5, affine=False, momentum=None)).double()


def images() -> torch.Tensor:
    return torch.randn(ROWS, 2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 50


def gradients(module: nn.Module, rows: slice) -> list[torch.Tensor]:
    """Return the gradients of two passes over some rows, as parts of those of the whole batch."""
    for _ in range(2):
        answers = module(images()[rows])
        ((answers**3).mean() * len(answers) / ROWS).backward()
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def play() -> None:
    """What each of several processes does: it tells the test what it saw."""
    rank, world = processes.rank(), processes.world()
    seen: dict[str, object] = {"rank": rank, "first": processes.first()}
    with processes.first_of_machine_first():
        filled = Path("filled")
        seen["came_after"] = filled.exists()
        filled.touch()
    print("spoken by", rank)
    seen["sum"] = processes.add_up(torch.tensor([1.0, rank])).tolist()
    seen["side_by_side"] = processes.side_by_side(torch.tensor([rank, -rank])).tolist()
    tensors = [torch.full((2, 3), float(rank)).t(), torch.tensor(rank)]
    processes.spread(tensors, source=world - 1)
    seen["spread"] = [one.tolist() for one in tensors]
    seen["from_first"] = processes.from_first(lambda: {"by": rank, "words": "grün", "nothing": None})
    seen["alone"] = processes.from_first(lambda: [processes.world(), processes.from_first(processes.rank, source=1)])
    seen["from_last"] = processes.from_first(lambda: rank, source=world - 1)
    module = network()
    with synchronised():
        parts = gradients(module, processes.own_rows())
    seen["gradients"] = [processes.add_up(one).tolist() for one in parts]
    seen["statistics"] = [one.tolist() for one in module.buffers()]
    Path(f"{rank}.json").write_text(json.dumps(seen), encoding="utf-8")
    if sys.argv[1] == "all fail" or sys.argv[1] == f"{rank} fails":
        raise RecipeError(f"Refused by {rank}.")
    processes.wait()


def started(folder: Path, world: int, what: str = "none fail", **more: str) -> list[tuple[int, str, str]]:
    """Start this file as several processes, as a cluster does, and return the status, output and errors of each.

    Args:
        more: what the environment says besides, with the rank in the place of ``{rank}``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, __file__, what],
            cwd=folder,
            env=os.environ
            | where
            | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            | {name: value.format(rank=rank) for name, value in more.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    ended = [(process, *process.communicate(timeout=240)) for process in running]
    return [(process.returncode, said, errors) for process, said, errors in ended]


def test_one_process_has_nobody_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.world() == 1
    assert not processes.several()
    assert processes.rank() == processes.local_rank() == 0
    assert processes.first()
    tensor = torch.tensor([1.0, 2.0])
    assert processes.add_up(tensor) is tensor
    assert processes.side_by_side(tensor).tolist() == [[1.0, 2.0]]
    assert list(range(5))[processes.own_rows()] == list(range(5))
    made = object()
    assert processes.from_first(lambda: made) is made
    processes.spread([tensor])
    processes.keep("folder", "runs/1")
    assert processes.kept("folder") is None
    with processes.as_one(), processes.first_of_machine_first():
        processes.wait()
    assert not torch.distributed.is_initialized()


def test_while_others_wait_one_is_alone_but_for_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_started", lambda: 4)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    asked = (processes.world, processes.several, processes.on_this_machine)
    assert [ask() for ask in asked] == [4, True, 2]
    assert json.loads(processes._made_alone(lambda: [ask() for ask in asked])) == [1, True, 2]


def test_processes_that_cannot_find_each_other_are_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    processes._started.cache_clear()
    with pytest.raises(RecipeError, match=r"4 processes \(WORLD_SIZE\) need MASTER_ADDR .* Start them with torchrun"):
        processes.world()
    processes._started.cache_clear()


def test_three_processes_are_one(tmp_path: Path) -> None:
    ended = started(tmp_path, 3)
    assert [status for status, _, _ in ended] == [0, 0, 0], ended
    assert [said for _, said, _ in ended] == ["spoken by 0\n", "", ""]
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    assert [one["rank"] for one in seen] == [0, 1, 2]
    assert [one["first"] for one in seen] == [True, False, False]
    assert [one["came_after"] for one in seen] == [False, True, True]
    module = network()
    expected = [one.tolist() for one in gradients(module, slice(None))]
    for one in seen:
        assert one["sum"] == [3.0, 3.0]
        assert one["side_by_side"] == [[0, 0], [1, -1], [2, -2]]
        assert one["spread"] == [[[2.0, 2.0]] * 3, 2]
        assert one["from_first"] == {"by": 0, "words": "grün", "nothing": None}
        assert one["alone"] == [1, 0]
        assert one["from_last"] == 2
        for ours, whole in zip(one["gradients"], expected, strict=True):
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(whole), rtol=1e-10, atol=1e-10)
        for ours, whole in zip(one["statistics"], module.buffers(), strict=True):
            torch.testing.assert_close(torch.tensor(ours, dtype=whole.dtype), whole, rtol=1e-10, atol=1e-10)


def test_processes_whose_machines_count_restarts_differently_find_each_other(tmp_path: Path) -> None:
    """A torchrun that starts its processes anew for another machine's sake does not count that."""
    ended = started(tmp_path, 2, TORCHELASTIC_RESTART_COUNT="{rank}")
    assert [status for status, _, _ in ended] == [0, 0], ended


@pytest.mark.parametrize(("what", "speaker"), [("all fail", 0), ("1 fails", 1)])
def test_an_error_is_said_once(tmp_path: Path, what: str, speaker: int) -> None:
    ended = started(tmp_path, 2, what)
    assert all(status != 0 for status, _, _ in ended)
    spoken = [rank for rank, (_, _, errors) in enumerate(ended) if "RecipeError: Refused by" in errors]
    assert spoken == [speaker]
    assert "Traceback" not in ended[1 - speaker][2]


if __name__ == "__main__":
    with processes.as_one():
        import torch.distributed.nn.functional  # whose functions keep the group that they find

        play()
        group = torch.distributed.group.WORLD
    # Threads of a group that somebody keeps go on while the interpreter ends, which may abort the process.
    assert sys.getrefcount(group) == 2, "more than this name and the call keep the group"
    del group
