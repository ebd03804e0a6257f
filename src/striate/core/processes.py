"""Processes: the several that train one network together, as torchrun or a cluster starts them.

Who starts them says so in the environment: ``WORLD_SIZE``, ``RANK``, ``LOCAL_RANK``, ``MASTER_ADDR``, ``MASTER_PORT``.
What is here does nothing where there is one process alone. All of them must call it in the same order.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from striate.core.errors import RecipeError, TrainingError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

Plain = TypeVar("Plain")

# How long one may wait for another: as long as pictures take to be downloaded and decoded. Who has ended is noticed
# at once.
PATIENCE = timedelta(minutes=30)
_GRACE_SECONDS = 2.0  # until another process than the first speaks of an error
_MOMENT = 0.01  # seconds between two looks for the others
_NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")


_alone = False  # while others wait for what this process makes


def world() -> int:
    """Return how many processes train together.

    Raises:
        RecipeError: there are several, and the environment lacks what they need to find each other.
    """
    return 1 if _alone else _started()


def several() -> bool:
    """Return whether several processes train together, even while the others wait for what this one makes."""
    return _started() > 1


@functools.cache
def _started() -> int:
    count = int(os.environ.get("WORLD_SIZE") or 1)
    lacking = [name for name in _NEEDED if not os.environ.get(name)]
    if count > 1 and lacking:
        raise RecipeError(
            f"{count} processes (WORLD_SIZE) need {lacking[0]} in the environment to find each other, and it is not "
            "there. Start them with torchrun, or unset WORLD_SIZE."
        )
    return count


def rank() -> int:
    """Return the number of this process among all, 0 for the first."""
    return _number() if world() > 1 else 0


def own_key() -> tuple[int, ...]:
    """Return what keys the random draws of this process and of no other: nothing of the first. Alone, it keeps it."""
    return (_number(),) if _number() else ()


def _number() -> int:
    return int(os.environ["RANK"]) if several() else 0


def local_rank() -> int:
    """Return the number of this process among those of its machine, 0 for the first."""
    return int(os.environ.get("LOCAL_RANK") or 0) if world() > 1 else 0


def on_this_machine() -> int:
    """Return how many of the processes share this machine's memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or 1) if several() else 1


def first() -> bool:
    """Return whether this is the first of all processes: the one that writes files and speaks."""
    return rank() == 0


def own_rows() -> slice:
    """Return which rows of a batch are this process's: every world-th, from its rank on."""
    return slice(rank(), None, world())


def most_of(rows: int) -> int:
    """Return how many of the rows of a batch a process takes at most."""
    return -(-rows // world())


def add_up(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over the processes, the same bits everywhere, and return it."""
    if world() > 1:
        _join()
        with _together():
            torch.distributed.all_reduce(tensor)
    return tensor


def side_by_side(tensor: Tensor) -> Tensor:
    """Return the tensor (…) of every process, in the order of their ranks: (world, …)."""
    every = tensor.new_zeros(world(), *tensor.shape)
    every[rank()] = tensor
    return add_up(every)


def spread(tensors: Iterable[Tensor], source: int = 0) -> None:
    """Replace tensors by those of one process, the first if no other is named by its rank."""
    if world() == 1:
        return
    _join()
    with _together(), torch.no_grad():
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            torch.distributed.broadcast(whole, src=source)
            tensor.copy_(whole)


def from_first(make: Callable[[], Plain], source: int = 0) -> Plain:
    """Return what the first process makes, or the one whose rank is named; the others wait for it and make nothing.

    Meanwhile it is as if it were alone: nothing that is called there waits for others.

    Args:
        make: its result must be what JSON can say: numbers, texts, None, lists and dicts of them.
    """
    if world() == 1:
        return make()
    words = _made_alone(make) if rank() == source else b""
    length = add_up(torch.tensor(len(words)))
    letters = torch.zeros(int(length), dtype=torch.uint8)
    if words:
        letters.copy_(torch.frombuffer(bytearray(words), dtype=torch.uint8))
    spread([letters], source)
    result: Plain = json.loads(letters.numpy().tobytes())
    return result


def _made_alone(make: Callable[[], object]) -> bytes:
    global _alone
    _alone = True
    try:
        return json.dumps(make()).encode()
    finally:
        _alone = False


@contextlib.contextmanager
def first_of_machine_first() -> Iterator[None]:
    """Let the first process of each machine do something before its others do: fill the cache that they share."""
    if local_rank():
        wait()
    yield
    if not local_rank():
        wait()


@contextlib.contextmanager
def as_one() -> Iterator[None]:
    """Let several processes be one on the terminal.

    Only the first prints. Of an error, one process that has it raises it, the first if it is among them, and the
    others end without a word.
    All of them end together.
    """
    if world() == 1:
        yield
        return
    _join()
    with contextlib.ExitStack() as silence:
        if not first():
            nowhere = silence.enter_context(open(os.devnull, "w", encoding="utf-8"))
            silence.enter_context(contextlib.redirect_stdout(nowhere))
            silence.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            yield
            wait()
            _leave()
        except (Exception, KeyboardInterrupt) as error:
            silence.close()
            if not _speaks_of_failure():
                raise SystemExit(getattr(error, "exit_status", 1)) from None
            raise


def keep(name: str, words: str) -> None:
    """Remember something for the processes that are started in the place of these, should one of them be killed."""
    if first() and _can_be_restarted():
        _store().set(f"striate/{name}", words)


def kept(name: str) -> str | None:
    """Return what was kept before a restart; None where nothing was, or where this is no restart.

    Ask before anything is kept anew.
    """
    if not _can_be_restarted():
        return None
    key = f"striate/{name}"
    return _store().get(key).decode() if _store().check([key]) else None


def _can_be_restarted() -> bool:
    """Return whether torchrun has started this process: its store outlives it."""
    return "TORCHELASTIC_RESTART_COUNT" in os.environ and "MASTER_ADDR" in os.environ


@functools.cache
def _store() -> Store:
    """Return where the processes find each other, and leave words for those that come after them."""
    from torch.distributed.rendezvous import rendezvous

    store: Store = next(iter(rendezvous("env://", timeout=PATIENCE)))[0]
    return store


@functools.cache
def _attempt() -> Store:
    """Return the part of the store that is of these processes, and not of those before a restart.

    The first process names it, as torchrun does not number the starts of all machines alike. The others each ask by a
    word of their own: who was killed before a restart has asked too, and the answer to that is for nobody.
    """
    from torch._C._distributed_c10d import PrefixStore

    store, word = _store(), uuid.uuid4().hex
    if first():
        _tell_others(word, store)
        return PrefixStore(word, store)
    store.set(f"striate/asks/{rank()}", word)
    name = store.get(f"striate/told/{word}").decode()
    store.set(f"striate/{name}/{rank()}", "knows")
    return PrefixStore(name, store)


def _tell_others(name: str, store: Store) -> None:
    """Answer whoever asks, until all other processes know the name."""
    deadline = time.monotonic() + PATIENCE.total_seconds()
    others = range(1, world())
    while missing := [number for number in others if not store.check([f"striate/{name}/{number}"])]:
        for number in missing:
            if store.check([f"striate/asks/{number}"]):
                store.set(f"striate/told/{store.get(f'striate/asks/{number}').decode()}", name)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(missing)} of {world()} processes have not come")
        time.sleep(_MOMENT)


@functools.cache
def _join() -> None:
    """Meet the other processes: over gloo for what is on the CPU, over NCCL for what is on GPUs."""
    # Imported later, by whoever needs it, its functions would keep the group for good as the default of an argument.
    import torch.distributed.nn.functional

    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _together():
        torch.distributed.init_process_group(
            backends, store=_attempt(), rank=rank(), world_size=world(), timeout=PATIENCE
        )
    atexit.register(_leave)


def _leave() -> None:
    """End the threads that talk to the others: one that is busy while the interpreter ends aborts the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def wait() -> None:
    """Wait for all others to come here too."""
    add_up(torch.zeros(1))


def _speaks_of_failure() -> bool:
    """Return whether no other process speaks of a failure; where all of them have it, the first does."""
    try:
        deadline = time.monotonic() + (0 if first() else _GRACE_SECONDS)
        while time.monotonic() < deadline and not _attempt().check(["failed"]):
            time.sleep(0.05)
        return int(_attempt().add("failed", 1)) == 1
    except RuntimeError:
        return False  # the process that had the store has ended, and not before it said why


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Say in words that another process has gone."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            f"One of the {world()} processes has ended or cannot be reached, so all of them stop. A run that had begun "
            "goes on from its last checkpoint: striate train --resume RUN, or start it with torchrun --max-restarts."
        ) from error
