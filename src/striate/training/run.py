"""Run: what is known of a training run while it goes on and after it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from striate.core import machine, processes
from striate.core.errors import FileError
from striate.core.finding import Finding
from striate.core.spec import Spec
from striate.data.balance import class_shares
from striate.data.imageset import Split
from striate.data.stream.stream import Stream
from striate.networks.build import Blueprint, blueprint_as_is
from striate.training.losses import Together, class_weights, count_correct
from striate.training.recipe import Recipe

RUNS = Path("runs")  # where folders of runs are that nobody has named
_NAME_ANOTHER = "Name another folder with --output."
MODEL_FILE, CHECKPOINT_FOLDER = "model.safetensors", "checkpoint"
RECIPE_FILE, METRICS_FILE, LOG_FILE = "recipe.toml", "metrics.csv", "log.txt"


@final
class Tally:
    """Sums over the epoch that is under way.

    Args:
        pictures, loss, correct: the sums so far.
    """

    def __init__(self, pictures: int = 0, loss: float = 0.0, correct: float = 0.0) -> None:
        self.pictures, self.loss, self._correct = pictures, loss, correct
        self._answers = Together(lambda logits, targets: self.add_correct(count_correct(logits, targets)))

    def add(self, pictures: int, mean_loss: float) -> None:
        """Add one batch."""
        self.pictures += pictures
        self.loss += mean_loss * pictures

    def add_answers(self, logits: Tensor, targets: Tensor, *, several: bool) -> None:
        """Count the right ones of a batch, as `count_correct` does; where each picture has one label, later."""
        if targets.ndim > 1:
            self._correct += count_correct(logits, targets, several=several)
        else:
            self._answers.add(logits, targets)

    def add_correct(self, correct: float) -> None:
        """Add how many of a batch are right."""
        self._correct += correct

    @property
    def correct(self) -> float:
        """How many of the pictures are right."""
        self._answers.count()
        return self._correct


@final
@dataclass(eq=False)
class Seen:
    """One batch as the network sees it in a step, for observers to look at.

    Args:
        index: (B,) int64, what keys the random draws of each picture, see `Batch`.
        pictures: (B, C, H, W) float32 on the device: augmented, normalised, mixed.
        targets: as `compute_loss` takes them.
        logits: (B, K), what the network answered, once the forward pass is done.
    """

    index: Tensor
    pictures: Tensor
    targets: Tensor
    logits: Tensor | None = None


@dataclass
class Best:
    """The weights that did best on val so far: by the score, then by the loss.

    The score is what `Run.chosen_by` names.
    """

    epoch: int
    score: float
    loss: float
    state: dict[str, Tensor]


@final
@dataclass(eq=False, repr=False)
class Run:
    """A training run.

    ``history`` has one entry per epoch: ``epoch`` (1 for the first), ``step``, ``seconds``, ``learning_rate``,
    ``loss``, ``accuracy`` (on the training pictures as they were learned: augmented, mixed, drawn), ``l2_penalty`` and,
    where there is one, ``l1_penalty`` (see `Penalty`; no part of ``loss``) and, where val is
    not learned from, ``val_loss`` (cross-entropy, or binary cross-entropy of several labels, whatever is learned by),
    ``val_accuracy``, where classes are balanced ``val_balanced_accuracy`` (the mean recall of the classes) and, of
    several labels, ``val_mean_average_precision``. Accuracy is the part of the pictures that are right: of several
    labels, all of them, each said from probability ½ on. A mixed picture is right by the share of the class that is
    said; of several labels, where those are said that make up half of it or more.

    Args:
        network: when the run is over, it holds the weights that did best on val.
        spec: what it takes and what its logits mean; after training of several labels with the thresholds fitted on
            val.
        recipe: resolved before step 0.
        data: name, fingerprint and, where it can be loaded again, the source of the pictures.
        steps_per_epoch: updates in an epoch.
        learned: the pictures that are learned from.
        val: those that are chosen by; None where nothing is chosen.
        seen: the batch of the step that is under way, or of the last one.
        folder: where everything is written.
        broke_off: whether an error has ended it.
        asked: why this process was asked to stop; ``stop_reason`` is what all processes have agreed on.
        checkpoint: the last one that was written, or that the run goes on from.
        notes: sentences that are said when training begins.
        findings: what the doctor found.
        budget_seconds: what the training time is held to; None where the recipe says how long it trains.
        expected_bytes: what training adds to the memory of the process, its pictures apart.
        began: when its training time began, by ``time.perf_counter``.
        expected_seconds: what was measured beforehand that training takes; None where nothing was.
    """

    network: nn.Module
    spec: Spec
    recipe: Recipe
    data: dict[str, Any]
    steps_per_epoch: int
    learned: Split | Stream
    val: Split | None = None
    seen: Seen | None = None
    folder: Path = Path()
    step: int = 0
    loss: float = float("nan")
    learning_rate: float = 0.0
    train_seconds: float = 0.0
    budget_seconds: float | None = None
    expected_seconds: float | None = None
    expected_bytes: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    history: list[dict[str, float]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    best: Best | None = None
    stop_reason: str | None = None
    broke_off: bool = False
    asked: str | None = None
    checkpoint: Path | None = None
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @cached_property
    def class_shares(self) -> Tensor:
        """The part of the pictures that have each class: (K,) float64."""
        if isinstance(self.learned, Stream):
            return torch.tensor(self.learned.class_shares, dtype=torch.float64)
        return class_shares(self.learned.labels, self.learned.spec.task.classes)

    @cached_property
    def class_weights(self) -> Tensor | None:
        """The weight of each class in the loss, (K,) float32 where the network is; None where all count the same."""
        weights = class_weights(self.recipe, self.spec.task, self.class_shares)
        return None if weights is None else weights.to(machine.device())

    @property
    def batch_size(self) -> int:
        """Pictures of every batch, of all processes together; no batch is shorter than others."""
        return min(self.recipe.batch_size, len(self.learned))

    @property
    def own_batch_size(self) -> int:
        """Pictures of a batch that each process takes, at most."""
        return processes.most_of(self.batch_size)

    @property
    def total_steps(self) -> int:
        """Updates in the whole run."""
        return max(1, round(self.steps_per_epoch * self.recipe.epochs))

    @property
    def epochs(self) -> int:
        """Epochs in the whole run, a last one that is cut short included."""
        return math.ceil(self.total_steps / self.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to; 0 for the first."""
        return self.step // self.steps_per_epoch

    @property
    def ends_epoch(self) -> bool:
        """Whether the last step was the last one of an epoch."""
        return self.step % self.steps_per_epoch == 0 or self.finished

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step == self.total_steps

    def result(self, last: nn.Module) -> dict[str, Tensor]:
        """Return the weights that did best on val, or the last ones, which ``last`` has, where nothing was measured."""
        return self.best.state if self.best else last.state_dict()

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped from outside, so that it can be resumed; not where that came after the last step."""
        return not self.finished and self.stop_reason in (INTERRUPTED, TERMINATED)

    @property
    def ended(self) -> bool:
        """Whether nothing more will be trained: all is done, or it was stopped, but not from outside."""
        return self.finished or (self.stop_reason is not None and not self.interrupted)

    @property
    def chosen_by(self) -> str:
        """Name in the history of what the weights are chosen by."""
        if self.spec.task.several:
            return "val_mean_average_precision"
        balanced = "balanced" in (self.recipe.class_weights, self.recipe.sampling)
        return "val_balanced_accuracy" if balanced else "val_accuracy"

    @property
    def val_accuracy(self) -> float | None:
        """Accuracy on val of the weights that were kept, 0–1; None where nothing was measured on it."""
        return self._of_best("val_accuracy")

    @property
    def val_balanced_accuracy(self) -> float | None:
        """The same for the balanced accuracy; None where the recipe does not balance the classes."""
        return self._of_best("val_balanced_accuracy")

    @property
    def val_mean_average_precision(self) -> float | None:
        """The same for the mean average precision; None where each picture has one label."""
        return self._of_best("val_mean_average_precision")

    def _of_best(self, name: str) -> float | None:
        return self.history[self.best.epoch - 1].get(name) if self.best else None

    @property
    def model_path(self) -> Path:
        """The saved network."""
        return self.folder / MODEL_FILE

    @cached_property
    def blueprint(self) -> Blueprint:
        """How to build the network again, as it is when the run begins."""
        return blueprint_as_is(self.network, self.spec)

    def find(self, finding: Finding) -> None:
        """Note what was found, in the place of what a run that was resumed had found of the kind."""
        self.findings[:] = [*(one for one in self.findings if one.code != finding.code), finding]

    def stop(self, reason: str) -> None:
        """Ask the run to stop after this step, of several processes after the next; the first reason given is kept."""
        self.asked = self.asked or reason
        if not processes.several():
            self.stop_reason = self.stop_reason or reason


INTERRUPTED, TERMINATED = "interrupted", "terminated"  # by Ctrl-C, by SIGTERM


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the files of the checkpoints in a run's folder, the newest first, whole or not."""
    files = (folder / CHECKPOINT_FOLDER).glob("step-*.safetensors")
    steps = {path: path.stem.removeprefix("step-") for path in files}
    return sorted((path for path, step in steps.items() if step.isdecimal()), key=lambda path: -int(steps[path]))


def check_free(folder: Path) -> None:
    """Refuse a folder that holds anything already, or lies where nothing can be written. Makes nothing.

    Raises:
        FileError: it cannot be used.
    """
    with _written_to(folder):
        if (folder / MODEL_FILE).exists() or checkpoints_in(folder):
            resume = shlex.quote(str(folder))
            raise FileError(f"{folder} holds a run already. Name another folder, or go on with it: --resume {resume}.")
        if folder.is_dir() and any(folder.iterdir()):
            raise FileError(f"{folder} must be new or empty, and holds other files. Name another folder with --output.")
    check_writable(folder)


def check_writable(folder: Path, otherwise: str = _NAME_ANOTHER) -> None:
    """Refuse a folder that lies where nothing can be written. Makes nothing.

    Args:
        otherwise: what to do then.

    Raises:
        FileError: it cannot be used.
    """
    with _written_to(folder, otherwise):
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            code = errno.EACCES if there.is_dir() else errno.ENOTDIR
            raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def _written_to(folder: Path, otherwise: str = _NAME_ANOTHER) -> Iterator[None]:
    """Say in words what the system says of a folder that is to be written."""
    try:
        yield
    except OSError as error:
        raise FileError(f"Cannot write to {folder}: {error.strerror}. {otherwise}") from error


def run_folder(named: str | Path | None, data: str, network: str, root: Path = RUNS) -> Path:
    """Make the folder of a run: the one that was named, else ``<root>/<data>-<network>-<n>`` with the next number.

    Raises:
        FileError: it cannot be written, or holds a run already.
    """
    with _written_to(Path(named or root)):
        if named is None:
            return _next_folder(root, re.sub(r"[^A-Za-z0-9_.]+", "_", data).strip("_.") or "data", network)
        check_free(Path(named))
        Path(named).mkdir(parents=True, exist_ok=True)
        return Path(named)


def _next_folder(root: Path, data: str, network: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = root / f"{data}-{network}-{number}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError
