"""How long a run will take, measured before its first step on a copy of the network."""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
import statistics
import time
from dataclasses import dataclass
from typing import final

import torch

from striate.core import machine, processes
from striate.core.copying import copy_of
from striate.core.machine import Execution
from striate.data.imageset import Split
from striate.prediction.predictor import compute_logits, pictures_at_once
from striate.training.average import WeightAverage
from striate.training.feed import batches_left
from striate.training.forward import forward
from striate.training.optim import Updater
from striate.training.run import Run

SHORT_SECONDS = 20.0  # a run that takes less is not measured, unless it has a budget
LEAST_MEASURED = 100  # steps: neither is one that has less
MOST_SECONDS = 3.0  # that measuring may take,
MOST_OF_BUDGET, MOST_OF_RUN = 0.03, 0.01  # and of a budget, which is planned by it, or of another run
_STEPS = 12  # timed at most in each phase: their median is within a few per cent


@final
@dataclass(frozen=True)
class Estimate:
    """What the parts of a run take on this machine.

    Args:
        step_seconds: of each phase: batch, augmentation, forward and backward pass, update, average.
        epoch_end_seconds: what the end of an epoch takes besides: validation.
    """

    step_seconds: tuple[float, ...]
    epoch_end_seconds: float

    def seconds_left(self, run: Run) -> float:
        """Return what the rest of a run takes."""
        steps = math.fsum(map(operator.mul, steps_left(run), self.step_seconds))
        return steps + (run.epochs - run.epoch) * self.epoch_end_seconds


def steps_left(run: Run) -> list[int]:
    """Return how many steps of each phase a run has left."""
    ends = itertools.accumulate(math.ceil(phase.epochs) for phase in run.recipe.plan)
    bounds = [0, *(min(run.total_steps, end * run.steps_per_epoch) for end in ends)]
    return [max(0, end - max(start, run.step)) for start, end in itertools.pairwise(bounds)]


def estimate(run: Run, val: Split | None, execution: Execution) -> Estimate:
    """Measure some steps of every phase, and validation, on a copy of the network; consumes no randomness.

    Args:
        run: before its first step, or before it goes on.
        val: what is looked at after every epoch, if anything is.
    """
    phases = range(len(run.recipe.plan))
    with machine.keeping_draws():
        trial = dataclasses.replace(run, network=execution.place(copy_of(run.network)), step=0)
        updater = Updater(trial.network, trial.recipe)
        average = WeightAverage(trial.network, trial.recipe.average_decay) if trial.recipe.average == "ema" else None
        shared = _sharing_seconds(trial)
        own_steps = [shared + _step_seconds(trial, number, execution, updater, average) for number in phases]
        updater.end()
        end = 0.0 if val is None else _validation_seconds(trial, val, execution)
        *steps, end = processes.from_first(lambda: [*own_steps, end])  # several processes plan alike
        return Estimate(tuple(steps), end)


def _step_seconds(
    trial: Run, phase_number: int, execution: Execution, updater: Updater, average: WeightAverage | None
) -> float:
    """Return the median of a few steps of a phase, the first of which also plans and allocates."""
    updater.begin(trial.recipe.plan[phase_number])
    seconds: list[float] = []
    start = time.perf_counter()
    for seen in itertools.islice(batches_left(trial, 0, phase_number, execution), 1 + _STEPS):
        loss = forward(trial, seen, execution)
        loss.backward()  # type: ignore[no-untyped-call]
        updater.step(phase_number, 0.0)
        if average is not None:
            average.update(trial.network, 1)
        machine.synchronise()
        seconds.append(time.perf_counter() - start - math.fsum(seconds))
        if len(seconds) > 1 and sum(seconds) > _most_seconds(trial, seconds[-1]) / len(trial.recipe.plan):
            break
    return statistics.median(seconds[1:] or seconds)


def _sharing_seconds(trial: Run) -> float:
    """Return what adding up the gradients of several processes takes in each step."""
    if processes.world() == 1:
        return 0.0
    count = sum(parameter.numel() for parameter in trial.network.parameters() if parameter.requires_grad)
    gradients = torch.zeros(count, device=machine.device())
    processes.add_up(gradients)  # the first also connects
    machine.synchronise()
    start = time.perf_counter()
    processes.add_up(gradients)
    machine.synchronise()
    return time.perf_counter() - start


def _most_seconds(trial: Run, step_seconds: float) -> float:
    """Return what measuring all phases may take."""
    budget, run_seconds = trial.budget_seconds, step_seconds * trial.total_steps
    return min(MOST_SECONDS, MOST_OF_BUDGET * budget if budget else MOST_OF_RUN * run_seconds)


def _validation_seconds(trial: Run, val: Split, execution: Execution) -> float:
    """Return what all of val takes, going by as many pictures as a batch has; several processes divide it."""
    some = val.images[: trial.recipe.batch_size]
    compute_logits(trial.network, some, trial.spec.input, execution)  # the first pass also plans and allocates
    start = time.perf_counter()
    compute_logits(trial.network, some, trial.spec.input, execution)
    at_once, pieces = processes.world(), -(-len(val) // pictures_at_once(trial.spec.input))
    return (time.perf_counter() - start) * len(val) / len(some) * -(-pieces // at_once) / pieces
