"""The learning-rate range test: how the loss goes as the rate rises from very low to too high."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from striate.core import processes
from striate.core.errors import TrainingError
from striate.data.imageset import ImageSet
from striate.drawing.curves import Curve, Plane, draw_curves
from striate.drawing.svg import Drawing
from striate.training.feed import batches_left
from striate.training.forward import forward
from striate.training.optim import Updater
from striate.training.penalty import Penalty
from striate.training.recipe import Recipe
from striate.training.rehearsal import rehearse
from striate.training.trial import on_its_machine, trial_run

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 140  # twenty steps for each power of ten
EXPLODED = 4.0  # times the least so far, as running means: a batch with a rare class may cost several without
_KEPT = 0.8  # part that the running mean of the loss keeps at each step
_WIDTH = 3.0  # steps: standard deviation of the Gaussian that smooths the losses


@final
@dataclass(frozen=True)
class RangeTest:
    """What a learning-rate range test found.

    Args:
        rates: of each step, rising.
        losses: of each step's batch, before its update.
        smoothed: the same, a Gaussian average over the steps about each.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def least(self) -> float:
        """The rate at which the loss was least: from there on it is too high."""
        return self.rates[self._least]

    @property
    def steepest(self) -> float:
        """The rate at which the loss fell fastest."""
        slopes = [
            after - before for before, after in zip(self.smoothed, self.smoothed[1 : self._least + 1], strict=False)
        ]
        return self.rates[min(range(len(slopes)), key=slopes.__getitem__)]

    @property
    def tenth(self) -> float:
        """A tenth of the rate at which the loss was least."""
        return self.least / 10

    @property
    def _least(self) -> int:
        return min(range(len(self.smoothed)), key=self.smoothed.__getitem__)

    def draw(self) -> Drawing:
        """Return the curve, with the suggestions marked."""
        marks = [
            (self.steepest, f"steepest: {self.steepest:.2g}"),
            (self.tenth, f"a tenth of the minimum's: {self.tenth:.2g}"),
        ]
        top = 1.1 * max(self.smoothed[: self._least + 1])
        return draw_curves(
            Plane(
                [
                    Curve(self.rates, self.losses, "each batch", faint=True),
                    Curve(self.rates, self.smoothed, "smoothed"),
                    *(Curve([rate], [self._at(rate)], words, form="points") for rate, words in marks),
                ],
                title="Learning-rate range test",
                x_title="learning rate",
                y_title="loss",
                y_range=(max(0.0, min(self.smoothed) - 0.1 * top), 1.2 * top),
                logarithmic="x",
            ),
            description=f"Loss against learning rate: falls fastest at {self.steepest:.2g}, least at {self.least:.2g}.",
        )

    def _at(self, rate: float) -> float:
        nearest = min(range(len(self.rates)), key=lambda step: abs(math.log(self.rates[step] / rate)))
        return self.smoothed[nearest]


def learning_rate_range(network: nn.Module, images: ImageSet, recipe: Recipe) -> RangeTest:
    """Train a copy of a network while the learning rate rises, a step at each rate, until the loss explodes.

    Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017, section 3.3; the rate rises by a factor, so
    that each power of ten has as many steps. The optimiser, batches and augmentation are the recipe's. Of several
    processes the first does it, with whole batches.

    Args:
        network: left as it was.

    Returns:
        The losses, and the rates that they suggest. Consumes no randomness.

    Raises:
        NetworkError, RecipeError: as `fit`, before its first step.
        TrainingError: the loss never falls.
    """
    with on_its_machine(recipe):
        rates, losses = processes.from_first(lambda: _rise(network, images, recipe))
    return _found(rates, losses)


def _rise(network: nn.Module, images: ImageSet, recipe: Recipe) -> tuple[list[float], list[float]]:
    """Return the rates and the losses of the steps."""
    rates: list[float] = []
    losses: list[float] = []
    mean = least = math.inf
    rehearse(network, images, recipe)
    run, execution = trial_run(network, images, recipe, STEPS)
    updater, penalty = Updater(run.network, run.recipe), Penalty(run.network, run.recipe)
    updater.begin(run.recipe.plan[-1])
    for epoch in range(run.epochs):
        for seen in batches_left(run, epoch, 0, execution):
            loss = forward(run, seen, execution)
            rates.append(LOWEST * (HIGHEST / LOWEST) ** (run.step / (STEPS - 1)))
            losses.append(loss.item())
            mean = losses[0] if len(losses) == 1 else _KEPT * mean + (1 - _KEPT) * losses[-1]
            least = min(least, mean)
            if not mean <= EXPLODED * least:
                return rates, losses
            loss.backward()  # type: ignore[no-untyped-call]
            penalty.add_gradients()
            updater.step(0, rates[-1])
            run.step += 1
    return rates, losses


def _found(rates: list[float], losses: list[float]) -> RangeTest:
    known = [loss for loss in losses if math.isfinite(loss)]
    smoothed = tuple(_smooth(torch.tensor(known, dtype=torch.float64)).tolist())
    found = RangeTest(tuple(rates[: len(known)]), tuple(known), smoothed)
    if not known or found.least == found.rates[0]:
        raise TrainingError(
            f"The loss must fall somewhere between learning rates of {LOWEST:g} and {HIGHEST:g}, it was least at the "
            "first. `striate doctor` and `striate audit` find what is wrong with a network or with pictures."
        )
    return found


def _smooth(losses: Tensor) -> Tensor:
    """Return the Gaussian average over the steps about each, (S,) as given; at the ends over those that there are."""
    steps = torch.arange(len(losses), dtype=losses.dtype)
    weights = torch.exp(-(((steps[:, None] - steps) / _WIDTH) ** 2) / 2)
    return weights @ losses / weights.sum(1)
