"""Equivariance: whether the maps of a network move along with the picture.

Convolution is equivariant, not invariant: shifting the picture shifts the maps, exactly, away from the border (LeCun et
al. 1998, section II.A). A stride, or pooling with one, keeps this for shifts by whole multiples of its jump alone:
others fall between two units, and the map changes. Pooling makes up for a little of that, and blurring before
subsampling for more of it (Zhang 2019). Nothing in a convolution makes it equivariant to rotation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import final

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.data.augment.warp import warp
from striate.drawing.curves import COLOURS, Curve, Plane, draw_curves
from striate.drawing.svg import Drawing
from striate.inspection.record import modules_named, record
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.networks.geometry import Geometry, ReceptiveField
from striate.prediction.predictor import Classifier

PICTURES = 16  # looked at, at most
MOST = 16  # pixels of the largest shift, at most


@final
@dataclass(frozen=True)
class StageErrors:
    """How far the map of a changed picture is from the changed map, as ‖difference‖ / ‖map‖.

    Args:
        jump: pixels from one unit of the stage's map to the next.
        shifts: pixels to the right, from 0.
        inside: for each shift, over the units that see neither the border of the picture nor what moved in; None where
            there is no such unit.
        everywhere: for each shift, over all units that the shift leaves on the map; None where it leaves none.
        quarter_turn: of the picture turned by 90°, over all units; None where the map or the picture is not square.
    """

    jump: Fraction
    shifts: tuple[int, ...]
    inside: tuple[float | None, ...]
    everywhere: tuple[float | None, ...]
    quarter_turn: float | None

    def is_multiple(self, shift: int) -> bool:
        """Return whether a shift moves the map by whole units, where nothing but the border keeps it from being so."""
        return (shift / self.jump).denominator == 1


@final
@dataclass(frozen=True)
class Equivariance:
    """How the maps of each stage move with the picture.

    Args:
        stages: name → errors, of the stages that return maps of which each unit's receptive field is known.
    """

    stages: Mapping[str, StageErrors]

    def draw(self) -> Drawing:
        """Draw the errors of up to as many stages as there are colours: away from the border, and of whole maps."""
        step = math.ceil(len(self.stages) / len(COLOURS))
        stages = dict(list(self.stages.items())[::step])
        every = "" if step == 1 else f" (1 of {step} stages)"
        return draw_curves(
            [
                self._plane(stages, "inside", f"Away from the border: 0 at whole multiples of the jump{every}"),
                self._plane(stages, "everywhere", f"Over the whole map, with what the border adds{every}"),
            ],
            description="How far the map of a shifted picture is from the shifted map, for each stage and shift",
        )

    def _plane(self, stages: Mapping[str, StageErrors], which: str, title: str) -> Plane:
        curves = []
        for name, errors in stages.items():
            known = [(s, e) for s, e in zip(errors.shifts, getattr(errors, which), strict=True) if e is not None]
            label = f"{name}, jump {errors.jump}" + ("" if known else ": every unit sees the border")
            if which == "everywhere" and errors.quarter_turn is not None:
                label = f"{name}; picture turned by 90°: {errors.quarter_turn:.2f}"
            x, y = ([float(pair[place]) for pair in known] for place in (0, 1))
            curves.append(Curve(x, y, label, form="marks"))
        most = max((value for curve in curves for value in curve.y), default=1.0)
        return Plane(
            curves,
            title=title,
            x_title="shift of the picture to the right, in pixels",
            y_title="‖map of the shifted picture − shifted map‖ / ‖shifted map‖",
            y_range=(-0.03 * most, most * (1.05 + 0.08 * len(curves))),  # room for the legend
            size=(620, 440),
        )


def equivariance(network: nn.Module | Classifier, pictures: Pictures) -> Equivariance:
    """Compare, at each stage, the maps of shifted and turned pictures with the shifted and turned maps.

    Pictures move to the right by each number of pixels up to 16, or a third of their width; where that is not a
    whole number of units, the map is shifted by linear interpolation between its units. What moves in repeats the edge.

    Args:
        network: a classifier, or a module.
        pictures: see `subject_of`; the first 16 are looked at.

    Raises:
        DataError: there is no picture, or it is none that the network takes.
        NetworkError: no stage returns maps (N, C, H, W) whose receptive fields are known.
    """
    given = subject_of(network, pictures)
    subject = Subject(given.network, given.spec, given.images[:PICTURES], None, given.origins)
    fields = _fields(subject)
    height, width = subject.images.shape[2:]
    before = _maps(subject, fields, subject.images)
    fields = {name: field for name, field in fields.items() if name in before}
    if not fields:
        raise NetworkError(_why_not(subject))
    shifts = range(min(MOST, width // 3) + 1)
    rows: dict[str, list[tuple[float | None, float | None]]] = {name: [] for name in fields}
    for shift in shifts:
        after = _maps(subject, fields, warp(subject.images, shift=(0, shift), border="edge"))
        for name, field in fields.items():
            rows[name].append(_errors(before[name], after[name], field, shift, width))
    turned = _maps(subject, fields, subject.images.rot90(1, (2, 3))) if height == width else {}
    return Equivariance(
        {
            name: StageErrors(
                _jump(field),
                tuple(shifts),
                tuple(inside for inside, _ in rows[name]),
                tuple(everywhere for _, everywhere in rows[name]),
                _turn_error(before[name], turned.get(name)),
            )
            for name, field in fields.items()
        }
    )


def _fields(subject: Subject) -> dict[str, ReceptiveField]:
    """Return the stages of which each unit's field is known, by one rule for all units."""
    known = Geometry(subject.graph)
    paths = {module: path for path, module in subject.network.named_modules()}
    found = {}
    for name, module in modules_named(subject.network).items() if subject.graph.traced else ():
        try:
            field = known.receptive_field(paths[module])
        except NetworkError:  # a stage without operations of its own
            continue
        if (
            field is not None
            and field.regular
            and len(field.size) == 2
            and field.jump[1]
            and field.offset[1] is not None
        ):
            found[name] = field
    return found


def _jump(field: ReceptiveField) -> Fraction:
    """Return pixels from one unit to the next one to its right."""
    return Fraction(field.jump[1] or 1)


def _maps(subject: Subject, fields: Mapping[str, ReceptiveField], images: Tensor) -> dict[str, Tensor]:
    """Return the maps (N, C, H, W), at least two units wide, of each stage for pictures (N, C, H, W) uint8."""
    if not fields:
        return {}
    shown = Subject(subject.network, subject.spec, images, None, subject.origins)
    maps = record(subject.network, shown.inputs, list(fields)).activations
    return {name: map.double().cpu() for name, map in maps.items() if map.ndim == 4 and map.shape[3] > 1}


def _errors(
    before: Tensor, after: Tensor, field: ReceptiveField, shift: int, width: int
) -> tuple[float | None, float | None]:
    """Return the relative error of one shift: over units that see no border, and over all that are left."""
    units = shift / _jump(field)
    whole, part = math.floor(units), float(units - math.floor(units))
    # Unit u of the shifted map lies between the units u − whole − 1 and u − whole of the map.
    first = whole + (part > 0)
    if first >= before.shape[3]:
        return None, None
    places = torch.arange(first, before.shape[3])
    expected = before[..., places - whole] * (1 - part) + before[..., places - first] * part
    difference = after[..., places] - expected
    start = field.offset[1] or 0
    left = torch.tensor([float(start + (place - first) * _jump(field)) for place in places.tolist()])
    right = torch.tensor([float(start + place * _jump(field) + field.size[1] - 1) for place in places.tolist()])
    inside = (left >= 0) & (right <= width - 1)
    return _ratio(difference[..., inside], expected[..., inside]), _ratio(difference, expected)


def _turn_error(before: Tensor, turned: Tensor | None) -> float | None:
    if turned is None or before.shape[2] != before.shape[3] or turned.shape != before.shape:
        return None
    expected = before.rot90(1, (2, 3))
    return _ratio(turned - expected, expected)


def _ratio(difference: Tensor, expected: Tensor) -> float | None:
    """Return ‖difference‖ / ‖expected‖; None of nothing, or where nothing is expected but zeros."""
    norm = float(expected.norm())
    return float(difference.norm()) / norm if norm > 0 else None


def _why_not(subject: Subject) -> str:
    notes = Geometry(subject.graph).notes
    reason = notes[0].rstrip(".") if notes else "No stage of the network returns maps (N, C, H, W)"
    return f"{reason}; equivariance needs maps with known receptive fields, so pass a network of convolutions."
