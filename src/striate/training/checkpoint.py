"""Checkpoints: everything that a run needs to go on as if it had never stopped, each in one safetensors file."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import shlex
import shutil
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from striate.core import machine, processes
from striate.core.errors import FileError, NetworkError, TrainingError
from striate.core.spec import InputSpec, Spec
from striate.networks.build import Blueprint
from striate.networks.saved import METADATA_KEY, read_tensors, storable, with_aliases, write_tensors
from striate.training.average import WeightAverage
from striate.training.optim import Updater
from striate.training.recipe import Recipe, read_recipe
from striate.training.run import CHECKPOINT_FOLDER, RECIPE_FILE, Best, Run, Tally, checkpoints_in

# 2: the score may be another than the accuracy; 3: the accuracy of several labels is of all of them; 4: several files,
# a checksum each; 5: filters as they lie in memory.
FORMAT_VERSION: Literal[5] = 5
KEPT = 2  # where the newest turns out to be damaged, there is the one before it
MOST_COST = 0.01  # the part of the time that writing them may take
MIDDLE_SECONDS = 60.0  # within an epoch they are at least this far apart; the end of one is the better place
_MORE_LATER = 4  # times what the one before the first step takes: it waits for no disk, and holds the weights alone
_CHECKSUM = "checksum"  # the tensor that holds it
# What the file itself has nothing to do with: a network file system that stutters, no memory, no permission.
_NO_DAMAGE = {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_HALF_WRITTEN = (".step-*", ".tmp??????")  # by us; by safetensors, which renames what it wrote itself
_REPLANNED = {"epochs", "pace", "phases"}  # what a run with a budget changes itself, after its last checkpoint too


class TrainedOn(BaseModel):
    """The pictures of a run: their name and fingerprint, and how `load_data` loads them again, where it can."""

    model_config = ConfigDict(extra="forbid")

    name: str
    fingerprint: str
    source: dict[str, Any] | None


class BestSoFar(BaseModel):
    """What `Best` says besides its weights."""

    model_config = ConfigDict(extra="forbid")

    epoch: int
    score: float
    loss: float


class CheckpointHeader(BaseModel):
    """What a checkpoint says besides its tensors; fields as in `Run`.

    ``made_on`` is what the last bits of the weights depend on besides the recipe: see `_made_on`. ``channels_last``
    names the tensors that are stored as (O, H, W, C), as they lie in memory: turning them takes half as long again.
    ``ended`` is whether nothing is left to train; older ones do not say.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    checkpoint_version: Literal[5]
    blueprint: Blueprint
    spec: Spec
    recipe: dict[str, Any]
    data: TrainedOn
    made_on: dict[str, str]
    step: int
    train_seconds: float
    budget_seconds: float | None
    history: list[dict[str, int | float]]
    tally: dict[str, float]
    stop_reason: str | None
    best: BestSoFar | None
    aliases: dict[str, str]
    channels_last: list[str]
    ended: bool | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read, and is whole.

    Args:
        path: of its file.
        header: what it says.
        tensors: network, optimiser, average and best weights, by prefix.
        damaged: newer ones of the same run, which are not.
    """

    path: Path
    header: CheckpointHeader
    tensors: dict[str, Tensor]
    damaged: tuple[Path, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe that the run goes on with.

        Raises:
            FileError: the run's recipe.toml says something else by now.
        """
        recipe, path = Recipe(**self.header.recipe), self.path.parents[1] / RECIPE_FILE
        edited = read_recipe(path) if path.exists() else recipe
        replanned = _REPLANNED if recipe.pace or edited.pace else set()
        for field in type(recipe).model_fields:
            before, now = getattr(recipe, field), getattr(edited, field)
            if before != now and field not in replanned:
                raise FileError(
                    f"A resumed run keeps its recipe: {path} says {now!r} for {field}, the run has {before!r}. "
                    f"Put that back, or start a new run with --config {shlex.quote(str(path))}."
                )
        return recipe


@final
class Checkpoints:
    """The checkpoints of a run that is under way: writes them when they are due, and keeps the last two.

    They are written in the training thread: the processor has as much to do with it as the disk, so that a thread of
    its own would take from the training what it gives.

    Args:
        run: with its network where it is trained.
        updater, average: whose state is saved with it.
    """

    def __init__(self, run: Run, updater: Updater, average: WeightAverage | None) -> None:
        self._run, self._updater, self._average = run, updater, average
        self._whole: list[Path] = []  # the newest last
        self._step = -1
        self._seconds = 0.0  # that the last one took
        self._saved_at = time.perf_counter()
        # A buffer may hold −∞ on purpose, such as the mask of an attention.
        self._unchecked = {f"network.{name}" for name, one in run.network.named_buffers() if not _is_finite(one)}

    def restore(self, held: Checkpoint) -> None:
        """Put the run, its network, its optimiser and its average back to where a checkpoint left them.

        What a crash left besides the last two checkpoints is removed.

        Raises:
            FileError: the checkpoint is of another network or of other pictures.
        """
        run, header = self._run, held.header
        _check_same_run(run, header)
        _check_newest(run, held)
        try:
            with torch.no_grad():
                run.network.load_state_dict(_under("network.", held.tensors))
                if state := _under("optimizer.", held.tensors):
                    self._updater.load_state(state)
                if self._average is not None:
                    average = _under("average.", held.tensors) or run.network.state_dict()
                    self._average.network.load_state_dict(average)
        except RuntimeError as error:
            raise _of_another_network(run.folder) from error
        except KeyError as error:
            raise FileError(
                f"The run in {run.folder} learned other weights ({error}): freeze and unfreeze what was when it began."
            ) from error
        run.step, run.train_seconds, run.history = header.step, header.train_seconds, header.history
        run.stop_reason = run.stop_reason or header.stop_reason  # Ctrl-C may have come first
        run.tally = Tally(int(header.tally["pictures"]), header.tally["loss"], header.tally["correct"])
        if header.best is not None:
            state = _under("best.", held.tensors) or _under("network.", held.tensors)  # of a run that has ended
            # Tensors that were read are the file itself, whose room on the disk would stay taken.
            state = {name: tensor.clone() for name, tensor in state.items()}
            run.best = Best(**header.best.model_dump(), state=state)
        held.tensors.clear()
        run.notes += _notes(held)
        run.checkpoint, self._step = held.path, run.step
        older = [path for path in checkpoints_in(run.folder) if path not in held.damaged and path != held.path]
        self._whole = [*older[:1], held.path]
        if processes.first():
            self._remove_others()  # a run that was killed between writing and removing

    def save_when_due(self) -> None:
        """Write a checkpoint where the last one is long enough ago for its cost.

        When the run ends here, `save` follows anyway.
        """
        wait = self._seconds / MOST_COST
        if not self._run.ends_epoch:
            wait = max(wait, MIDDLE_SECONDS)
        ends = self._run.stop_reason or self._run.finished
        if not ends and time.perf_counter() - self._saved_at >= wait:
            self.save()

    def save(self) -> None:
        """Write the state after ``run.step`` updates, unless that is done already, and remove all but the last two.

        Of several processes, the first does.

        Raises:
            TrainingError: weights or the optimiser's state are no longer finite; nothing is written.
            FileError: it cannot be written; the last checkpoint before it stays as it was.
        """
        run = self._run
        if run.step == self._step or not processes.first():
            return
        start = time.perf_counter()
        state = self._state()
        turned = [name for name, tensor in state.items() if _is_channels_last(tensor)]
        tensors, aliases = storable(state | {name: state[name].permute(0, 2, 3, 1) for name in turned})
        path = run.folder / CHECKPOINT_FOLDER / f"step-{run.step}.safetensors"
        text = _header(run, aliases, turned).model_dump_json()
        with ThreadPoolExecutor(1) as another:  # core, which has nothing to do meanwhile
            checksum = another.submit(_checksum, text, tensors)
            self._check_finite(tensors)
        self._write(path, tensors | {_CHECKSUM: torch.tensor(checksum.result())}, text)
        self._whole = [*self._whole, path][-KEPT:]
        self._remove_others()
        run.checkpoint, self._step = path, run.step
        self._saved_at = time.perf_counter()
        self._seconds = (self._saved_at - start) * (1 if run.step else _MORE_LATER)

    def _state(self) -> dict[str, Tensor]:
        """Return what must be saved: at the start, and at the end of a run, that is less than in the middle."""
        run = self._run
        average = self._average.network if self._average else None
        if run.ended:
            return {f"network.{name}": tensor for name, tensor in run.result(average or run.network).items()}
        state = {f"network.{name}": tensor for name, tensor in run.network.state_dict().items()}
        if run.step:
            state |= {f"optimizer.{name}": tensor for name, tensor in self._updater.state().items()}
        if run.step and average is not None:
            state |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
        if run.best is not None:
            state |= {f"best.{name}": tensor for name, tensor in run.best.state.items()}
        return state

    def _check_finite(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            part, _, own = name.partition(".")
            if f"network.{own}" in self._unchecked or _is_finite(tensor):
                continue
            if self._run.checkpoint is None:
                raise NetworkError(f"The weights must be finite before training, {own} is not. Initialise it anew.")
            raise TrainingError(
                f"{own} ({part}) is no longer finite after step {self._run.step}, so training stopped there; the last "
                f"good state is in {self._run.checkpoint}. Try a lower learning rate "
                f"(--lr {self._run.recipe.learning_rate / 10:g})."
            )

    def _write(self, path: Path, tensors: dict[str, Tensor], text: str) -> None:
        """Write one; where the disk has no room for a third, the older of the two makes room for it."""
        needed = len(text) + sum(tensor.nbytes for tensor in tensors.values())
        synced = self._run.step > 0  # before the first step a power cut can take nothing that was learned
        if shutil.disk_usage(self._run.folder).free < needed:
            self._keep_newest()
        try:
            write_tensors(path, tensors, text, synced=synced)
        except FileError as error:
            if len(self._whole) == KEPT and _is_full(error):  # a quota may leave less than the disk has
                self._keep_newest()
                return self._write(path, tensors, text)
            free = shutil.disk_usage(self._run.folder).free
            room = f", {machine.in_words(free)} are free there" if free < 2 * needed else ""
            last = self._run.checkpoint
            go_on = f"go on from {last.stem}: --resume {shlex.quote(str(self._run.folder))}" if last else "start again"
            raise FileError(f"{error} It takes {machine.in_words(needed)}{room}. Make room and {go_on}.") from error

    def _keep_newest(self) -> None:
        """Remove the older of two checkpoints."""
        self._whole = self._whole[-1:]
        self._remove_others()

    def _remove_others(self) -> None:
        """Remove older checkpoints, damaged ones, and what a crash left half-written."""
        folder = self._run.folder / CHECKPOINT_FOLDER
        half_written = {path for pattern in _HALF_WRITTEN for path in folder.glob(pattern)}
        for path in {*checkpoints_in(self._run.folder), *half_written} - {*self._whole}:
            with contextlib.suppress(OSError):  # no reason to end a run
                path.unlink()


def read(folder: Path) -> Checkpoint:
    """Return the newest checkpoint of a run's folder that is whole.

    Raises:
        FileError: there is none, or it is of another version of striate.
    """
    paths = checkpoints_in(folder)
    for number, path in enumerate(paths):
        found = _read(path)
        if found is not None:
            return Checkpoint(path, *found, damaged=tuple(paths[:number]))
    raise FileError(_why_none(folder))


def read_header(folder: Path) -> CheckpointHeader:
    """Return what the newest whole checkpoint of a run's folder says. Raises as `read`."""
    return read(folder).header


def _read(path: Path) -> tuple[CheckpointHeader, dict[str, Tensor]] | None:
    """Return the content of a file, or None where it is damaged."""
    try:
        metadata, tensors = read_tensors(path)
    except FileError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_DAMAGE:
            raise
        return None
    text, checksum = metadata.get(METADATA_KEY, ""), tensors.pop(_CHECKSUM, None)
    if checksum is None or checksum.numel() != 1 or checksum.item() != _checksum(text, tensors):
        return None
    try:
        content = json.loads(text)
        version = content.get("checkpoint_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise FileError(
                f"{path} was written by a newer striate (checkpoint format {version}, this one reads "
                f"{FORMAT_VERSION}). Resume it with that version."
            )
        header = CheckpointHeader.model_validate(content)
    except (ValueError, ValidationError, RecursionError) as error:
        raise FileError(f"{path} is not a checkpoint that this version of striate can read.") from error
    tensors = with_aliases(path, tensors, header.aliases)
    return header, tensors | {name: tensors[name].permute(0, 3, 1, 2) for name in header.channels_last}


def _check_newest(run: Run, held: Checkpoint) -> None:
    """Refuse to go on from a checkpoint that is not the newest one any more, or not that of the first process.

    Raises:
        FileError: another run has written one since it was read, or a file system shows processes different ones.
    """
    steps = [int(step) for step in processes.side_by_side(torch.tensor(held.header.step)).tolist()]
    if len(set(steps)) > 1:
        found = ", ".join(f"step-{step}" for step in steps)
        raise FileError(f"All processes must go on from the same checkpoint of {run.folder}, they found {found}.")
    newest = next((path for path in checkpoints_in(run.folder) if path not in held.damaged), held.path)
    if processes.first() and newest != held.path:
        raise FileError(f"{run.folder} was trained on while this run began, up to {newest.stem}. Resume it again.")


def _why_none(folder: Path) -> str:
    recipe = folder / RECIPE_FILE
    again = f"with --config {shlex.quote(str(recipe))} if you like"
    if checkpoints_in(folder):
        return f"All checkpoints in {folder / CHECKPOINT_FOLDER} are damaged. Start again, {again}."
    if (folder / CHECKPOINT_FOLDER / "state.safetensors").exists():
        return (
            f"The checkpoint in {folder} is of an older striate, and this one cannot read it. "
            f"Resume it with that version, or start again, {again}."
        )
    if recipe.exists():
        return f"{folder} was stopped before its first checkpoint. Remove it, and start again."
    return f"There is no checkpoint in {folder}. Name the folder of a run that was stopped."


def _header(run: Run, aliases: dict[str, str], channels_last: list[str]) -> CheckpointHeader:
    return CheckpointHeader(
        checkpoint_version=FORMAT_VERSION,
        blueprint=run.blueprint,
        spec=run.spec,
        recipe=run.recipe.model_dump(mode="json"),
        data=TrainedOn(**run.data),
        made_on=_made_on(),
        step=run.step,
        train_seconds=run.train_seconds,
        budget_seconds=run.budget_seconds,
        history=run.history,
        tally={"pictures": run.tally.pictures, "loss": run.tally.loss, "correct": run.tally.correct},
        stop_reason=None if run.interrupted or run.finished else run.stop_reason,
        ended=run.ended,
        best=run.best and BestSoFar(epoch=run.best.epoch, score=run.best.score, loss=run.best.loss),
        aliases=aliases,
        channels_last=channels_last,
    )


def _made_on() -> dict[str, str]:
    """Return what the last bits of a sum depend on: the kernels, and the machine that they choose by."""
    about = machine.describe() | {"processes": processes.world()}
    return {name: str(about[name]) for name in ("torch", "processor", "instructions", "device", "processes")}


def _notes(held: Checkpoint) -> list[str]:
    """Return what a person must know of a run that goes on, in sentences."""
    notes = [f"{path} is damaged, so training goes on from {held.path.name} before it." for path in held.damaged[:1]]
    before, now = held.header.made_on, _made_on()
    changed = [
        f"{name} {before[name]} is now {value}" for name, value in now.items() if before.get(name, value) != value
    ]
    if changed:
        notes.append(f"The last bits of the weights may differ from an uninterrupted run's: {', '.join(changed)}.")
    return notes


def _check_same_run(run: Run, header: CheckpointHeader) -> None:
    if header.data.fingerprint != run.data["fingerprint"]:
        raise FileError(
            f"{run.folder} was trained on other pictures ({header.data.name}, fingerprint "
            f"{header.data.fingerprint}; these have {run.data['fingerprint']}). Resume it with the same data."
        )
    if not _prepared_alike(header.spec.input, run.spec.input):
        raise FileError(
            f"{run.folder} was trained on pictures that are normalised or resized otherwise ({header.spec.input}; "
            f"these have {run.spec.input}). Resume it with the same data."
        )
    # The class of a foreign network has another path when the script is imported; its weights must fit all the same.
    kinds = {header.blueprint.kind, run.blueprint.kind}
    own = Blueprint.model_validate_json(run.blueprint.model_dump_json())  # as it is read: with lists for tuples
    if kinds != {"foreign"} and header.blueprint != own:
        raise _of_another_network(run.folder)


def _prepared_alike(one: InputSpec, other: InputSpec) -> bool:
    """Return whether a network gets the same of a picture; statistics may differ in the last bits between machines."""
    same = one.model_copy(update={"mean": other.mean, "std": other.std}) == other
    pairs = zip((*one.mean, *one.std), (*other.mean, *other.std), strict=False)
    return same and all(math.isclose(ours, theirs, rel_tol=1e-6) for ours, theirs in pairs)


def _of_another_network(folder: Path) -> FileError:
    return FileError(f"The checkpoint in {folder} is of another network. Resume it with its own.")


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    # The extremes tell as much as all values (a NaN is both), in a fifth of the time.
    return all(math.isfinite(extreme.item()) for extreme in torch.aminmax(tensor.detach()))


def _is_full(error: FileError) -> bool:
    """Return whether the disk is full, or what a person may have of it; safetensors says so in words."""
    cause = error.__cause__
    full = (errno.ENOSPC, errno.EDQUOT)
    return getattr(cause, "errno", None) in full or any(f"os error {number}" in str(cause) for number in full)


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> int:
    """Return the CRC-32 of a checkpoint: of its text, and of each tensor's name, form and bytes."""
    value = zlib.crc32(text.encode())
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.detach().reshape(-1).view(torch.uint8).numpy().data, value)
    return value
