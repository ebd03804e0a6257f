"""Signals: the first Ctrl-C or SIGTERM asks a run to stop after its step, the second one ends it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from striate.training.run import INTERRUPTED, TERMINATED, Run

# SLURM and Kubernetes send SIGTERM, and SIGKILL half a minute later.
_REASONS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}

# What the command line ends with: as a shell says it of a process that SIGTERM has ended.
EXIT_STATUS = {INTERRUPTED: 2, TERMINATED: 128 + signal.SIGTERM}


@contextlib.contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop after the step; the second one ends it at once.

    A signal that is ignored, as Ctrl-C is in the background of a script, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = {number: signal.getsignal(number) for number in _REASONS}
    ours = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        run.stop(_REASONS[signal.Signals(number)])
        give_back()

    def give_back() -> None:
        for number, handler in ours.items():
            signal.signal(number, handler)

    for number in ours:
        signal.signal(number, ask_to_stop)
    try:
        yield
    finally:
        give_back()
