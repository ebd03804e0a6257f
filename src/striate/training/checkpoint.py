"""Checkpoints: everything that a run needs to go on as if it had never stopped, in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from striate.core.errors import FileError
from striate.core.spec import Spec
from striate.networks.build import Blueprint
from striate.networks.saved import METADATA_KEY, read_tensors, storable, with_aliases, write_tensors
from striate.training.average import WeightAverage
from striate.training.optim import Updater
from striate.training.run import CHECKPOINT_FILE, Best, Run, Tally

# 2: the score may be another than the accuracy; 3: the accuracy of several labels is of all of them.
FORMAT_VERSION: Literal[3] = 3


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
    """What a checkpoint says besides its tensors; fields as in `Run`."""

    model_config = ConfigDict(extra="forbid")

    checkpoint_version: Literal[3]
    blueprint: Blueprint
    spec: Spec
    recipe: dict[str, Any]
    data: TrainedOn
    step: int
    train_seconds: float
    history: list[dict[str, float]]
    tally: dict[str, float]
    stop_reason: str | None
    best: BestSoFar | None
    aliases: dict[str, str]


def save(run: Run, updater: Updater, average: WeightAverage | None) -> Path:
    """Write the state after ``run.step`` updates; the checkpoint before it stays valid until this one is complete."""
    state = {f"network.{name}": tensor for name, tensor in run.network.state_dict().items()}
    state |= {f"optimizer.{name}": tensor for name, tensor in updater.state().items()}
    if average is not None:
        state |= {f"average.{name}": tensor for name, tensor in average.network.state_dict().items()}
    if run.best is not None:
        state |= {f"best.{name}": tensor for name, tensor in run.best.state.items()}
    tensors, aliases = storable(state)
    best = run.best and BestSoFar(epoch=run.best.epoch, score=run.best.score, loss=run.best.loss)
    header = CheckpointHeader(
        checkpoint_version=FORMAT_VERSION,
        blueprint=run.blueprint,
        spec=run.spec,
        recipe=run.recipe.model_dump(mode="json"),
        data=TrainedOn(**run.data),
        step=run.step,
        train_seconds=run.train_seconds,
        history=run.history,
        tally=asdict(run.tally),
        stop_reason=None if run.interrupted else run.stop_reason,
        best=best,
        aliases=aliases,
    )
    path = run.folder / CHECKPOINT_FILE
    write_tensors(path, tensors, header.model_dump_json())
    return path


def read_header(folder: Path) -> CheckpointHeader:
    """Return what the checkpoint of a run's folder says.

    Raises:
        FileError: there is none, or it cannot be read.
    """
    return _read(folder)[0]


def _read(folder: Path) -> tuple[CheckpointHeader, dict[str, Tensor]]:
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise FileError(f"There is no checkpoint in {folder}. Name the folder of a run that was stopped.")
    metadata, tensors = read_tensors(path)
    try:
        header = CheckpointHeader.model_validate(json.loads(metadata.get(METADATA_KEY, "null")))
    except (ValueError, ValidationError, RecursionError) as error:
        raise FileError(f"{path} is not a checkpoint that this version of striate can read.") from error
    return header, with_aliases(path, tensors, header.aliases)


def restore(run: Run, updater: Updater, average: WeightAverage | None) -> None:
    """Put the run, its network and its optimiser back to where the checkpoint in its folder left them.

    Raises:
        FileError: the checkpoint is of another network or of other pictures.
    """
    header, tensors = _read(run.folder)
    if header.data.fingerprint != run.data["fingerprint"]:
        raise FileError(
            f"{run.folder} was trained on other pictures ({header.data.name}, fingerprint "
            f"{header.data.fingerprint}; these have {run.data['fingerprint']}). Resume it with the same data."
        )
    _load(run.network, _under("network.", tensors), run.folder)
    updater.load_state(_under("optimizer.", tensors))
    if average is not None:
        _load(average.network, _under("average.", tensors), run.folder)
    run.step, run.train_seconds, run.history = header.step, header.train_seconds, header.history
    run.stop_reason = run.stop_reason or header.stop_reason  # Ctrl-C may have come first
    run.tally = Tally(int(header.tally["pictures"]), header.tally["loss"], header.tally["correct"])
    if header.best is not None:
        run.best = Best(**header.best.model_dump(), state=_under("best.", tensors))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _load(network: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    try:
        with torch.no_grad():
            network.load_state_dict(state)
    except RuntimeError as error:
        raise FileError(
            f"The checkpoint in {folder} is of another network. Resume it with the same --model."
        ) from error
