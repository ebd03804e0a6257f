"""Everything there is to see of a unit on one sheet, in the manner of Zeiler and Fergus.

The nine pictures that excite it most, cropped to what it saw; what in them excited it, by deconvolution (Zeiler and
Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, figure 2) and by guided backpropagation
(Springenberg et al., "Striving for Simplicity", 2015); and the picture that would excite it most (Yosinski et al.,
"Understanding Neural Networks Through Deep Visualization", 2015).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from striate.core.errors import DataError
from striate.drawing.colours import Scale
from striate.drawing.grid import Group, Sheet, Tile, draw_grid, in_digits
from striate.inspection.backward import Rectified, Rule
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.inspection.units.crops import (
    STRIPED,
    Window,
    clipped,
    crop,
    cut,
    described,
    frame,
    mosaic,
    unknown,
)
from striate.inspection.units.maximise import CONTRAST, STEPS, Maximum, ascend, mean_of
from striate.inspection.units.site import Site, respond, sent_back, unit_of
from striate.inspection.units.top import TopPictures, search, top_pictures
from striate.networks.geometry import Geometry
from striate.prediction.predictor import Classifier

_SHARE = Scale("diverging", -1, 1, "share of each tile's largest magnitude: orange excites the unit, blue inhibits it")


@final
@dataclass(frozen=True, eq=False)
class UnitView:
    """What one unit sees.

    Args:
        unit: as ``layer:channel``.
        values: (n,) float, of the pictures that excite it most, the largest first.
        pictures: (n,) int64, their numbers in the set.
        images: (n, C, H, W) uint8.
        labels: the class of each; None where it is not known.
        windows: what the unit saw of each where it answered most: (first row, last row, first column, last column),
            beyond the border where it saw padding.
        deconvolution, guided: (n, C, H, W) float, what comes back to the normalised picture from that place.
        maximum: the picture that excites it most.
        notes: what is not known, in sentences.
    """

    unit: str
    values: Tensor
    pictures: Tensor
    images: Tensor
    labels: Sequence[str] | None
    windows: Sequence[Window]
    deconvolution: Tensor
    guided: Tensor
    maximum: Maximum
    notes: Sequence[str] = ()

    @property
    def crops(self) -> list[Tensor]:
        """What the unit saw of each picture: (3, h, w) uint8, striped beyond the picture's border."""
        return [crop(image, window) for image, window in zip(self.images, self.windows, strict=True)]

    def draw(self) -> Sheet:
        """Draw all of it on one sheet."""
        best = f"{len(self.values)} pictures that excite it most, cropped to what it saw: {described(self.values)}"
        tiles = [
            Tile(mosaic(self.crops), best),
            Tile(self._back(self.deconvolution), "their deconvolution"),
            Tile(self._back(self.guided), "their guided backpropagation"),
            self._made("the picture that ascent found: "),
        ]
        names = self.labels or [f"picture {number}" for number in self.pictures.tolist()]
        whole = [
            Tile(image, f"{name}\n{in_digits(value)}", box=frame(window, image))
            for image, name, value, window in zip(self.images, names, self.values.tolist(), self.windows, strict=True)
        ]
        return draw_grid(
            [
                Group(tiles, "What it answers to", _SHARE, side=max(tiles[0].pixels.shape[-2:])),
                Group(whole, "The whole pictures, with what it saw, their classes and its values", columns=len(whole)),
            ],
            title=f"The unit {self.unit}",
            subtitle="What the pictures on the left have in common excites this unit; the next two show which pixels "
            "of them did it; the last is made for it.",
            notes=_explained([self]),
        )

    def tiles(self) -> list[Tile]:
        """Return its crops, their deconvolution and the picture that excites it most, for a sheet of several units."""
        classes = ", ".join(f"{count} × {name}" for name, count in Counter(self.labels or ()).most_common(3))
        return [
            Tile(mosaic(self.crops), f"{self.unit}: {described(self.values)}\n{classes}"),
            Tile(self._back(self.deconvolution), "deconvolution"),
            self._made("found by ascent: "),
        ]

    def _made(self, words: str) -> Tile:
        window = clipped(self.maximum.window, self.maximum.picture)
        words = words.replace(":", ", cropped:") if frame(window, self.maximum.picture) else words
        return Tile(crop(self.maximum.picture, window), f"{words}{in_digits(self.maximum.value)}")

    def _back(self, maps: Tensor) -> Tensor:
        """Return what came back to the pictures, cropped, each to its own largest magnitude."""
        parts = [cut(one, window, 0.0) for one, window in zip(maps, self.windows, strict=True)]
        parts = [part / part.abs().amax().clamp(min=torch.finfo(part.dtype).tiny) for part in parts]
        if maps.shape[1] == 3:
            return mosaic([((part + 1) * 127.5).round().to(torch.uint8) for part in parts])
        return mosaic([part.sum(0) for part in parts])


@final
@dataclass(frozen=True, eq=False)
class LayerView:
    """What the first units of a layer see.

    Args:
        layer: its name.
        count: how many units it has.
        views: of the first ones.
    """

    layer: str
    count: int
    views: Sequence[UnitView]

    def draw(self) -> Sheet:
        """Draw all of them on one sheet, two in a row."""
        tiles = [tile for view in self.views for tile in view.tiles()]
        return draw_grid(
            [Group(tiles, "", _SHARE, columns=6, side=max(tiles[0].pixels.shape[-2:]))],
            title=f"The first {len(self.views)} of the {self.count} units of {self.layer}",
            subtitle="For each: the pictures that excite it most, cropped to what it saw, with its values and their "
            "classes; which pixels of them did it; and the picture that gradient ascent made for it.",
            notes=_explained(self.views),
        )


def view_unit(
    network: nn.Module | Classifier, pictures: Pictures, unit: str, *, steps: int = STEPS, seed: int = 0
) -> UnitView:
    """Show what one unit sees.

    Args:
        network: a classifier or any module.
        pictures: a split of a data set, or anything that `subject_of` takes.
        unit: as ``layer:channel``, such as ``conv3:17``.
        steps, seed: of the picture that excites it most; see `maximise`.

    Raises:
        DataError: no picture.
        NetworkError: there is no such unit, or no gradient comes back from it.
    """
    subject = subject_of(network, pictures)
    site, channel = unit_of(subject, unit)  # what is wrong is said before the pass
    return _view(search(subject, {site.name: site}), site, channel, steps, seed)


def view_layer(
    network: nn.Module | Classifier,
    pictures: Pictures,
    layer: str,
    *,
    units: int = 8,
    steps: int = STEPS,
    seed: int = 0,
) -> LayerView:
    """Show what the first units of a layer see, after one pass over the pictures.

    Args:
        layer: the name of a stage or the path of a module.
        units: how many; all of them where there are fewer.

    Raises:
        DataError: no picture, or ``units`` below 1.
        NetworkError: there is no such layer, or no gradient comes back from it.
    """
    if units < 1:
        raise DataError(f"units must be at least 1, got {units}.")
    top = top_pictures(network, pictures, layer)
    site = top.sites[layer]
    return LayerView(
        layer, site.units, [_view(top, site, number, steps, seed) for number in range(min(units, site.units))]
    )


def _view(top: TopPictures, site: Site, channel: int, steps: int, seed: int) -> UnitView:
    subject, best = top.subject, top[site.name]
    numbers = best.pictures[channel]
    images, windows = subject.images[numbers], top.windows(site.name, channel)
    names = subject.spec.task.class_names
    labels = None if subject.labels is None else [names[label] for label in subject.labels[numbers].tolist()]
    spec, geometry = subject.spec.input, Geometry(subject.graph)
    # No less contrast than the pictures of the set have, so that the comparison with them is fair.
    theirs = [_contrast(image, window, mean_of(spec)) for image, window in zip(images, windows, strict=True)]
    contrast = max(CONTRAST, *theirs)
    maximum = ascend(subject, site, channel, steps=steps, contrast=contrast, seed=seed)
    positions = best.positions[channel]
    return UnitView(
        f"{site.name}:{channel}",
        best.values[channel],
        numbers,
        images,
        labels,
        windows,
        _sent_back(subject, site, channel, images, positions, "deconvolution"),
        _sent_back(subject, site, channel, images, positions, "guided"),
        maximum,
        unknown(geometry, [site]),
    )


def _sent_back(subject: Subject, site: Site, channel: int, images: Tensor, positions: Tensor, rule: Rule) -> Tensor:
    """Return what comes back to normalised pictures (n, C, H, W) from one place of a unit's map for each."""
    inputs = subject.prepare(images).requires_grad_()
    rows = torch.arange(len(images))
    places = [rows, torch.full_like(rows, channel), *(positions.unbind(1) if site.sides else ())]
    with torch.enable_grad(), Rectified(rule):
        # A copy that is no leaf, so that layers may work on the input in place.
        chosen = respond(subject.network, site, inputs.mul(1), lambda output: output[tuple(places)])
        return sent_back(site, chosen, inputs).cpu()


def _contrast(image: Tensor, window: Window, mean: Tensor) -> float:
    """Return the root mean square difference from the mean, 0–1, in a window of a picture (C, H, W) uint8."""
    top, bottom, left, right = clipped(window, image)
    return float((image[:, top : bottom + 1, left : right + 1] / 255 - mean).square().mean().sqrt())


def _explained(views: Sequence[UnitView]) -> list[str]:
    """Return what a reader of the sheet must know."""
    notes = []
    if any(window != clipped(window, view.images) for view in views for window in view.windows):
        notes.append(STRIPED)
    if views[0].images.shape[1] == 3:
        notes.append("What came back to the pictures: mid-grey is 0, each is stretched to its own largest magnitude.")
    return [*notes, *dict.fromkeys(note for view in views for note in view.notes)]
