"""The forward pass of a training step: what the loop does, and whatever measures or tries it beforehand."""

from __future__ import annotations

from torch import Tensor

from striate.core import machine, processes
from striate.core.machine import Execution
from striate.data.keyed import keyed_seed
from striate.networks.contract import Outputs
from striate.training.data_parallel import share_of_loss
from striate.training.losses import compute_loss, main_logits
from striate.training.run import Run, Seen


def seed_step(run: Run) -> None:
    """Seed what the network draws in the step that is under way, dropout and the like; in every process otherwise."""
    machine.seed_draws(keyed_seed(run.recipe.seed, run.step, *processes.own_key()))


def forward(run: Run, seen: Seen, execution: Execution) -> Tensor:
    """Return the loss of a batch, of several processes this one's part of it, and note what the network answered."""
    seed_step(run)
    outputs = execution.forward(run.network, seen.pictures)
    run.seen, seen.logits = seen, main_logits(outputs).detach()
    return share_of_loss(run, loss_of(run, outputs, seen.targets), len(seen.targets))


def loss_of(run: Run, outputs: Tensor | Outputs, targets: Tensor) -> Tensor:
    """Return the loss of a batch as the run counts it, each class by its weight. See `compute_loss`."""
    several = run.spec.task.several
    return compute_loss(outputs, targets, run.network, run.recipe, several=several, weights=run.class_weights)
