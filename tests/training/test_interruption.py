"""Signals: asked to stop once, ended at once the second time, and left as they were."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from striate.training.interruption import EXIT_STATUS, interruptible
from striate.training.run import INTERRUPTED, TERMINATED

SIGNALS = [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)]


class Ended(BaseException):
    """What the handlers of these tests raise, as a process that ends."""


def end(number: int, frame: object) -> None:
    raise Ended


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Let neither signal end the tests."""
    before = {number: signal.signal(number, end) for number, _ in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def reasons_of(during: Callable[[], None]) -> list[str]:
    """Return what a run was asked to stop for."""
    asked: list[str] = []
    run: Any = SimpleNamespace(stop=asked.append)
    with interruptible(run):
        during()
    assert all(signal.getsignal(number) is end for number, _ in SIGNALS)
    return asked


@pytest.mark.parametrize(("number", "reason"), SIGNALS)
def test_the_first_one_asks_to_stop(number: signal.Signals, reason: str) -> None:
    assert reasons_of(lambda: signal.raise_signal(number)) == [reason]


@pytest.mark.parametrize("first", [number for number, _ in SIGNALS])
@pytest.mark.parametrize("second", [number for number, _ in SIGNALS])
def test_the_second_one_of_either_kind_ends_it_at_once(first: signal.Signals, second: signal.Signals) -> None:
    def both() -> None:
        signal.raise_signal(first)
        with pytest.raises(Ended):
            signal.raise_signal(second)

    assert len(reasons_of(both)) == 1


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked: list[str] = []
    run: Any = SimpleNamespace(stop=asked.append)
    with interruptible(run):
        signal.raise_signal(signal.SIGINT)
    assert asked == []
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_another_thread_handles_no_signals() -> None:
    asked: list[str] = []
    thread = threading.Thread(target=lambda: asked.extend(reasons_of(lambda: None)))
    thread.start()
    thread.join()
    assert asked == []


def test_the_statuses_of_the_command_line() -> None:
    assert EXIT_STATUS == {INTERRUPTED: 2, TERMINATED: 143}
