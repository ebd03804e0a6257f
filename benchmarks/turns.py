"""Contestants in processes of their own that train in turns: one waits while the other's clock runs.

Each contestant has its own environment, memory allocator and threads, as it would have alone, and nobody's start is
counted against anybody. `Contestant` is the side of the benchmark, `Turn` the side of the contestant, whose programs
are in ``contestants.py``. They train on the processor: a GPU is hidden from all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import peers


@final
class Contestant:
    """A program of ``contestants.py`` in a process of its own.

    Args:
        program: the name of its function.
        peer: what must be installed for it.
        environment: variables besides those of this process.
        options: what the function is given.
    """

    def __init__(
        self, program: str, *, peer: str | None = None, environment: Mapping[str, str] | None = None, **options: object
    ) -> None:
        self._program = program
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - closed at the exit
        variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **(environment or {})}
        if peer:
            paths = [str(peers.installed(peer)), os.environ.get("PYTHONPATH", "")]
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "contestants.py"), program, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=variables,
            text=True,
        )
        self._answer()  # it has imported what it needs

    def turn(self) -> dict[str, Any]:
        """Let it take one turn, and return what it says of it: ``seconds``, and what its program adds."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            sys.exit(f"{self._program} ended:\n{self._errors.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell it that there are no more turns."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def in_turns(contestants: Mapping[str, Contestant], rounds: int) -> Iterable[dict[str, dict[str, Any]]]:
    """Yield, round by round, what each contestant says of its turn; the order changes from round to round."""
    names = list(contestants)
    for number in range(rounds):
        answers = {name: contestants[name].turn() for name in (names if number % 2 else reversed(names))}
        yield {name: answers[name] for name in names}


def finish(contestants: Mapping[str, Contestant], progress: Callable[[str, dict[str, Any]], None]) -> dict[str, float]:
    """Let contestants train in turns until each has said that it has finished; return the seconds of each."""
    seconds = dict.fromkeys(contestants, 0.0)
    left = dict(contestants)
    while left:
        for name in list(left):
            answer = left[name].turn()
            seconds[name] += answer["seconds"]
            progress(name, answer)
            if answer.get("finished"):
                del left[name]
    return seconds


@final
class Turn:
    """The contestant's own turns: it stops its clock, says how long it took, and waits until it is called again.

    Made when everything is imported. The time from the first call to the first `over` is its start. In this process
    ``time.perf_counter`` stands still while it waits: what is due every so many seconds, such as a checkpoint, is
    not due more often than in a process that trains alone.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a library prints is not an answer
        self._began = self._waited = 0.0
        self._clock = time.perf_counter
        time.perf_counter = lambda: self._clock() - self._waited
        self._say({})

    def over(self, **figures: object) -> None:
        """Say how long this turn took, and wait for the next; where there is none, the process ends."""
        self._say({"seconds": time.perf_counter() - self._began, **figures})

    def restart(self) -> None:
        """Count from now on: what came before in this turn is not measured."""
        self._began = time.perf_counter()

    def _say(self, answer: Mapping[str, object]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)
        start = self._clock()
        if not sys.stdin.readline():
            sys.exit()
        self._waited += self._clock() - start
        self._began = time.perf_counter()


@final
class Epochs:
    """Turns of whole epochs.

    ``seconds`` is all of it, from the end of the epoch before; ``step_seconds`` is the mean of a step, from the end of
    the epoch's first step to the end of its last; ``pictures`` is how many were learned from.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._ends: list[float] = []
        self._pictures = 0

    def after_batch(self, pictures: int) -> None:
        """Note that a step is done."""
        self._ends.append(time.perf_counter())
        self._pictures += pictures

    def after_epoch(self) -> None:
        """End the turn."""
        step_seconds = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        pictures, self._pictures, self._ends = self._pictures, 0, []
        self._turn.over(pictures=pictures, step_seconds=step_seconds)


@final
class Steps:
    """Turns of some steps that follow each other in one epoch: what comes between epochs is not measured."""

    def __init__(self, turn: Turn, steps: int) -> None:
        self._turn, self._steps = turn, steps
        self._left: int | None = None

    @property
    def ends(self) -> bool:
        """Whether the next `after_batch` ends the turn: the time to wait for what is still being computed."""
        return self._left == 1

    def after_batch(self) -> None:
        """Note that a step is done; the first of an epoch only starts the clock."""
        if self._left is None:
            self._turn.restart()
            self._left = self._steps
            return
        self._left -= 1
        if not self._left:
            self._turn.over()
            self._left = self._steps

    def between_epochs(self) -> None:
        """Forget a turn that has not ended."""
        self._left = None
