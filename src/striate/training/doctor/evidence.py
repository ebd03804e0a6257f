"""Evidence: what the doctor has seen of a run so far."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from striate.core import machine
from striate.core.finding import Finding
from striate.data.stream.stream import Stream
from striate.networks.contract import Outputs, auxiliary_outputs_of, stages_of
from striate.training.doctor.labels import sample
from striate.training.doctor.look import Look
from striate.training.forward import loss_of
from striate.training.run import Run

FEWEST_PICTURES = 8  # of a batch, from which what its logits say together is no matter of luck
FEWEST_UNITS = 8  # of a rectifier: of one that squeezes maps into a few numbers, all may well be 0
_BLOCKED = ("dead-units", "no-gradient", "vanishing-gradients", "answers-alike", "saturated-units")
_SMOOTH = 0.9  # part that the running mean of the loss keeps at each step of 64 pictures; of fewer it keeps more
_LABELS, _MOST_LOGITS = 4_096, 1 << 22  # by which the loss of no answer is measured


@final
@dataclass
class Evidence:
    """What was seen.

    Args:
        run: with its recipe and history.
        shares: part of the learned pictures that have each class, (K,) float64.
        chance: the loss where all logits are 0, over the pictures that are learned from.
        structure: what the advice on networks says of it.
        looks: the first one at step 0, unless the run was resumed.
        first, smooth, highest: the loss of the first step, its running mean over steps, and the highest that was.
        said, asked: how often each class was answered, and was right to answer, in the epoch; (K,).
        met: how often both, where the recipe balances the classes; (K,).
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
    met: Tensor = field(default_factory=lambda: torch.zeros(0))
    ended: bool = False

    def see_step(self, loss: float) -> None:
        """Add the loss of a step."""
        if math.isnan(self.first):
            self.first = self.smooth = loss
        new = (1 - _SMOOTH) * min(1.0, self.run.batch_size / 64)
        self.smooth += new * (loss - self.smooth)
        self.highest = max(self.highest, self.smooth)

    def forget_answers(self) -> None:
        """Begin an epoch."""
        self.said = self.asked = self.met = torch.zeros(0)

    def see_answers(self, answers: Tensor, targets: Tensor) -> None:
        """Add which classes were said, (N,), and which were right: labels (N,), or the share of each class (N, K)."""
        ones = torch.ones_like(answers, dtype=torch.float32)
        if not len(self.said):
            self.said, self.asked, self.met = ones.new_zeros(3, self.run.spec.task.classes)
        self.said.index_add_(0, answers, ones)
        if targets.ndim == 1:
            self.asked.index_add_(0, targets, ones)
        else:
            self.asked += targets.sum(0)
        if self.balanced:
            hard = targets.ndim == 1
            right = answers == targets if hard else targets.gather(1, answers[:, None])[:, 0]
            self.met.index_add_(0, answers, right.float())

    @property
    def single(self) -> bool:
        """Whether a picture has one label."""
        return not self.run.spec.task.several

    @property
    def majority(self) -> float:
        """The accuracy of saying the most frequent class always."""
        return float(self.shares.max())

    @property
    def balanced(self) -> bool:
        """Whether each class counts the same, however many pictures it has: accuracy is then the mean recall."""
        return self.run.chosen_by == "val_balanced_accuracy"

    @cached_property
    def guessed(self) -> float:
        """The accuracy of saying the same always: the most frequent class, or labels, unless classes count the same."""
        if not self.single:
            split = self.run.val if isinstance(self.run.learned, Stream) else self.run.learned
            assert split is not None  # shards have a val of their own
            labels = split.labels
            return int(torch.unique(labels, dim=0, return_counts=True)[1].max()) / len(labels)
        return 1 / int((self.shares > 0).sum()) if self.balanced else self.majority

    def skill(self, accuracy: float) -> float:
        """Return the part of what could be gained over saying the same always that was: 0 for nothing, 1 for all."""
        return (accuracy - self.guessed) / (1 - self.guessed) if self.guessed < 1 else 0.0

    @property
    def train_accuracy(self) -> float:
        """Of the last epoch, on the training pictures as they were learned."""
        counted = self.asked > 0
        if self.balanced and self.run.recipe.sampling == "uniform" and bool(counted.any()):
            return float((self.met[counted] / self.asked[counted]).mean())
        return self.run.history[-1]["accuracy"]

    @property
    def train_skill(self) -> float:
        """Of the last epoch, on the training pictures as they were learned."""
        return self.skill(self.train_accuracy)

    @property
    def val_accuracy(self) -> float | None:
        """The best on val."""
        name = "val_balanced_accuracy" if self.balanced else "val_accuracy"
        return max((entry[name] for entry in self.run.history if name in entry), default=None)

    @property
    def val_skill(self) -> float | None:
        """The best on val."""
        return None if self.val_accuracy is None else self.skill(self.val_accuracy)

    @property
    def held_skill(self) -> float:
        """What was learned and holds: the best on val; of the last epoch on train where there is no val."""
        return self.train_skill if self.val_skill is None else self.val_skill

    @property
    def learned_much(self) -> bool:
        """Whether most was learned that there is, whatever the loss says of it: smoothed targets have a high one."""
        return self.held_skill > 0.8

    @property
    def learned_half(self) -> bool:
        """Whether half of what there is was learned."""
        return self.held_skill > 0.5

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
        return self.found(*_BLOCKED)

    def found(self, *codes: str) -> bool:
        """Return whether one of these was found."""
        return any(one.code in codes for one in self.run.findings)


def always_frozen(run: Run) -> set[nn.Module]:
    """Return the modules of the stages that every phase of the recipe freezes."""
    stages = stages_of(run.network)
    by_phase = ({one for name in phase.frozen for one in stages[name].modules()} for phase in run.recipe.plan)
    return set.intersection(*by_phase)


def batch_norms(run: Run) -> dict[str, BatchNorm]:
    """Return the batch norms that see batches: those of stages that are always frozen keep their statistics."""
    still, named = always_frozen(run), run.network.named_modules()
    return {path: one for path, one in named if isinstance(one, BatchNorm) and one not in still}


def loss_of_no_answer(run: Run) -> float:
    """Return the mean loss where all logits, of auxiliary heads too, are 0: ln K for the cross-entropy of one head.

    Of labels as frequent as in all the pictures: where classes have weights, a batch may be worth far less or more.
    Where they have none, one label costs as much as another.
    """
    classes = run.spec.task.classes
    count = 1 if run.class_weights is None else max(1, min(_LABELS, _MOST_LOGITS // classes))
    if run.spec.task.several:
        targets = sample(run.learned, count).labels
    else:
        places = (torch.arange(count, dtype=torch.float64) + 0.5) / count
        targets = torch.searchsorted(run.class_shares.cumsum(0), places).clamp_(max=classes - 1)
    targets = targets.to(machine.device())
    logits = torch.zeros(len(targets), classes, device=targets.device)
    heads = auxiliary_outputs_of(run.network)
    outputs = Outputs(logits, dict.fromkeys(heads, logits)) if heads else logits
    return float(loss_of(run, outputs, targets))
