"""A budget of time: how many epochs it allows, corrected while the run goes on, so that the schedule ends on time."""

from __future__ import annotations

import math
import operator
import re
import statistics
import time
from collections import deque
from typing import final

from striate.core import processes
from striate.core.errors import RecipeError
from striate.core.machine import Execution
from striate.data.imageset import Split
from striate.training.estimate import LEAST_MEASURED, SHORT_SECONDS, Estimate, estimate, steps_left
from striate.training.recipe import MOST_EPOCHS, whole_epochs
from striate.training.run import Run

LEAST_STEPS = 20
AIM = 0.99  # of the budget, at which validation after the last step ends
LEAST_AIM = 0.95  # at which the last step is taken, however long that validation is
_FIRST = 1 / 32  # of the budget, until the first correction
_LEAST_TIMED = 5  # steps, before a correction goes by what they took
_ENDS = 9  # of epochs, whose mean the next one is expected to take
_LAST = 1 / 200  # of the budget: what is left then stays as it is
_LEAST_LEFT = 1 / 100  # of the steps so far: so many still come, and let the schedule end, however late it has become
_SLIGHT = 1 / 250  # of all steps: a change that is not worth making

_UNITS = {"h": 3600, "m": 60, "s": 1}


def budget_seconds(budget: str | float | None) -> float | None:
    """Return the seconds of a budget in seconds, or in words such as ``90s``, ``20m`` or ``1h30m``; None for none.

    Raises:
        RecipeError: it is no time, or not above 0.
    """
    if budget is None:
        return None
    seconds = _seconds_in(budget) if isinstance(budget, str) else float(budget)
    if not 0 < seconds < math.inf:
        raise RecipeError(f"budget must be more than 0 seconds, got {budget}.")
    return seconds


def _seconds_in(words: str) -> float:
    parts = [re.search(rf"(\d+(?:\.\d+)?){unit}", words) for unit in _UNITS]
    if "".join(part[0] for part in parts if part) != words.strip() or not words.strip():
        raise RecipeError(f"budget must be a time such as 90s, 20m or 1h30m, got {words!r}.")
    return sum(float(part[1]) * _UNITS[part[0][-1]] for part in parts if part)


def time_in_words(seconds: float) -> str:
    """Return a time as people say it: ``3 min 20 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {whole} s" if minutes else f"{whole} s"
    return f"{minutes // 60} h {minutes % 60} min"


@final
class Budget:
    """Chooses the length of a run by its budget, and corrects it as the machine turns out faster or slower.

    Corrections come after 1/32 of the time, then whenever the time that has gone has doubled, and at the latest when a
    quarter of what was left has gone, or half of the steps: a machine that suddenly is faster is noticed. Each sets how
    many steps the last phase has left, and the schedule goes on from where it stands to its end, see ``pace`` of
    `Recipe`.

    Args:
        seconds: of training time.
        estimate: what the parts of the run take.
    """

    def __init__(self, seconds: float, estimate: Estimate) -> None:
        self._seconds = seconds
        self._estimate = estimate
        self._drift = 1.0  # how many times as long as estimated everything takes
        self._ends: deque[float] = deque(maxlen=_ENDS)  # seconds of the last ends of epochs, but for the drift
        self._timed, self._spent, self._expected = 0, 0.0, 0.0  # steps since the last correction, and their seconds
        self._last: float | None = None  # when the last step ended
        self._due = self._half_way = 0.0  # in seconds, and in steps

    def plan(self, run: Run) -> None:
        """Choose the epochs of every phase, in the proportions that the recipe has.

        Raises:
            RecipeError: there is no time for `LEAST_STEPS` steps.
        """
        plan, seconds = run.recipe.plan, self._estimate.step_seconds
        of_one = [
            phase.epochs * (run.steps_per_epoch * step + self._end_seconds)
            for phase, step in zip(plan, seconds, strict=True)
        ]
        scale = min(self._left(run) / sum(of_one), MOST_EPOCHS / sum(phase.epochs for phase in plan))
        epochs = [*whole_epochs(plan[:-1], max(0.0, scale)), 1.0]  # the last until its length is set
        kept = [number for number, count in enumerate(epochs) if count]
        self._estimate = Estimate(tuple(seconds[number] for number in kept), self._end_seconds)
        phases = tuple(plan[number].model_copy(update={"epochs": epochs[number]}) for number in kept)
        run.recipe = run.recipe.changed(epochs=sum(phase.epochs for phase in phases), phases=phases)
        self._set_length(run)
        if run.total_steps < LEAST_STEPS:
            least = (run.train_seconds + LEAST_STEPS * max(seconds)) / LEAST_AIM
            raise RecipeError(
                f"A budget must leave time for {LEAST_STEPS} steps, which take about {time_in_words(least)} here with "
                f"what is measured before them, got {time_in_words(self._seconds)}. Give it more, or take smaller "
                "batches (--batch-size), smaller pictures (--size) or a smaller network."
            )

    def correct(self, run: Run, phase_number: int) -> None:
        """After a step of a phase: note what it took, and set the length of the run anew where that is due."""
        now, before, self._last = run.train_seconds, self._last, run.train_seconds
        if before is None:  # the first step has made everything ready besides
            self._look_again(run, _FIRST * self._seconds)
            return
        expected = self._estimate.step_seconds[phase_number]
        if run.steps_per_epoch == 1:
            expected += self._end_seconds
        if (run.step - 1) % run.steps_per_epoch == 0 and run.steps_per_epoch > 1:
            self._ends.append(max(0.0, (now - before) / self._drift - expected))
        else:
            self._timed += 1
            self._spent, self._expected = self._spent + now - before, self._expected + expected
        if (now < self._due and run.step < self._half_way) or run.finished:
            return
        if self._timed >= _LEAST_TIMED:
            self._drift = self._spent / self._expected
            self._timed, self._spent, self._expected = 0, 0.0, 0.0
        self._set_length(run)
        left = self._seconds - now
        if left > _LAST * self._seconds:
            self._look_again(run, min(max(now, _FIRST * self._seconds), left / 4))
        else:
            self._due = self._half_way = math.inf

    def _look_again(self, run: Run, seconds: float) -> None:
        """Let the next correction come after some seconds, or when half of the steps that are left are taken."""
        self._due, self._half_way = run.train_seconds + seconds, (run.step + run.total_steps) // 2

    @property
    def _end_seconds(self) -> float:
        """What the end of an epoch takes: the mean of several, as a single one may wait for the disk."""
        return statistics.fmean(self._ends) if self._ends else self._estimate.epoch_end_seconds

    def _left(self, run: Run) -> float:
        """Return the seconds until the last step should be taken."""
        end = self._drift * self._end_seconds
        return max(AIM * self._seconds - end, LEAST_AIM * self._seconds) - run.train_seconds

    def _set_length(self, run: Run) -> None:
        """Set how many steps the last phase has left."""
        *earlier, last = steps_left(run)
        *of_earlier, step = (self._drift * seconds for seconds in self._estimate.step_seconds)
        end = self._drift * self._end_seconds
        into = (run.step + sum(earlier)) % run.steps_per_epoch
        left = self._left(run) - math.fsum(map(operator.mul, earlier, of_earlier))
        left -= -(-sum(earlier) // run.steps_per_epoch) * end
        least = max(1, min(last, round(_LEAST_LEFT * run.step)))
        steps = max(least, _steps_within(left, step, end, into, run.steps_per_epoch))
        if run.step and abs(steps - last) <= _SLIGHT * run.total_steps:
            return
        total = min(run.step + sum(earlier) + steps, MOST_EPOCHS * run.steps_per_epoch)
        self._change(run, total)

    def _change(self, run: Run, total: int) -> None:
        """Give a run that many steps in all; its schedule goes on evenly from where it stands."""
        recipe = run.recipe
        given_up = (run.step / run.steps_per_epoch, run.total_steps / run.steps_per_epoch)
        pace = (*recipe.pace, given_up) if run.step else ()
        phases = recipe.phases
        whole = math.fsum(phase.epochs for phase in phases[:-1])
        epochs = total / run.steps_per_epoch
        if phases:
            phases = (*phases[:-1], phases[-1].model_copy(update={"epochs": epochs - whole}))
            epochs = sum(phase.epochs for phase in phases)
        run.recipe = recipe.changed(epochs=epochs, phases=phases, pace=pace)


def _steps_within(seconds: float, step: float, end: float, into: int, per_epoch: int) -> int:
    """Return how many steps fit into some seconds, with an end between any two epochs and none after the last step.

    Args:
        step, end: seconds of each.
        into: steps of the present epoch that are done.
        per_epoch: steps.
    """
    seconds += into * step + end  # as if the epoch began now, and the last one had an end
    epochs, rest = divmod(seconds, per_epoch * step + end)
    return int(epochs) * per_epoch + max(0, int((rest - end) / step)) - into


def look_ahead(run: Run, val: Split | None, execution: Execution, *, resuming: bool) -> Budget | None:
    """Measure what a run will take, where it is long enough for that, and choose its epochs where it has a budget.

    Returns:
        What corrects the length of the run while it goes on; None where it has no budget.

    Raises:
        RecipeError: the budget is too small for any training.
    """
    if run.budget_seconds is None:
        if not resuming and _worth_measuring(run):
            run.expected_seconds = estimate(run, val, execution).seconds_left(run)
        return None
    budget = Budget(run.budget_seconds, estimate(run, val, execution))
    if not resuming:
        run.train_seconds = processes.from_first(lambda: time.perf_counter() - run.began)
        budget.plan(run)
        run.expected_seconds = run.budget_seconds
    return budget


def _worth_measuring(run: Run) -> bool:
    """Return whether the few steps that are timed are few beside those of the run."""
    known = run.expected_seconds
    return run.total_steps >= LEAST_MEASURED if known is None else known >= SHORT_SECONDS
