"""fit: one loop, from the first batch to the saved network."""

from __future__ import annotations

import bisect
import contextlib
import copy
import itertools
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from striate.core import machine
from striate.core.errors import NetworkError, RecipeError, TrainingError
from striate.core.machine import Execution
from striate.data.augment.augment import training_batch
from striate.data.augment.policy import check_policy
from striate.data.balance import balancing_shares, class_counts, class_shares
from striate.data.batches import Batch, batch_count, epoch_batches
from striate.data.imageset import ImageSet, Split
from striate.data.keyed import keyed_generator, keyed_seed
from striate.data.preprocess import normalise
from striate.data.stream.stream import Stream
from striate.evaluation.multilabel import fit_thresholds, mean_average_precision
from striate.networks import contract, saved
from striate.prediction.predictor import compute_logits
from striate.training import checkpoint
from striate.training.average import WeightAverage
from striate.training.events import Observer
from striate.training.losses import class_weights, compute_loss, count_correct, main_logits, resolve_loss
from striate.training.observers import default_observers
from striate.training.optim import Updater, check_stage_names
from striate.training.recipe import Recipe
from striate.training.run import CHECKPOINT_FILE, INTERRUPTED, RECIPE_FILE, Best, Run, Tally, run_folder
from striate.training.schedule import learning_rate_factor

CHECKPOINT_SECONDS = 60.0  # the longest stretch of work that a crash can cost, besides the end of every epoch
PREPARE_PICTURES = 5_000  # what a network's own data-dependent initialisation is shown at most
PREPARE_BYTES = 64 << 20  # of them as floats: large pictures have as many patches with fewer
# What a target is compared with, by what the weights are chosen by.
_ERRORS = {
    "val_accuracy": "the error on val",
    "val_balanced_accuracy": "1 − balanced accuracy on val",
    "val_mean_average_precision": "1 − mean average precision on val",
}
_PREPARE_STREAM = -1  # keys the choice of these pictures; epochs are 0 and up


def fit(
    network: nn.Module,
    images: ImageSet,
    recipe: Recipe | None = None,
    *,
    folder: str | Path | None = None,
    resume: str | Path | None = None,
    observers: Sequence[Observer] = (),
    progress: bool = True,
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
        observers: are told what happens, see `Observer`.
        progress: whether to show a progress bar, or a line per epoch where there is no terminal.
        changes: fields of the recipe by name, such as ``epochs=5``.

    Returns:
        The run: ``run.network`` (the weights that did best on val, or the last), ``run.history``, ``run.folder``.

    Raises:
        NetworkError: the network does not fit the pictures.
        RecipeError: a field or value that a recipe does not have, or that does not fit the network or the pictures.
        TrainingError: the loss is no longer finite.
        FileError: the folder cannot be written, or holds no checkpoint to resume.
    """
    if resume and (recipe or folder or changes):
        raise RecipeError("A resumed run keeps its own recipe and folder: leave them out with resume.")
    if resume:
        recipe = Recipe(**checkpoint.read_header(Path(resume)).recipe)
    recipe = (recipe or Recipe()).changed(**changes)
    machine.keep_buffers()
    _rehearse(network, images, recipe)
    whole = recipe.learn_from == "train+val"
    learned, val = (images.train_and_val, None) if whole else (images.learned, images.val)
    run = _start(network, images, recipe, len(learned))
    contract.remember_spec(network, images.spec)
    run.folder = Path(resume) if resume else run_folder(folder, images.name, run.blueprint.short_name)
    watchers = [*observers, *default_observers(progress)]
    with _threads(recipe.threads), _interruptible(run), torch.random.fork_rng():
        try:
            _train(run, learned, val, watchers, resuming=resume is not None)
        except BaseException as error:
            run.stop(type(error).__name__)
            raise
        finally:
            _tell(watchers, "on_train_end", run)
    return run


def _train(run: Run, learned: Split | Stream, val: Split | None, observers: list[Observer], *, resuming: bool) -> None:
    start = time.perf_counter()
    execution = _resolve(run, learned)
    several = run.spec.task.labels == "multi"
    weights = class_weights(run.recipe, run.spec.task, _class_shares(learned))
    run.class_weights = None if weights is None else weights.to(machine.device())
    if not resuming:
        _prepare(run, learned)
    execution.place(run.network)
    updater = Updater(run.network, run.recipe)
    average = WeightAverage(run.network, run.recipe.average_decay) if run.recipe.average == "ema" else None
    if resuming:
        checkpoint.restore(run, updater, average)
        start -= run.train_seconds
    else:
        run.recipe.write(run.folder / RECIPE_FILE)
        checkpoint.save(run, updater, average)
    saved_at = time.perf_counter()
    _tell(observers, "on_train_begin", run)

    for epoch, phase_number in _epochs_left(run):
        updater.begin(run.recipe.plan[phase_number])
        for pictures, targets in _batches_left(run, learned, epoch, phase_number, execution):
            machine.seed_draws(keyed_seed(run.recipe.seed, run.step))  # dropout and the like
            with execution.autocast():
                outputs = run.network(pictures)
            loss = compute_loss(outputs, targets, run.network, run.recipe, several=several, weights=run.class_weights)
            run.loss = _finite(loss.item(), "loss", run)
            loss.backward()  # type: ignore[no-untyped-call]
            run.learning_rate = run.recipe.learning_rate * learning_rate_factor(run.recipe, run.step, run.total_steps)
            updater.step(phase_number, run.learning_rate)
            run.step += 1
            if average is not None:
                average.update(run.network, run.step)
            run.tally.add(len(targets), run.loss, count_correct(main_logits(outputs), targets, several=several))
            run.train_seconds = time.perf_counter() - start
            _tell(observers, "on_batch_end", run)
            if run.stop_reason:
                break
            if time.perf_counter() - saved_at > CHECKPOINT_SECONDS and not run.ends_epoch:
                checkpoint.save(run, updater, average)
                saved_at = time.perf_counter()
        if run.ends_epoch:
            _end_epoch(run, val, epoch + 1, average.network if average else run.network, execution)
            _tell(observers, "on_epoch_end", run)
        checkpoint.save(run, updater, average)
        if run.stop_reason:
            break

    updater.end()
    _finish(run, val, average)


def _start(network: nn.Module, images: ImageSet, recipe: Recipe, count: int) -> Run:
    return Run(
        network=network,
        spec=images.spec,
        recipe=recipe,
        data={"name": images.name, "fingerprint": images.fingerprint, "source": images.source},
        # A shorter last batch would weigh its few pictures more, and one picture alone has no batch statistics.
        steps_per_epoch=batch_count(count, recipe.batch_size, drop_last=count >= recipe.batch_size),
        train_pictures=count,
    )


def _resolve(run: Run, learned: Split | Stream) -> Execution:
    """Measure what the recipe leaves open, and write it into the run's recipe."""
    recipe, task = run.recipe, run.spec.task
    some = _some(learned, recipe.batch_size)
    first, labels = some.images, some.labels.to(machine.device())

    def train_once(network: nn.Module, execution: Execution) -> None:
        with execution.autocast():
            outputs = network(execution.arrange(normalise(first, run.spec.input)))
        loss = compute_loss(outputs, labels, network, recipe, several=task.labels == "multi")
        loss.backward()  # type: ignore[no-untyped-call]

    execution, run.seconds_per_step = machine.fastest_execution(
        run.network,
        train_once,
        precision=recipe.precision,
        memory_format=recipe.memory_format,
        key=f"{run.network} {tuple(first.shape)}",
    )
    run.recipe = recipe.changed(
        loss=resolve_loss(recipe, task),
        precision=execution.precision,
        memory_format=execution.memory_format,
        threads=torch.get_num_threads(),
    )
    return execution


def _rehearse(network: nn.Module, images: ImageSet, recipe: Recipe) -> None:
    """Refuse, before anything is written, what would fail in the middle of the run.

    A copy of the network takes one training step on two pictures of every size that the phases train at.
    """
    contract.check(network, images.spec)
    check_stage_names(network, recipe)
    saved.storable(network.state_dict())
    resolve_loss(recipe, images.spec.task)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise NetworkError("The network must have parameters that learn, got none. Give it a conv or an fc.")
    _check_streamable(images.learned, recipe)
    two = _some(images.learned, 2)
    for resolution in {phase.resolution for phase in recipe.plan}:
        size = (resolution, resolution) if resolution else (images.spec.input.height, images.spec.input.width)
        check_policy(recipe, images.spec.input, size)
        try:
            with torch.random.fork_rng():
                batch = next(epoch_batches(two, 2, size=size if resolution else None))
                trial = copy.deepcopy(network).train()
                pictures, targets = training_batch(batch, recipe, images.spec, size=size, epoch=0, seed=recipe.seed)
                compute_loss(trial(pictures), targets, trial, recipe, several=images.spec.task.labels == "multi")
        except RuntimeError as error:
            raise NetworkError(
                f"The network cannot be trained on pictures of {min(size)}×{min(size)}: {str(error).splitlines()[0]}."
            ) from error


def _some(learned: Split | Stream, pictures: int) -> Split:
    """Return some pictures to measure and to rehearse with: the first ones, or some of a stream."""
    return learned.some(pictures) if isinstance(learned, Stream) else learned[:pictures]


def _class_shares(learned: Split | Stream) -> Tensor:
    """Return the part of the pictures that have each class: (K,) float64."""
    if isinstance(learned, Stream):
        return torch.tensor(learned.class_shares, dtype=torch.float64)
    return class_shares(learned.labels, learned.spec.task.classes)


def _check_streamable(learned: Split | Stream, recipe: Recipe) -> None:
    """Refuse what needs the label of every single picture, or all of them in memory."""
    for field, only in (("learn_from", "train"), ("sampling", "uniform")):
        if isinstance(learned, Stream) and getattr(recipe, field) != only:
            raise RecipeError(f"{field} must be {only} for a stream of shards, got {getattr(recipe, field)}.")


def _prepare(run: Run, learned: Split | Stream) -> None:
    """Let the network initialise itself from pictures, where it does: SpeedNet's whitening."""
    prepare = getattr(run.network, "prepare", None)
    if not callable(prepare):
        return
    pictures = min(PREPARE_PICTURES, 1 + PREPARE_BYTES // (4 * math.prod(run.spec.input.shape)))
    if isinstance(learned, Stream):
        images = learned.some(pictures, run.recipe.seed).images
    else:
        order = torch.randperm(len(learned), generator=keyed_generator(run.recipe.seed, _PREPARE_STREAM))
        images = learned.images.index_select(0, order[:pictures])
    prepare(normalise(images, run.spec.input))


def _epochs_left(run: Run) -> Iterator[tuple[int, int]]:
    """Yield (epoch, number of its phase) from where the run stands; nothing where it has ended."""
    ends = list(itertools.accumulate(math.ceil(phase.epochs) for phase in run.recipe.plan))
    if not run.stop_reason:
        for epoch in range(run.epoch, run.epochs):
            yield epoch, bisect.bisect_right(ends, epoch)


def _batches_left(
    run: Run, learned: Split | Stream, epoch: int, phase_number: int, execution: Execution
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pictures (B, C, H, W), augmented and normalised, and their targets, of what is left of an epoch."""
    recipe, resolution, device = run.recipe, run.recipe.plan[phase_number].resolution, machine.device()
    size = (resolution, resolution) if resolution else (run.spec.input.height, run.spec.input.width)
    shares = None
    if isinstance(learned, Split) and recipe.sampling == "balanced":
        shares = balancing_shares(learned.labels, run.spec.task.classes)
    batches = epoch_batches(
        learned,
        recipe.batch_size,
        epoch=epoch,
        seed=recipe.seed,
        drop_last=run.train_pictures >= recipe.batch_size,
        start_batch=run.step - epoch * run.steps_per_epoch,
        size=size if resolution else None,
        shares=shares,
    )
    for batch in itertools.islice(batches, run.total_steps - run.step):
        batch = Batch(*(one.to(device, non_blocking=True) for one in (batch.images, batch.labels, batch.index)))
        pictures, targets = training_batch(batch, recipe, run.spec, size=size, epoch=epoch, seed=recipe.seed)
        yield execution.arrange(pictures), targets


def _end_epoch(run: Run, val: Split | None, epoch: int, network: nn.Module, execution: Execution) -> None:
    """Write down how the epoch went, and choose by val where there is one."""
    run.history.append(
        {
            "epoch": epoch,
            "step": run.step,
            "seconds": run.train_seconds,
            "learning_rate": run.learning_rate,
            "loss": run.tally.loss / run.tally.pictures,
            "accuracy": run.tally.correct / run.tally.pictures,
        }
    )
    run.tally = Tally()
    if val is not None:
        _choose(run, val, epoch, network, execution)


def _choose(run: Run, val: Split, epoch: int, network: nn.Module, execution: Execution) -> None:
    """Measure on val, keep the weights where they are the best so far, and stop where the recipe says so."""
    logits = compute_logits(network, val.images, run.spec.input, execution)  # (N, K)
    measured = _measure(logits, val, balanced=run.chosen_by == "val_balanced_accuracy")
    loss = _finite(measured["val_loss"], "loss on val", run)
    run.history[-1] |= measured
    score = measured[run.chosen_by]
    if run.best is None or (score, -loss) > (run.best.score, -run.best.loss):
        state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        run.best = Best(epoch, score, loss, state)
    patience, target = run.recipe.early_stopping_epochs, run.recipe.target_error
    if target is not None and 1 - score <= target:
        what = _ERRORS[run.chosen_by]
        run.stop_reason = f"{what}, {1 - score:.2%}, has reached the target of {target:.2%}"
    elif patience is not None and epoch - run.best.epoch >= patience:
        run.stop_reason = f"val has not improved for {patience} epochs"


def _measure(logits: Tensor, val: Split, *, balanced: bool) -> dict[str, float]:
    """Return what the history says of logits (N, K) of val; see `Run`."""
    several = val.spec.task.labels == "multi"
    accuracy = {"val_accuracy": count_correct(logits, val.labels, several=several) / len(val)}
    if several:
        loss = nn.functional.binary_cross_entropy_with_logits(logits, val.labels.float()).item()
        return {"val_loss": loss, **accuracy, "val_mean_average_precision": mean_average_precision(logits, val.labels)}
    if balanced:
        accuracy["val_balanced_accuracy"] = _balanced_accuracy(logits.argmax(1), val.labels, logits.shape[1])
    return {"val_loss": nn.functional.cross_entropy(logits, val.labels).item(), **accuracy}


def _balanced_accuracy(said: Tensor, labels: Tensor, classes: int) -> float:
    """Return the mean recall of the classes that have pictures (Brodersen et al., ICPR 2010)."""
    own, found = class_counts(labels, classes), class_counts(labels[said == labels], classes)
    return (found[own > 0].double() / own[own > 0]).mean().item()


def _finish(run: Run, val: Split | None, average: WeightAverage | None) -> None:
    """Give the network the weights that did best on val, or its last ones where nothing was measured, and save it."""
    last = average.network if average else run.network
    run.network.load_state_dict(run.best.state if run.best else last.state_dict())
    run.network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    if val is not None and run.spec.task.labels == "multi":
        logits = compute_logits(run.network, val.images, run.spec.input)
        task = run.spec.task.model_copy(update={"thresholds": fit_thresholds(logits, val.labels)})
        run.spec = run.spec.model_copy(update={"task": task})
        contract.remember_spec(run.network, run.spec)
    metrics = {"val_accuracy": run.val_accuracy, "train_seconds": run.train_seconds}
    if run.best is not None:
        metrics[run.chosen_by] = run.best.score
    saved.save(
        run.model_path,
        run.network,
        run.spec,
        recipe=run.recipe.model_dump(mode="json"),
        metrics=metrics,
        data={"name": run.data["name"], "fingerprint": run.data["fingerprint"]},
    )


def _finite(loss: float, which: str, run: Run) -> float:
    if math.isfinite(loss):
        return loss
    step = run.step if which == "loss on val" else run.step + 1
    raise TrainingError(
        f"The {which} became {loss} at step {step} (epoch {(step - 1) // run.steps_per_epoch + 1}, batch "
        f"{(step - 1) % run.steps_per_epoch + 1}), so training stopped there; the last good state is in "
        f"{run.folder / CHECKPOINT_FILE}. Try a lower learning rate (--lr {run.recipe.learning_rate / 10:g})."
    )


def _tell(observers: list[Observer], event: str, run: Run) -> None:
    for observer in observers:
        getattr(observer, event)(run)


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _interruptible(run: Run) -> Iterator[None]:
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
