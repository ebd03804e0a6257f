"""Observers: they are told what happens in a run; they watch, save, draw and may ask to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from striate.training.run import Run

EVENTS = ("on_train_begin", "on_backward_end", "on_batch_end", "on_epoch_end", "on_train_end")


class Observer:
    """Receives the events of a run, named as in Keras. Another method whose name starts with ``on_`` is an error.

    ===================  ========================================================================================
    ``on_train_begin``   before the first step; the recipe is resolved
    ``on_backward_end``  before every update: ``run.seen``, ``run.loss``, and the loss's gradient of every parameter,
                         to which ``l1`` and ``l2`` are added afterwards
    ``on_batch_end``     after every update: ``run.step``, ``run.loss``, ``run.learning_rate``
    ``on_epoch_end``     after validation: ``run.history[-1]``
    ``on_train_end``     when the run is over, however it ended: ``run.stop_reason``
    ===================  ========================================================================================

    An observer reads the run and may call ``run.stop(reason)``; it does not change the network.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in vars(cls):
            if name.startswith("on_") and name not in EVENTS:
                raise TypeError(f"There is no event {name!r}; an observer may have {', '.join(EVENTS)}.")

    def on_train_begin(self, run: Run) -> None:
        """Before the first step."""

    def on_backward_end(self, run: Run) -> None:
        """Before every update."""

    def on_batch_end(self, run: Run) -> None:
        """After every update."""

    def on_epoch_end(self, run: Run) -> None:
        """After the validation of an epoch."""

    def on_train_end(self, run: Run) -> None:
        """When the run is over."""
