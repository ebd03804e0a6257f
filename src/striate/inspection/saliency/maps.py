"""The verb: which pixels an answer rests on, with what speaks for and against each map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import final

from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.drawing.colours import Scale, overlaid
from striate.drawing.grid import Group, Sheet, Tile, draw_grid
from striate.inspection.saliency import (  # noqa: F401  (each enters its method into the registry)
    deconvolution,
    gradient,
    guided_backpropagation,
    integrated_gradients,
    occlusion,
    smoothgrad,
)
from striate.inspection.saliency.check import Check, check_map
from striate.inspection.saliency.grad_cam import Layer, find_layer, grad_cam
from striate.inspection.saliency.registry import METHODS, Explain
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.networks import contract
from striate.prediction.predictor import Classifier, probabilities_of

DRAWN = 16  # pictures on one sheet
SIDE = 256  # px of a tile
EXPLAINED = (
    "ρ: rank correlation of the map with that of the same network with random weights, near 0 where the map shows what "
    "was learned. Deletion: the mean probability of the class while pixels are covered, the most salient first; lower "
    "is better. Insertion: the same while they are put onto a blurred picture; higher is better. Random: where 95 % of "
    "random maps of the same grain lie."
)


@final
@dataclass(frozen=True, eq=False)
class SaliencyMaps:
    """Which pixels the answers to some pictures rest on.

    Args:
        maps: (N, H, W) float on the pictures' grid; negative where a pixel speaks against the class, for the methods
            that know this.
        method: its name.
        images: (N, C, H, W) uint8.
        origins: a name of each picture.
        targets: (N,) int64, the class that is asked about.
        probability: (N,) of that class, 0–1.
        class_names: of all classes.
        layer: the maps that Grad-CAM read; None for other methods.
        gap: (N,) what the sums of integrated gradients miss of the change of the logit, in logits; None for others.
        check: what the maps are worth; None where it was not asked for.
    """

    maps: Tensor
    method: str
    images: Tensor
    origins: Sequence[str]
    targets: Tensor
    probability: Tensor
    class_names: Sequence[str]
    layer: Layer | None = None
    gap: Tensor | None = None
    check: Check | None = None

    def __str__(self) -> str:
        return "\n".join([f"saliency by {self.method}{self._where()}", *map(self._described, range(len(self.maps)))])

    def draw(self) -> Sheet:
        """Draw one row per picture: the picture, the map, both together, and the map of a network of random weights."""
        method = METHODS.get(self.method)
        shown = range(min(DRAWN, len(self.maps)))
        seen = "Orange speaks for the class, blue against it" if self._signed else "The brighter, the more it matters"
        notes = [self._warned(number) for number in shown if self.check and self.check.warnings(number)]
        if self.check is not None:
            notes.append(EXPLAINED)
        if len(shown) < len(self.maps):
            notes.append(f"The first {DRAWN} of {len(self.maps)} pictures are shown.")
        return draw_grid(
            [self._row(number) for number in shown],
            title=f"What the answers rest on: {method.title}",
            subtitle=f"{seen}; each row has a scale of its own. {method.source}{self._where()}.",
            notes=notes,
        )

    def _row(self, number: int) -> Group:
        picture, map_ = self.images[number], self.maps[number]
        scale = self._scale(map_)
        tiles = [
            Tile(picture if len(picture) in (1, 3) else picture[:1], "the picture"),
            Tile(map_, "the map"),
            Tile(overlaid(picture, map_, scale), "the map upon the picture"),
        ]
        if self.check is not None:
            spoilt = self.check.randomisation.maps[number]
            tiles[1] = Tile(map_, f"the map\n{self.check.removal_in_words(number)}")
            tiles.append(Tile(spoilt, self.check.randomisation_in_words(number), self._scale(spoilt)))
        heading = f"{self._asked(number)} – {self._name(number)}"
        return Group(tiles, heading, scale, columns=len(tiles), side=SIDE)

    @property
    def _signed(self) -> bool:
        return bool((self.maps < 0).any())

    def _scale(self, map_: Tensor) -> Scale:
        """Return the scale of one map, which holds 0 and the largest value."""
        meaning = METHODS.get(self.method).meaning
        if self._signed:
            return Scale.of(map_, "diverging", meaning)
        return Scale("heat", 0.0, float(map_.max()) or 1.0, meaning)

    def _warned(self, number: int) -> str:
        warnings = self.check.warnings(number) if self.check else []
        return f"⚠ {self._name(number)}: {' '.join(warnings)}"

    def _name(self, number: int) -> str:
        return PurePath(self.origins[number]).name  # of a picture file its name alone

    def _asked(self, number: int) -> str:
        return f"{self.class_names[int(self.targets[number])]}? {float(self.probability[number]):.1%}"

    def _described(self, number: int) -> str:
        words = f"{self._name(number)}: {self._asked(number)}"
        if self.gap is not None:
            words += f"; the sum misses the change of the logit by {abs(float(self.gap[number])):.2g}"
        if self.check is None:
            return f"{words}; not checked"
        warnings = "".join(f"\n  ⚠ {warning}" for warning in self.check.warnings(number))
        return f"{words}; {self.check.words(number)}{warnings}"

    def _where(self) -> str:
        if self.layer is None:
            return ""
        height, width = self.layer.size
        place = "each unit at the centre of what it sees" if self.layer.placed else "spread evenly"
        return f", on {self.layer.path} ({height}×{width} units, {place}, linear between them)"


def saliency(
    network: nn.Module | Classifier,
    pictures: Pictures,
    method: str | None = None,
    target: int | str | Sequence[int | str] | Tensor | None = None,
    *,
    layer: str | None = None,
    check: bool = True,
) -> SaliencyMaps:
    """Show which pixels an answer rests on, and check that the map can be trusted.

    Args:
        network: a classifier or any module; it is left as it was.
        pictures: see `striate.inspection.subject.subject_of`.
        method: ``gradient``, ``smoothgrad``, ``integrated_gradients``, ``guided_backpropagation``, ``deconvolution``,
            ``occlusion`` or ``grad_cam``; Grad-CAM where the network has maps, else the gradient, where it is None.
        target: the class that is asked about, by name or number, or one for each picture; the network's own answer
            where it is None.
        layer: a stage or the path of a module whose maps Grad-CAM reads; the last maps with more than one unit along
            each axis where it is None.
        check: whether to compare the maps with those of random weights (nine times the work of the maps) and with
            random maps (some 200 passes for each picture).

    Raises:
        NetworkError: no such method or layer, or the network has no maps for Grad-CAM or cannot be copied.
        DataError: no such class, or pictures that the network does not take.
    """
    subject = subject_of(network, pictures)
    targets = subject.targets(target)
    with contract.evaluating(subject.network):
        name, explain, place = _chosen(subject, method, layer)
        maps = explain(subject.network, subject.inputs, targets)
        gap = METHODS.get(name).gap
        missed = None if gap is None else gap(subject.network, subject.inputs, targets, maps)
        checked = (
            check_map(explain, subject.network, subject.inputs, targets, subject.spec.task, maps) if check else None
        )
    return SaliencyMaps(
        maps=maps.cpu(),
        method=name,
        images=subject.images,
        origins=subject.origins,
        targets=targets.cpu(),
        probability=probabilities_of(subject.logits, subject.spec.task).gather(1, targets[:, None])[:, 0].cpu(),
        class_names=subject.spec.task.class_names,
        layer=place,
        gap=None if missed is None else missed.cpu(),
        check=checked,
    )


def _chosen(subject: Subject, method: str | None, layer: str | None) -> tuple[str, Explain, Layer | None]:
    """Return the method's name, the method, and the layer that it reads."""
    if method is not None and METHODS.get(method).explain is not grad_cam:
        if layer is not None:
            raise NetworkError(f"Only 'grad_cam' reads a layer; leave layer={layer!r} out for {method!r}.")
        return method, METHODS.get(method).explain, None
    try:
        place = find_layer(subject.network, subject.graph, layer)
    except NetworkError:
        if method is not None or layer is not None:
            raise
        return "gradient", METHODS.get("gradient").explain, None
    return "grad_cam", partial(grad_cam, layer=place), place
