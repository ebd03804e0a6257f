"""A look at a step: gradients and weights of every layer, and what a copy of the network does with the batch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from striate.core.copying import copy_of
from striate.training.doctor.observed import answer
from striate.training.losses import compute_loss, main_logits
from striate.training.optim.groups import of_norms
from striate.training.run import Run

PICTURES = 64  # of the batch, that the copy is shown
AGAIN = 8  # of them, that evaluation is shown again
BY_CHANCE = 1e-2  # of the largest logit, by which answers differ that are not the same but for rounding
MIXED = 0.1  # of the largest logit, by which answers differ that depend on other pictures: far more than rounding
SATURATED = {"tanh": 0.97, "sigmoid": 0.985}  # outputs whose slope is 6 % of the steepest: 1 − 0.97², 4 · 0.985 · 0.015
_IN_PLACE = ("relu", "relu6", "sigmoid", "tanh", "hardtanh", "elu", "silu")  # they may write over what they are given


@final
@dataclass(frozen=True)
class Layer:
    """A parameter of two dimensions or more at a step.

    Args:
        name: of the parameter.
        weight: norm of the weights.
        gradient: norm of their gradient; None where there is none.
        count: numbers in it.
        filters: how many filters or units it has.
        turn: of its module among those with weights, in the order in which they ran; of the layer before it where it
            did not, such as one whose weights another module uses.
    """

    name: str
    weight: float
    gradient: float | None
    count: int
    filters: int
    turn: int = 0

    @property
    def typical_gradient(self) -> float:
        """Root mean square of the gradient."""
        return (self.gradient or 0.0) / math.sqrt(self.count)


@final
@dataclass(frozen=True)
class Units:
    """The outputs of a rectifier, a tanh or a sigmoid.

    Args:
        where: path of the module, and a number where it has several of them.
        kind: ``relu``, ``tanh`` or ``sigmoid``.
        silent: (C,) bool, the units (channels of maps) of a rectifier that are nowhere positive; empty of the others.
        saturated: share of values on the flat parts, of the others.
    """

    where: str
    kind: str
    silent: Tensor
    saturated: float


@final
@dataclass(frozen=True)
class Modes:
    """What the network does with the same pictures in training and in evaluation.

    Args:
        loss: in training.
        gap: the loss in evaluation less that.
        none: the loss where all logits are 0.
        by_chance: part of the pictures that evaluation, done again, gives other logits.
        mixed: part of the pictures that get other logits among others than among few; 0 where a norm does that.
    """

    loss: float
    gap: float
    none: float
    by_chance: float
    mixed: float = 0.0


@final
@dataclass
class Look:
    """What was seen at one step.

    Args:
        step: 0 for the first.
        loss: of the batch.
        start: at step 0, the loss of the logits and that where all are 0, whatever classes weigh.
        learning_rate: of the update that followed.
        layers: in the order of the network.
        units: in the order in which they ran.
        first_inputs: mean and deviation per channel of what the first layer with weights is given.
        logits: (B, K) of the batch, on the CPU.
        last: the operation that made the logits of the copy, such as ``linear``; empty where it was not seen.
        evaluating: batch norms that ran in evaluation mode.
        still: layers that had a gradient and that the update left exactly as they were.
        update: how far the update moved the weights, as a share of their norm: the median over the layers that had a
            gradient.
        compared: the same pictures in training and in evaluation; None where that was not measured.
    """

    step: int
    loss: float
    layers: tuple[Layer, ...]
    logits: Tensor
    units: tuple[Units, ...] = ()
    first_inputs: tuple[tuple[float, float], ...] = ()
    last: str = ""
    evaluating: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    update: float = math.nan
    learning_rate: float = 0.0
    start: tuple[float, float] = (math.nan, math.nan)
    compared: Modes | None = None


@torch.no_grad()
def take_look(run: Run, *, evaluate: bool = False) -> Look:
    """Return what there is to see between the backward pass and the update.

    Args:
        evaluate: also compare the loss in training and in evaluation.
    """
    seen = run.seen
    assert seen is not None
    assert seen.logits is not None
    look = Look(run.step, run.loss, measured_layers(run.network), seen.logits.float().cpu())
    if not run.step:
        own, none = (_loss(one, seen.targets, run, None) for one in (seen.logits, torch.zeros_like(seen.logits)))
        look.start = own, none
    twin, pictures = copy_of(run.network), seen.pictures[:PICTURES]
    told = _Signals(twin)
    outputs = answer(twin, pictures, run, told.tell)
    look.units, look.first_inputs = tuple(told.units), told.first_inputs
    look.evaluating = tuple(dict.fromkeys(told.evaluating))  # one that runs twice is one
    look.layers = tuple(_in_turn(look.layers, told.turns))
    look.last = told.last if told.memory == main_logits(outputs).data_ptr() else ""
    logits = main_logits(outputs)
    del twin, told, outputs  # the comparison takes a copy of its own
    if evaluate:
        look.compared = compare_modes(run, logits)
    return look


def _in_turn(layers: Iterable[Layer], turns: Mapping[str, int]) -> Iterator[Layer]:
    turn = 0
    for one in layers:
        turn = turns.get(one.name.rpartition(".")[0], turn)
        yield replace(one, turn=turn)


@torch.no_grad()
def compare_modes(run: Run, trained: Tensor | None = None) -> Modes:
    """Return what a copy of the network does with the last batch in training and in evaluation.

    Args:
        trained: the logits in training, where they are known.
    """
    seen = run.seen
    assert seen is not None
    pictures, targets = seen.pictures[:PICTURES], seen.targets[:PICTURES]
    if trained is None:
        trained = main_logits(answer(copy_of(run.network).train(), pictures, run))
    loss = _loss(trained, targets, run, run.class_weights)
    twin = copy_of(run.network).eval()
    once = main_logits(answer(twin, pictures, run, draw=0))
    # The same few each time: a norm without running statistics sees all that it is shown together.
    some, again = (main_logits(answer(twin, pictures[:AGAIN], run, draw=draw)).float() for draw in (0, 1))
    largest = some.abs().amax().clamp_min(1e-30)
    apart = (some - again).abs().amax(1) > BY_CHANCE * largest
    by_batch = any(isinstance(one, BatchNorm) and not one.track_running_stats for one in twin.modules())
    mixed = (once[:AGAIN].float() - some).abs().amax(1) > MIXED * largest
    gap = _loss(once, targets, run, run.class_weights) - loss
    none = _loss(torch.zeros_like(once), targets, run, run.class_weights)
    alone = 0.0 if by_batch else float(mixed.float().mean())
    return Modes(loss, gap, none, float(apart.float().mean()), alone)


def _loss(logits: Tensor, targets: Tensor, run: Run, weights: Tensor | None) -> float:
    return float(compute_loss(logits, targets, run.network, run.recipe, several=run.spec.task.several, weights=weights))


def learning_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of two dimensions or more that learn, by their names; those of norms scale, no more."""
    scales, named = of_norms(network), network.named_parameters()
    return {name: p for name, p in named if p.dim() >= 2 and p.requires_grad and p not in scales}


def measured_layers(network: nn.Module) -> tuple[Layer, ...]:
    """Return what is to be said of the weights that learn."""
    own = learning_weights(network).items()
    weights = norms([p.detach() for _, p in own])
    gradients = iter(norms([p.grad for _, p in own if p.grad is not None]))
    return tuple(
        Layer(name, weight, None if p.grad is None else next(gradients), p.numel(), p.shape[0])
        for (name, p), weight in zip(own, weights, strict=True)
    )


def norms(tensors: Sequence[Tensor]) -> list[float]:
    """Return the Euclidean norm of each tensor, read from the device at once."""
    return torch.stack(torch._foreach_norm(list(tensors))).float().tolist() if tensors else []


@final
class _Signals:
    """Measures the outputs of the non-linear operations, and what the first layer with weights is given."""

    def __init__(self, twin: nn.Module) -> None:
        self.units: list[Units] = []
        self.first_inputs: tuple[tuple[float, float], ...] = ()
        self.last, self.memory = "", 0
        self.turns: dict[str, int] = {}
        self.evaluating: list[str] = []
        self._met: Counter[str] = Counter()
        for path, module in twin.named_modules():  # of the copy, which is thrown away
            if any(p.dim() >= 2 for p in module.parameters(recurse=False)):
                module.register_forward_pre_hook(partial(self._enter, path))
            if isinstance(module, BatchNorm) and not module.training:
                module.register_forward_pre_hook(lambda module, inputs, path=path: self.evaluating.append(path))

    def _enter(self, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.turns.setdefault(path, len(self.turns))
        if self.first_inputs or not inputs or not isinstance(inputs[0], Tensor):
            return
        given = inputs[0].float()
        values = given.transpose(0, 1).flatten(1) if given.dim() == 4 else given.reshape(1, -1)  # (C, B·H·W)
        means, deviations = values.mean(1), values.std(1, correction=0)
        self.first_inputs = tuple(zip(means.tolist(), deviations.tolist(), strict=True))

    def tell(self, operation: str, where: str, output: Tensor) -> None:
        kind = operation.rstrip("_")
        in_place = kind in _IN_PLACE or (operation.endswith("_") and not operation.endswith("__"))
        if output.data_ptr() != self.memory or in_place:  # a view of it is no operation of its own
            self.last, self.memory = kind, output.data_ptr()
        if kind in ("relu6", "hardtanh") and float(output.min()) >= 0:  # an nn.ReLU6 runs as the latter
            kind = "relu"
        if kind not in ("relu", "tanh", "sigmoid") or output.dim() < 2:
            return
        values = output.float().reshape(*output.shape[:2], -1)  # (B, C, H·W)
        silent, saturated = torch.empty(0, dtype=torch.bool), 0.0
        if kind == "relu":
            silent = ~(values > 0).any(2).any(0).cpu()
        else:
            size = values.abs() if kind == "tanh" else torch.maximum(values, 1 - values)
            saturated = float((size > SATURATED[kind]).float().mean())
        path = where or "the network"
        self._met[path] += 1  # a ReLU that is a function, or one module for several places
        if self._met[path] > 1:
            path = f"{path}, operation number {self._met[path]}"
        self.units.append(Units(path, kind, silent, saturated))
