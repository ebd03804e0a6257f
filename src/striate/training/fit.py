"""fit: one loop, from the first batch to the saved network."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from striate.core import files, machine, processes
from striate.core.errors import DataError, RecipeError, expect
from striate.core.machine import Execution
from striate.data.batches import batch_count
from striate.data.imageset import ImageSet, Split
from striate.data.preprocess import normalise
from striate.data.stream.stream import Stream
from striate.evaluation.multilabel import fit_thresholds
from striate.networks import contract, saved
from striate.networks.layers.sync_norm import synchronised
from striate.prediction.predictor import compute_logits
from striate.training import checkpoint
from striate.training.average import WeightAverage
from striate.training.budget import Budget, budget_seconds, look_ahead
from striate.training.checkpoint import Checkpoint, Checkpoints
from striate.training.data_parallel import elapsed, meet, reduce_step, share_statistics, share_weights
from striate.training.events import Observer
from striate.training.feed import batches_left, epochs_left, resident
from striate.training.forward import forward
from striate.training.interruption import interruptible
from striate.training.losses import compute_loss, resolve_loss
from striate.training.memory import memory_explained
from striate.training.observers import default_observers
from striate.training.optim import Updater
from striate.training.penalty import Penalty
from striate.training.prepare import prepare
from striate.training.recipe import Recipe
from striate.training.rehearsal import rehearse, some_pictures
from striate.training.run import INTERRUPTED, RECIPE_FILE, RUNS, TERMINATED, Run, check_free, check_writable, run_folder
from striate.training.schedule import learning_rate_factor
from striate.training.validation import end_epoch, finite


def fit(
    network: nn.Module,
    images: ImageSet,
    recipe: Recipe | None = None,
    *,
    folder: str | Path | None = None,
    resume: str | Path | None = None,
    observers: Sequence[Observer] = (),
    progress: bool = True,
    budget: str | float | None = None,
    doctor: bool = True,
    **changes: Any,
) -> Run:
    """Train a network.

    Every choice is made on ``images.val``: by the accuracy; by the balanced accuracy where the recipe balances the
    classes; by the mean average precision where pictures may have several labels, whose thresholds are then fitted
    there. ``images.test`` is never touched. A recipe that learns from
    train+val chooses nothing and keeps the last weights. The first Ctrl-C finishes the step, saves and returns what
    there is.

    Args:
        network: images (N, C, H, W) → logits (N, K); trained in place.
        images: what to learn from.
        recipe: the hyper-parameters; the defaults of `Recipe` where none is given.
        folder: where to write; ``runs/<data>-<network>-<n>`` where none is given.
        resume: the folder of a run that was stopped: it goes on there, with its own recipe, to the same weights as
            if it had never stopped.
        observers: are told what happens, see `Observer`; of several processes, those of the first.
        progress: whether to show a progress bar, or a line per epoch where there is no terminal.
        budget: the training time, in seconds or in words such as ``20m``: it chooses the epochs in the place of the
            recipe's, and corrects them meanwhile so that the schedule ends on time.
        doctor: whether to look for what is wrong while it trains, see `Doctor`.
        changes: fields of the recipe by name, such as ``epochs=5``.

    Returns:
        The run: ``run.network`` (the weights that did best on val, or the last), ``run.history``, ``run.folder``.

    Raises:
        NetworkError: the network does not fit the pictures.
        DataError: the pictures are no ImageSet.
        RecipeError: a field or value that a recipe does not have, or that does not fit the network or the pictures.
        TrainingError: the loss is no longer finite.
        FileError: the folder cannot be written, holds no checkpoint to resume, or another process trains in it.
    """
    contract.expect_network(network)
    expect(images, ImageSet, DataError, 'images must be an ImageSet, such as st.load_data("digits")')
    expect(recipe or Recipe(), Recipe, RecipeError, "recipe must be a Recipe, such as st.Recipe(epochs=5)")
    if resume and (recipe or folder or changes or budget is not None):
        raise RecipeError("A resumed run keeps its own recipe and folder: leave them out with resume.")
    held = checkpoint.read(Path(resume)) if resume else None
    if held is not None:
        recipe = held.recipe
    if budget is not None and "epochs" in changes:
        raise RecipeError("A budget chooses the epochs: leave out epochs, or the budget.")
    recipe = (recipe or Recipe()).changed(**changes)
    _check_place(folder, resume)
    machine.use_device(recipe.device)
    if recipe.keep_buffers:
        machine.keep_buffers()
    began = time.perf_counter()
    need = rehearse(network, images, recipe)
    whole = recipe.learn_from == "train+val"
    learned, val = (images.train_and_val, None) if whole else (images.learned, images.val)
    run = _start(network, images, recipe, learned)
    run.began, run.val = began, val
    run.expected_bytes = need.bytes(run.own_batch_size)
    run.budget_seconds = held.header.budget_seconds if held else budget_seconds(budget)
    contract.remember_spec(network, images.spec)
    meet(run, resumed=held is not None)
    watchers = [*observers, *default_observers(progress, doctor)] if processes.first() else []
    explained = memory_explained(need, run.batch_size)
    with machine.threads(recipe.threads), interruptible(run), explained, machine.keeping_draws():
        execution = _resolve(run)
        timing = look_ahead(run, val, execution, resuming=held is not None)
        run.folder = Path(resume) if resume else _new_folder(run, folder)
        with files.held_alone(run.folder) if processes.first() else contextlib.nullcontext():
            _train(run, val, watchers, execution, timing, held)
    return run


def _train(
    run: Run,
    val: Split | None,
    observers: list[Observer],
    execution: Execution,
    timing: Budget | None,
    held: Checkpoint | None,
) -> None:
    if held is None:
        prepare(run)
    share_weights(execution.place(run.network))
    updater = Updater(run.network, run.recipe)
    average = WeightAverage(run.network, run.recipe.average_decay) if run.recipe.average == "ema" else None
    checkpoints = Checkpoints(run, updater, average)
    if held is not None:
        checkpoints.restore(held)
        run.began -= run.train_seconds
    else:
        _write_recipe(run)
        checkpoints.save()
    with _watched(run, observers):
        try:
            _take_steps(run, val, observers, execution, timing, updater, average, checkpoints)
        finally:
            updater.end()  # whatever broke off, the network is not left frozen
        checkpoints.save()
        _finish(run, val, average)
        if run.finished and run.stop_reason in (INTERRUPTED, TERMINATED):  # too late to stop anything
            run.stop_reason = None


@contextlib.contextmanager
def _watched(run: Run, observers: list[Observer]) -> Iterator[None]:
    """Tell observers of the beginning and, whatever happens, of the end; neither, where it does not come to that."""
    try:
        _tell(observers, "on_train_begin", run)
        yield
    except BaseException as error:
        run.stop_reason, run.broke_off = run.stop_reason or type(error).__name__, True
        for observer in observers:
            with contextlib.suppress(Exception):  # what is said is why it broke off
                observer.on_train_end(run)
        raise
    _tell(observers, "on_train_end", run)


def _take_steps(
    run: Run,
    val: Split | None,
    observers: list[Observer],
    execution: Execution,
    timing: Budget | None,
    updater: Updater,
    average: WeightAverage | None,
    checkpoints: Checkpoints,
) -> None:
    """Train from where the run stands to its end, or to where it is stopped."""
    penalty, here = Penalty(run.network, run.recipe), resident(run)
    for epoch, phase_number in epochs_left(run):
        updater.begin(run.recipe.plan[phase_number])
        for seen in batches_left(run, epoch, phase_number, execution, here):
            with synchronised(run.recipe.sync_norm):
                loss = forward(run, seen, execution)
            loss.backward()  # type: ignore[no-untyped-call]
            run.loss = reduce_step(run, loss.item(), seen)
            finite(run)
            _tell(observers, "on_backward_end", run)
            penalty.add_gradients()
            factor = learning_rate_factor(run.recipe, run.step, run.total_steps, run.history)
            run.learning_rate = run.recipe.learning_rate * factor
            updater.step(phase_number, run.learning_rate)
            run.step += 1
            if average is not None:
                average.update(run.network, run.step)
            run.tally.add(run.batch_size, run.loss)
            run.train_seconds = elapsed(run)
            if timing is not None:
                timing.correct(run, phase_number)
            _tell(observers, "on_batch_end", run)
            if run.stop_reason:
                break
            if not run.ends_epoch:
                checkpoints.save_when_due()
        if run.ends_epoch:
            end_epoch(run, val, epoch + 1, average.network if average else run.network, execution, penalty)
            _tell(observers, "on_epoch_end", run)
            checkpoints.save_when_due()
        if run.stop_reason:
            break


def _check_place(folder: str | Path | None, resume: str | Path | None) -> None:
    """Refuse a place for the run where nothing can be written, before anything is measured."""
    if folder:
        check_free(Path(folder))
    elif processes.several():  # of which the first alone writes, later
        return
    elif resume:
        check_writable(Path(resume), "Copy the run to a place that can be written.")
    else:
        check_writable(RUNS)


def _new_folder(run: Run, named: str | Path | None) -> Path:
    """Make the folder of a run, once for all processes and for those that come after them."""
    made = processes.from_first(lambda: str(run_folder(named, run.data["name"], run.blueprint.short_name)))
    processes.keep("folder", os.path.abspath(made))
    return Path(made)


def _start(network: nn.Module, images: ImageSet, recipe: Recipe, learned: Split | Stream) -> Run:
    count = len(learned)
    return Run(
        network=network,
        spec=images.spec,
        recipe=recipe,
        data={"name": images.name, "fingerprint": images.fingerprint, "source": images.source},
        # A shorter last batch would weigh its few pictures more, and one picture alone has no batch statistics.
        steps_per_epoch=batch_count(count, recipe.batch_size, drop_last=count >= recipe.batch_size),
        learned=learned,
    )


def _resolve(run: Run) -> Execution:
    """Measure what the recipe leaves open, and write it into the run's recipe."""
    recipe, task = run.recipe, run.spec.task
    some = some_pictures(run.learned, run.own_batch_size)
    pictures, labels = (one.to(machine.device()) for one in (some.images, some.labels))
    first = normalise(pictures, run.spec.input)

    def train_once(network: nn.Module, execution: Execution) -> None:
        outputs = execution.forward(network, execution.arrange(first))
        loss = compute_loss(outputs, labels, network, recipe, several=task.several)
        loss.backward()  # type: ignore[no-untyped-call]

    def measure() -> dict[str, Any]:
        execution, seconds = machine.fastest_execution(
            run.network,
            train_once,
            precision=recipe.precision,
            memory_format=recipe.memory_format,
            compiled=recipe.compile,
            steps=run.total_steps,
            budget=run.budget_seconds,
            key=f"{run.network} {tuple(first.shape)}",
        )
        return asdict(execution) | {"seconds": seconds, "threads": torch.get_num_threads()}

    found = processes.from_first(measure)
    execution = Execution(found["precision"], found["memory_format"], found["compiled"])
    pass_seconds = found["seconds"]
    run.expected_seconds = pass_seconds and pass_seconds * run.total_steps
    source = run.data["source"] or {}
    run.recipe = recipe.changed(
        stored_size=recipe.stored_size if run.learned.stored is None else source.get("stored_size", recipe.stored_size),
        loss=resolve_loss(recipe, task),
        precision=execution.precision,
        memory_format=execution.memory_format,
        compile=execution.compiled,
        threads=found["threads"],
    )
    return execution


def _finish(run: Run, val: Split | None, average: WeightAverage | None) -> None:
    """Give the network the weights that did best on val, or its last ones where nothing was measured, and save it."""
    _write_recipe(run)  # a budget may have changed it
    run.network.load_state_dict(run.result(average.network if average else run.network))
    share_statistics(run.network)
    run.network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    if val is not None and run.spec.task.several:
        logits = compute_logits(run.network, val.images, run.spec.input, together=True)
        task = run.spec.task.model_copy(update={"thresholds": fit_thresholds(logits, val.labels)})
        run.spec = run.spec.model_copy(update={"task": task})
        contract.remember_spec(run.network, run.spec)
    metrics = {"val_accuracy": run.val_accuracy, "train_seconds": run.train_seconds}
    if run.best is not None:
        metrics[run.chosen_by] = run.best.score
    if processes.first():
        saved.save(
            run.model_path,
            run.network,
            run.spec,
            recipe=run.recipe.model_dump(mode="json"),
            metrics=metrics,
            data={"name": run.data["name"], "fingerprint": run.data["fingerprint"]},
        )
    processes.wait()


def _write_recipe(run: Run) -> None:
    if processes.first():
        run.recipe.write(run.folder / RECIPE_FILE)


def _tell(observers: list[Observer], event: str, run: Run) -> None:
    for observer in observers:
        getattr(observer, event)(run)
