"""The feed: what is left of a run, epoch by epoch and batch by batch, as the network sees it."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from striate.core import machine, processes
from striate.core.machine import Execution
from striate.data.augment.augment import training_batch
from striate.data.balance import balancing_shares
from striate.data.batches import Batch, epoch_batches
from striate.data.imageset import Split
from striate.training.run import Run, Seen

BATCHES_AHEAD = 2  # on a GPU: one that is ready, and one that is being cut


def epochs_left(run: Run) -> Iterator[tuple[int, int]]:
    """Yield (epoch, number of its phase) from where the run stands; nothing where it has ended.

    A budget may move the end of the last phase meanwhile.
    """
    ends = list(itertools.accumulate(math.ceil(phase.epochs) for phase in run.recipe.plan[:-1]))
    epoch = run.epoch
    while epoch < run.epochs and not run.finished and not run.stop_reason:
        yield epoch, bisect.bisect_right(ends, epoch)
        epoch += 1


def resident(run: Run) -> Split | None:
    """Return what is learned from, on the GPU, where it takes at most half of what training leaves free there."""
    learned = run.learned
    if not isinstance(learned, Split) or machine.device().type == "cpu":
        return None
    pictures = "images" if learned.stored is None else "stored"
    if getattr(learned, pictures).nbytes > (machine.available_memory() - run.expected_bytes) / 2:
        return None
    return replace(learned, **{name: getattr(learned, name).to(machine.device()) for name in (pictures, "labels")})


def batches_left(
    run: Run, epoch: int, phase_number: int, execution: Execution, here: Split | None = None
) -> Iterator[Seen]:
    """Yield what is left of an epoch, each batch on the device, augmented and normalised.

    Args:
        here: what `resident` returned.
    """
    recipe, learned, device = run.recipe, run.learned, machine.device()
    resolution = recipe.plan[phase_number].resolution
    size = (resolution, resolution) if resolution else (run.spec.input.height, run.spec.input.width)
    shares = None
    if isinstance(learned, Split) and recipe.sampling == "balanced":
        shares = balancing_shares(learned.labels, run.spec.task.classes)
    # Mixing is with other pictures of the whole batch: every process makes all of it then, and takes its own rows.
    everything, own = slice(None), processes.own_rows()
    before, after = (everything, own) if recipe.mixup or recipe.cutmix else (own, everything)
    batches = epoch_batches(
        learned if here is None else here,
        recipe.batch_size,
        epoch=epoch,
        seed=recipe.seed,
        drop_last=len(learned) >= recipe.batch_size,
        start_batch=run.step - epoch * run.steps_per_epoch,
        size=size if resolution else None,
        shares=shares,
        rows=before,
    )
    if device.type == "cuda" and here is None:
        batches = fetched_ahead(batches, lambda batch: _sent(batch, device))
    for batch in itertools.takewhile(lambda _: not run.finished, batches):
        pictures, targets = training_batch(batch, recipe, run.spec, size=size, epoch=epoch, seed=recipe.seed)
        yield Seen(batch.index[after], execution.arrange(pictures[after]), targets[after])


def fetched_ahead(batches: Iterator[Batch], send: Callable[[Batch], Batch]) -> Generator[Batch, None, None]:
    """Yield batches that a thread takes and sends while those before them are learned from, in their order.

    What goes wrong in the thread is raised where its batch would have been yielded.
    """

    def fetch() -> Batch | None:
        batch = next(batches, None)
        return batch and send(batch)

    with ThreadPoolExecutor(1, "striate-feed") as thread:
        ahead = deque(thread.submit(fetch) for _ in range(BATCHES_AHEAD))
        while (batch := ahead.popleft().result()) is not None:
            ahead.append(thread.submit(fetch))
            yield batch


def _sent(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to a GPU without waiting for it, which only pinned memory allows."""
    tensors = (batch.images, batch.labels, batch.index)
    return Batch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors))
