"""The observer: when the doctor looks, and whom it tells."""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import final

from torch import Tensor, nn

from striate.core.errors import FileError, TrainingError
from striate.core.finding import Finding
from striate.core.terminal import patient
from striate.training.doctor import before, outcome, rates, signals, splits
from striate.training.doctor.evidence import Evidence, loss_of_no_answer
from striate.training.doctor.folder import read_findings, write_findings
from striate.training.doctor.look import compare_modes, learning_weights, norms, take_look
from striate.training.doctor.replay import explain_gradient
from striate.training.events import Observer
from striate.training.losses import Together
from striate.training.optim.groups import of_norms
from striate.training.run import Run

Rule = Callable[[Evidence], Iterator[Finding]]

EARLY = (0, 10, 40, 160)  # steps that are looked at besides every so many and the last: most goes wrong early
EVERY = 640
COUNTED = 4  # of so many steps the answers of one are counted, but all of the last epoch, which is judged

_RANK = {"note": 0, "warning": 1, "error": 2}

BEFORE: tuple[Rule, ...] = (
    before.structure,
    before.one_label,
    before.blank_pictures,
    before.tiny_set,
    before.class_without_pictures,
    before.small_norm_batch,
    before.norm_momentum,
    before.momentum,
    before.dropout,
    before.smoothing,
)
FIRST: tuple[Rule, ...] = (
    before.unnormalised,
    before.loud_start,
    before.duplicates,
    rates.penalty,
    signals.activation_at_end,
)
LATER: tuple[Rule, ...] = (
    signals.dead_units,
    signals.saturated_units,
    signals.fading_gradients,
    signals.no_gradient,
    signals.same_for_all,
    rates.rate_too_high,
    rates.nothing_moves,
    rates.layer_stands_still,
    rates.clipping,
)
EPOCH: tuple[Rule, ...] = (*LATER, outcome.one_class_said)
AFTER: tuple[Rule, ...] = (
    rates.rate_too_low,
    rates.few_steps,
    outcome.shuffled,
    outcome.evaluation_by_chance,
    outcome.pictures_mixed,
    outcome.norms_evaluating,
    splits.val_unlike_train,
    splits.noisy_labels,
    outcome.overfitting,
    outcome.underfitting,
    outcome.norm_gap,
    outcome.frozen,
    outcome.rare_ignored,
    outcome.nothing_learned,
    before.duplicates,
)


@final
class Doctor(Observer):
    """Looks at a few early steps, then ever more rarely, and at the last; a finding is said once, when first made.

    All it reads is copied: a run has the same weights, bit for bit, with it and without it.

    Args:
        say: is told each new warning and error in one line; standard error where None.
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say or _to_standard_error
        self._evidence: Evidence | None = None
        self._before_update: list[Tensor] | None = None
        self._parameters: list[Tensor] = []
        self._gates: list[Tensor] = []
        self._epoch = -1
        self._written: list[Finding] | None = None
        self._answers = Together(lambda logits, targets: self._known.see_answers(logits.argmax(1), targets))

    def on_train_begin(self, run: Run) -> None:
        """Take up what was found before a resumed run was stopped, and look at pictures and network."""
        self._evidence = Evidence(run, run.class_shares, loss_of_no_answer(run), before.advice(run))
        self._parameters = [*run.network.parameters()]
        self._gates = _gates_of(run.network)
        if run.step:
            with contextlib.suppress(FileError):
                run.findings.extend(read_findings(run.folder))
        self._consult(BEFORE)
        self._write(run)

    def on_backward_end(self, run: Run) -> None:
        """Refuse gradients that are not finite before they reach the weights; at some steps, look."""
        assert run.seen is not None
        evidence = self._known
        self._refuse_non_finite(run)
        if self._looks_at(run):
            evidence.looks.append(take_look(run, evaluate=run.step == run.total_steps - 1))
            self._before_update = [p.detach().clone() for p in learning_weights(run.network).values()]

    def _refuse_non_finite(self, run: Run) -> None:
        # What is not finite on the way back reaches the first layers; the last one has what comes from the loss alone,
        # and a gate or a scale what comes from itself.
        first = next((p.grad for p in self._parameters if p.grad is not None), None)
        last = next((p.grad for p in reversed(self._parameters) if p.grad is not None), None)
        asked = [one for one in (first, last, *(p.grad for p in self._gates)) if one is not None]
        if not all(math.isfinite(one.sum().item()) or bool(one.isfinite().all()) for one in asked):
            finding = explain_gradient(run)
            run.find(finding)
            raise TrainingError(
                f"{finding.message} Training stopped there; the last good state is in {run.checkpoint}. {finding.fix}"
            )

    def on_batch_end(self, run: Run) -> None:
        """Note the loss and the answers; after a look, how far the update went, and what follows from all that."""
        evidence = self._known
        evidence.see_step(run.loss)
        few, last = run.steps_per_epoch < COUNTED, run.step > run.total_steps - run.steps_per_epoch
        if run.step % COUNTED == 0 or few or last:
            self._count(run)
        if self._before_update is None:
            return
        look, old = evidence.looks[-1], self._before_update
        self._before_update = None
        new = learning_weights(run.network).values()
        moved = norms([one.detach() - before for one, before in zip(new, old, strict=True)])
        learning = [(one, m) for one, m in zip(look.layers, moved, strict=True) if one.gradient]
        look.still = tuple(one.name for one, m in learning if not m)
        shares = [m / one.weight for one, m in learning if one.weight > 0]
        look.update = statistics.median_low(shares) if shares else math.nan
        look.learning_rate = run.learning_rate
        if len(evidence.looks) == 1:
            self._consult(FIRST)
        self._consult(LATER)
        self._write(run)  # a run that is killed leaves what was known by then

    def _count(self, run: Run) -> None:
        """Note which classes are said in the epoch; several steps are added up at once, which costs less."""
        seen = run.seen
        assert seen is not None
        assert seen.logits is not None
        if not self._known.single:
            return
        epoch = (run.step - 1) // run.steps_per_epoch
        if epoch != self._epoch:
            self._epoch = epoch
            self._answers.forget()
            self._known.forget_answers()
        self._answers.add(seen.logits, seen.targets)

    def on_epoch_end(self, run: Run) -> None:
        """Say what the epoch shows, and write down all that was found."""
        self._consult(EPOCH)
        self._write(run)

    def on_train_end(self, run: Run) -> None:
        """Say what came of it, and write down all that was found; a run that broke off is not judged as ended."""
        if self._evidence is None:  # it broke off before the doctor came
            return
        # Nothing is learned where a run that has ended is resumed: what came of it was said.
        self._evidence.ended = not (run.interrupted or run.broke_off) and run.seen is not None
        self._compare_with_evaluation(run)
        self._consult((*EPOCH, *AFTER))
        self._write(run)

    def _write(self, run: Run) -> None:
        """Write down what was found, where that is new; a full disk is said by the checkpoint, which may find room."""
        if run.findings != self._written:
            with contextlib.suppress(FileError):
                write_findings(run.folder, run.findings)
                self._written = [*run.findings]

    def _compare_with_evaluation(self, run: Run) -> None:
        """Look at training and evaluation where the run ended before the step at which that was planned."""
        looks = self._known.looks
        if self._known.ended and looks and looks[-1].compared is None:
            looks[-1].compared = compare_modes(run)

    def _looks_at(self, run: Run) -> bool:
        return run.step in EARLY or run.step % EVERY == 0 or run.step == run.total_steps - 1

    @property
    def _known(self) -> Evidence:
        assert self._evidence is not None
        return self._evidence

    def _consult(self, rules: tuple[Rule, ...]) -> None:
        """Ask rules, and say what is new: each kind of finding once, and again where it has become worse."""
        self._answers.count()
        run = self._known.run
        for rule in rules:
            for finding in rule(self._known):
                known = [one for one in run.findings if one.code == finding.code]
                if any(_RANK[one.severity] >= _RANK[finding.severity] for one in known):
                    continue
                run.find(finding)
                if finding.severity != "note":
                    self._say(f"{finding.severity}: {finding.where}: {finding.message} {finding.fix}")


def _gates_of(network: nn.Module) -> list[Tensor]:
    """Return the parameters that are no biases, in no norm and along one dimension: gates, scales, temperatures."""
    scales, named = of_norms(network), network.named_parameters()
    alone = [(name, p) for name, p in named if p.numel() == max(p.shape, default=1)]
    return [p for name, p in alone if not name.endswith("bias") and p not in scales]


def _to_standard_error(words: str) -> None:
    print(words, file=patient(sys.stderr), flush=True)
