"""Ctrl-C: the first one asks a run to stop after its step, the second one interrupts at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from striate.training.run import INTERRUPTED, Run


@contextlib.contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """Turn the first Ctrl-C into a request to stop after the step; the second one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = signal.getsignal(signal.SIGINT)

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        run.stop(INTERRUPTED)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask_to_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
