"""Receptive fields: which part of the picture a unit can see, and which part of that it looks at.

What it can see is a box that follows from kernels, strides and padding alone (`striate.networks.geometry`). What it
looks at is its effective receptive field (W. Luo, Y. Li, R. Urtasun, R. Zemel, "Understanding the Effective Receptive
Field in Deep Convolutional Neural Networks", NeurIPS 2016): how much each pixel moves it, that is the gradient of the
unit with respect to the picture. It is about a Gaussian, and its width grows with the square root of the depth where
the box grows with the depth, so that deep units use a small share of what they could see.

The field here is that of all channels at one place: |gradient|, averaged over the pictures and their channels, of the
channels' sum under signs drawn once and anew for each picture. Plainly added, channels of opposite sign would cancel,
and after a normalisation over channels nothing at all would be left; with random signs, the expected square of the
gradient is the sum of the channels' squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.drawing.colours import Scale
from striate.drawing.grid import Group, Sheet, Tile, draw_grid
from striate.inspection.record import modules_named, watching
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.networks import contract
from striate.networks.geometry import Geometry, ReceptiveField
from striate.networks.receptive.fields import Seen
from striate.prediction.predictor import Classifier

PICTURES = 16  # of those given, so many are looked at; fields change little after that
DRAWS = 4  # at least: fewer pictures are looked at several times, each time with other signs
HELD = 0.95  # of the gradient, in what is called the size of the effective field


@final
@dataclass(frozen=True, eq=False)
class LayerField:
    """What one place of a layer sees.

    Args:
        where: the name of the layer.
        unit: (row, column) of the place; (0, 0) where the layer has but one.
        units: rows and columns of its map.
        box: first and last row, first and last column of the pixels that it can see; None where that is not known.
        theory: size of that box and step between boxes, as if the picture had no borders; None where not known.
        effective: (H, W) float64, each pixel's share of the gradient, 1 in all; 0 everywhere where no gradient comes.
    """

    where: str
    unit: tuple[int, int]
    units: tuple[int, int]
    box: tuple[Seen, ...] | None
    theory: ReceptiveField | None
    effective: Tensor

    @property
    def is_dead(self) -> bool:
        """Whether no pixel moves it, as where every channel is rectified to 0."""
        return not bool(self.effective.any())

    @cached_property
    def centre(self) -> tuple[float, float]:
        """Mean row and column of the effective field, px; nan where there is no gradient."""
        rows, columns = (_moments(self.effective.sum(axis))[0] for axis in (1, 0))
        return rows, columns

    @cached_property
    def sigma(self) -> tuple[float, float]:
        """Standard deviation, px, of the Gaussian that fits the field best, along rows' and along columns' numbers.

        The maximum-likelihood Gaussian is the one with the field's own mean and variance.
        """
        rows, columns = (_moments(self.effective.sum(axis))[1] for axis in (1, 0))
        return rows, columns

    @cached_property
    def area(self) -> int:
        """Pixels in the smallest part of the picture that holds 95 % of the gradient; 0 where there is none."""
        if self.is_dead:
            return 0
        held = self.effective.flatten().sort(descending=True).values.cumsum(0)
        return int((held < HELD * held[-1]).sum()) + 1

    @property
    def side(self) -> float:
        """Side, px, of the square as large as `area`."""
        return math.sqrt(self.area)

    @property
    def share(self) -> float:
        """How much of the box on the picture the area takes, 0–1; nan where the box is not known or it is dead."""
        if self.box is None or self.is_dead:
            return math.nan
        return self.area / math.prod(last - first + 1 for first, last in self.box)


@final
@dataclass(frozen=True, eq=False)
class ReceptiveFields:
    """What the layers of a network see.

    Args:
        image: (C, H, W) uint8, the first picture.
        layers: in the order in which they were asked for.
        pictures: how many were averaged over.
        notes: what is not known, in sentences.
    """

    image: Tensor
    layers: tuple[LayerField, ...]
    pictures: int
    notes: tuple[str, ...] = ()

    def __getitem__(self, where: str) -> LayerField:
        return next(layer for layer in self.layers if layer.where == where)

    def draw(self) -> Sheet:
        """Draw each box on the picture and each effective field under it, for one layer or for all in a row."""
        picture = self.image if len(self.image) in (1, 3) else self.image.double().mean(0, keepdim=True).byte()
        side = 320 if len(self.layers) == 1 else 180 if len(self.layers) <= 6 else 120
        known = any(layer.theory is not None for layer in self.layers)
        boxes = [Tile(picture, _says_box(layer), box=_frame(layer)) for layer in self.layers if known]
        fields = [
            Tile(layer.effective / layer.effective.max().clamp(min=1e-300), _says_field(layer), box=_frame(layer))
            for layer in self.layers
        ]
        scale = Scale("heat", 0.0, 1.0, "mean |gradient| at a pixel, 1 where it is largest in that layer's own field")
        columns = None if len(self.layers) <= 10 else 10
        plural = "s" if self.pictures > 1 else ""
        return draw_grid(
            [
                Group(boxes, "What a unit can see: the frame on the picture", side=side, columns=columns),
                Group(fields, "What it looks at: the effective receptive field", scale, side=side, columns=columns),
            ],
            title="Receptive field" if len(self.layers) == 1 else "Receptive fields, layer by layer",
            subtitle=("The frame follows from kernels and strides; within it, some " if known else "Some ")
            + "pixels move the unit more than others, most often those near the middle (Luo et al. 2016; averaged over "
            f"{self.pictures} picture{plural}, all channels at one place).",
            notes=self.notes,
        )


def receptive_fields(
    network: nn.Module | Classifier,
    pictures: Pictures,
    where: str | Sequence[str] | None = None,
    unit: tuple[int, int] | None = None,
) -> ReceptiveFields:
    """Return what the units of some layers can see of the picture, and what they look at.

    Args:
        network: a classifier, or a module.
        pictures: see `striate.inspection.subject.subject_of`; the first 16 are used.
        where: the name of a stage or the path of a module, or several; all stages with a map or a vector where None.
        unit: (row, column) on the map of the layer; the one in the middle where None.

    Raises:
        DataError: the pictures are none that the network takes.
        NetworkError: no such layer or unit, or the layer has neither.
    """
    subject = subject_of(network, pictures)
    names = [where] if isinstance(where, str) else where
    layers = modules_named(subject.network, names)
    found = _gradients(subject, layers, unit)
    for name in () if names is None else layers:
        if name not in found:
            raise NetworkError(
                f"The layer {name!r} must return a map (N, C, H, W) or a vector (N, C) to have units with a place; "
                "it returns something else, or is not used. Name another."
            )
    geometry = Geometry(subject.graph)
    paths = {module: path for path, module in subject.network.named_modules()}
    seen = [_seen(name, *found[name], geometry, paths[layers[name]]) for name in layers if name in found]
    if not seen:
        raise NetworkError("No stage of the network returns a map (N, C, H, W) or a vector (N, C). Name a layer.")
    used = min(len(subject.images), PICTURES)
    return ReceptiveFields(subject.images[0].cpu(), tuple(seen), used, _notes(seen, geometry))


def _gradients(
    subject: Subject, layers: dict[str, nn.Module], unit: tuple[int, int] | None
) -> dict[str, tuple[tuple[int, int], tuple[int, int], Tensor]]:
    """Return name → place, size of the map and effective field (H, W), of the layers that have places."""
    inputs = subject.prepare(subject.images[:PICTURES])
    inputs = inputs.repeat(-(-DRAWS // len(inputs)), 1, 1, 1)
    asked: dict[str, tuple[tuple[int, int], tuple[int, int], Tensor]] = {}
    generator = torch.Generator().manual_seed(0)

    def ask(name: str, output: Tensor) -> None:
        """Note the sum at the place at once, because what follows may change the output in place."""
        if output.ndim not in (2, 4):
            return
        maps = output if output.ndim == 4 else output[:, :, None, None]
        rows, columns = int(maps.shape[2]), int(maps.shape[3])
        row, column = _place(name, unit, rows, columns)
        signs = torch.randint(0, 2, maps.shape[:2], generator=generator) * 2.0 - 1
        at_place = maps[:, :, row, column].clone()
        asked[name] = (row, column), (rows, columns), (at_place * signs.to(at_place)).sum()

    with (
        contract.evaluating(subject.network),
        watching(layers, ask),
        torch.random.fork_rng(devices=[]),
        torch.enable_grad(),
    ):
        source = inputs.detach().clone().requires_grad_()
        subject.network(source.mul(1))  # no leaf, so that layers may work on it in place
        return {
            name: (place, units, _effective(total, source)) for name, (place, units, total) in asked.items()
        }  # fmt: skip


def _effective(total: Tensor, source: Tensor) -> Tensor:
    """Return mean |d total / d source| as shares, (H, W) float64."""
    gradient = None
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(total, [source], retain_graph=True, allow_unused=True)
    if gradient is None:
        return torch.zeros(source.shape[-2:], dtype=torch.float64)
    field = gradient.double().abs().mean((0, 1)).cpu()
    whole = field.sum()
    return field / whole if whole > 0 else field


def _place(name: str, unit: tuple[int, int] | None, rows: int, columns: int) -> tuple[int, int]:
    if unit is None:
        return rows // 2, columns // 2
    if len(unit) != 2 or not (0 <= unit[0] < rows and 0 <= unit[1] < columns):
        raise NetworkError(
            f"The unit must be (row, column) on the map of {name!r}, which has {rows}×{columns} units numbered from "
            f"(0, 0), got {tuple(unit)}. Name one, or leave it out for the one in the middle."
        )
    return unit


def _seen(
    name: str, place: tuple[int, int], units: tuple[int, int], effective: Tensor, geometry: Geometry, path: str
) -> LayerField:
    theory = geometry.receptive_field(path) if geometry.graph.traced else None
    box = geometry.sees(path, place) if theory is not None else None
    return LayerField(name, place, units, box, theory, effective)


def _notes(layers: Sequence[LayerField], geometry: Geometry) -> tuple[str, ...]:
    unknown = geometry.notes if any(layer.theory is None for layer in layers) else ()
    dead = [layer.where for layer in layers if layer.is_dead]
    reason = (f"No gradient comes from {', '.join(dead)}: every channel is off at that place.",) if dead else ()
    return (*unknown, *(("Only the effective receptive field is shown there.",) if unknown else ()), *reason)


def _moments(marginal: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of places 0, 1, … weighted by how much is there; nan where nothing is."""
    if not marginal.any():
        return math.nan, math.nan
    places = torch.arange(len(marginal), dtype=marginal.dtype)
    weights = marginal / marginal.sum()
    mean = (weights * places).sum()
    return float(mean), float((weights * (places - mean).square()).sum().sqrt())


def _frame(layer: LayerField) -> tuple[int, int, int, int] | None:
    return None if layer.box is None else (*layer.box[0], *layer.box[1])


def _says_box(layer: LayerField) -> str:
    if layer.theory is None:
        return f"{layer.where}: what it can see is not known"
    size = "×".join(map(str, layer.theory.size))
    if layer.box is None:
        return f"{layer.where}: {size} pixels, padding alone here"
    shown = "×".join(str(last - first + 1) for first, last in layer.box)
    return f"{layer.where}: {size} pixels" + ("" if shown == size else f", {shown} of them on the picture")


def _says_field(layer: LayerField) -> str:
    if layer.is_dead:
        return f"{layer.where}: no gradient"
    rows, columns = layer.sigma
    part = "" if math.isnan(layer.share) else f", {layer.share:.0%} of the frame"
    return f"{layer.where}: 95\xa0% in {layer.area} pixels{part}; σ\xa0{rows:.1f}×{columns:.1f}"
