"""Evidence: what the doctor has seen of a run so far."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from striate.core.finding import Finding
from striate.training.doctor.look import Look
from striate.training.losses import compute_loss
from striate.training.run import Run

_BLOCKED = ("dead-units", "no-gradient", "vanishing-gradients", "answers-alike", "saturated-units")
_SMOOTH = 0.9  # part that the running mean of the loss keeps at each step


@final
@dataclass
class Evidence:
    """What was seen.

    Args:
        run: with its recipe and history.
        shares: part of the learned pictures that have each class, (K,) float64.
        chance: the loss where all logits are 0; that of the first batch.
        structure: what the advice on networks says of it.
        looks: the first one at step 0, unless the run was resumed.
        first, smooth, highest: the loss of the first step, its running mean over steps, and the highest that was.
        said, asked: how often each class was answered, and was right to answer, in the epoch; (K,).
        ended: whether there is nothing left to come.
    """

    run: Run
    shares: Tensor
    chance: float = math.nan
    structure: tuple[Finding, ...] = ()
    looks: list[Look] = field(default_factory=list)
    first: float = math.nan
    smooth: float = math.nan
    highest: float = -math.inf
    said: Tensor = field(default_factory=lambda: torch.zeros(0))
    asked: Tensor = field(default_factory=lambda: torch.zeros(0))
    ended: bool = False

    def see_step(self, loss: float) -> None:
        """Add the loss of a step."""
        if math.isnan(self.first):
            self.first = self.smooth = loss
        self.smooth = _SMOOTH * self.smooth + (1 - _SMOOTH) * loss
        self.highest = max(self.highest, self.smooth)

    @property
    def single(self) -> bool:
        """Whether a picture has one label."""
        return self.run.spec.task.labels == "single"

    @property
    def majority(self) -> float:
        """The accuracy of saying the most frequent class always."""
        return float(self.shares.max())

    def skill(self, accuracy: float) -> float:
        """Return the part of what could be gained over the majority that was: 0 for nothing, 1 for everything."""
        return (accuracy - self.majority) / max(1e-9, 1 - self.majority)

    @property
    def train_skill(self) -> float:
        """Of the last epoch, on the training pictures as they were learned."""
        return self.skill(self.run.history[-1]["accuracy"])

    @property
    def val_skill(self) -> float | None:
        """The best on val."""
        known = [entry["val_accuracy"] for entry in self.run.history if "val_accuracy" in entry]
        return self.skill(max(known)) if known else None

    @property
    def learned_nothing(self) -> bool:
        """Whether the epochs so far show hardly more than guessing the most frequent class."""
        return max(self.train_skill, self.val_skill or -1.0) < 0.1

    @property
    def updates(self) -> list[float]:
        """The relative size of the updates that were looked at."""
        return [look.update for look in self.looks if math.isfinite(look.update)]

    @property
    def first_update_at_top(self) -> float:
        """How large the update of step 0 would have been at the top of the schedule; 0 of a resumed run."""
        first = self.looks[0] if self.looks else None
        if first is None or first.step or not first.learning_rate or not math.isfinite(first.update):
            return 0.0
        return first.update * self.run.recipe.learning_rate / first.learning_rate

    @property
    def usual_update(self) -> float:
        """Their median."""
        return statistics.median(self.updates) if self.updates else math.nan

    @property
    def blocked(self) -> bool:
        """Whether it was found that no gradient, or nothing of the picture, gets through."""
        return any(one.code in _BLOCKED for one in self.run.findings)

    def chance_of(self, targets: Tensor) -> float:
        """Return the loss of these targets where all logits are 0: ln K for the cross-entropy."""
        logits = torch.zeros(len(targets), self.run.spec.task.classes, device=targets.device)
        several, weights = not self.single, self.run.class_weights
        run = self.run
        return float(compute_loss(logits, targets, run.network, run.recipe, several=several, weights=weights))
