"""The pictures of a set that excite each unit most, found in one pass (Zeiler and Fergus, ECCV 2014, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from striate.core.errors import DataError, NetworkError
from striate.drawing.grid import Group, Sheet, Tile, draw_grid
from striate.inspection.record import watching
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.inspection.units.crops import STRIPED, Window, crop, described, mosaic, unknown, window_of
from striate.inspection.units.site import Site, sites_of
from striate.networks import contract
from striate.networks.geometry import Geometry
from striate.prediction.predictor import PICTURES_AT_ONCE, Classifier

MOST = 9  # three rows of three, as in the paper
DRAWN_LAYERS, DRAWN_UNITS = 12, 6


@final
@dataclass(frozen=True, eq=False)
class Best:
    """The pictures that excite each unit of one layer most, the most exciting first.

    Args:
        values: (units, n) float, the largest value of each picture's map; equal ones in the order of the pictures.
        pictures: (units, n) int64, their numbers in the set.
        positions: (units, n, 2) int64, (y, x) of that value in the map, the first of equal ones, sought before
            rectification: a unit that answers nowhere still has a place where it came nearest to it; −1 where a unit
            is one number.
    """

    values: Tensor
    pictures: Tensor
    positions: Tensor


@final
@dataclass(frozen=True, eq=False)
class TopPictures:
    """The pictures that excite each unit most.

    Args:
        subject: the network and the set of pictures.
        sites: the layers by name.
        layers: name of each layer → what was found.
    """

    subject: Subject
    sites: Mapping[str, Site]
    layers: Mapping[str, Best]

    def __getitem__(self, layer: str) -> Best:
        return self.layers[layer]

    def windows(self, layer: str, unit: int) -> list[Window]:
        """Return which part of each of a unit's pictures it saw."""
        shown = Geometry(self.subject.graph)
        positions = self.layers[layer].positions[unit].tolist()
        return [window_of(shown, self.sites[layer], position, self.subject.spec.input) for position in positions]

    def crops(self, layer: str, unit: int) -> list[Tensor]:
        """Return that part of each of a unit's pictures: (3, h, w) uint8, striped beyond the picture's border."""
        images = self.subject.images[self.layers[layer].pictures[unit]]
        return [crop(image, window) for image, window in zip(images, self.windows(layer, unit), strict=True)]

    def draw(self) -> Sheet:
        """Draw the pictures of the first units of each layer, cropped to what the unit saw."""
        groups = [self._group(layer) for layer in list(self.layers)[:DRAWN_LAYERS]]
        left = len(self.layers) - len(groups)
        others = [f"{left} more layers were looked at and are not drawn."] if left else []
        shown = Geometry(self.subject.graph)
        return draw_grid(
            groups,
            title="The pictures that excite each unit most",
            subtitle=f"Of {len(self.subject.images)} pictures, cropped to what the unit saw where it answered most: the"
            " best at the top left; under them the values of the best and of the last.",
            notes=[*unknown(shown, self.sites.values()), STRIPED, *others],
        )

    def _group(self, layer: str) -> Group:
        best = self.layers[layer]
        units = min(DRAWN_UNITS, len(best.values))
        tiles = [
            Tile(mosaic(self.crops(layer, unit)), f"{layer}:{unit}\n{described(best.values[unit])}")
            for unit in range(units)
        ]
        rest = f", the first {units} of {len(best.values)} units" if units < len(best.values) else ""
        return Group(tiles, f"{layer}{rest}", columns=units, side=max(tiles[0].pixels.shape[-2:]))


def top_pictures(
    network: nn.Module | Classifier, pictures: Pictures, where: str | Sequence[str] | None = None, most: int = MOST
) -> TopPictures:
    """Find the pictures that excite each unit most, in one pass over them.

    A picture counts once for each unit, with the largest value of the unit's map. Nothing is kept of the pass but
    ``most`` values, numbers and positions for each unit, however many pictures there are.

    Args:
        network: a classifier or any module.
        pictures: a split of a data set, or anything that `subject_of` takes.
        where: the names of layers; every convolution and fully connected layer where None.
        most: how many pictures for each unit; all of them where there are fewer.

    Raises:
        DataError: no picture, or ``most`` below 1.
        NetworkError: no such layer, or what it returns is not finite.
    """
    if most < 1:
        raise DataError(f"most must be at least 1, got {most}.")
    subject = subject_of(network, pictures)
    return search(subject, sites_of(subject, where), most)


def search(subject: Subject, sites: Mapping[str, Site], most: int = MOST) -> TopPictures:
    """Find the pictures that excite each unit of some layers most. See `top_pictures`."""
    best = {name: _nothing(site.units, subject.device) for name, site in sites.items()}
    latest: dict[str, _Running] = {}
    start = 0

    def see(name: str, output: Tensor) -> None:
        latest[name] = _merged(best[name], output, start, most, sites[name])

    layers = {name: site.watched for name, site in sites.items()}
    with contract.evaluating(subject.network), watching(layers, see), torch.inference_mode():
        for start in range(0, len(subject.images), PICTURES_AT_ONCE):
            subject.network(subject.prepare(subject.images[start : start + PICTURES_AT_ONCE]))
            best.update(latest)  # only now: of a layer that is used several times, the last time counts
    return TopPictures(subject, sites, {name: _finished(best[name], site) for name, site in sites.items()})


_Running = tuple[Tensor, Tensor, Tensor]  # (units, n) each: values, numbers of pictures, places in the flattened map


def _nothing(units: int, device: torch.device) -> _Running:
    return torch.empty(units, 0, device=device), *(torch.empty(units, 0, dtype=torch.int64, device=device),) * 2


def _merged(best: _Running, output: Tensor, start: int, most: int, site: Site) -> _Running:
    """Return the best of what was known and of a batch whose first picture has the number ``start``.

    The maps are read once, for their largest values; their places are sought only in maps that are among the best.
    """
    maps = output.flatten(2) if output.ndim > 2 else output[..., None]  # (N, units, places)
    highest = maps.amax(2).T  # (units, N)
    if not highest.isfinite().all():
        raise NetworkError(
            f"The values of layer {site.name!r} are not finite numbers: no picture can be called the best."
        )
    highest = highest.clamp(min=0) if site.rectified else highest
    values, pictures, places = best
    known = values.shape[1]
    # Later pictures must exceed what is known: of equal ones the first is kept.
    open_units = (highest > values[:, -1:]).any(1).nonzero()[:, 0] if known == most else torch.arange(len(values))
    both = torch.cat([values[open_units], highest[open_units].to(values)], 1)
    ordered, order = both.sort(dim=1, descending=True, stable=True)
    ordered, order = ordered[:, :most], order[:, :most]  # (open units, n)
    is_new, number = order >= known, (order - known).clamp(min=0)
    wanted = is_new.nonzero(as_tuple=True)
    found = torch.empty_like(order)
    found[wanted] = maps[number[wanted], open_units[wanted[0]]].argmax(1)
    if known:
        old = order.clamp(max=known - 1)
        number = torch.where(is_new, number + start, pictures[open_units].gather(1, old))
        found = torch.where(is_new, found, places[open_units].gather(1, old))
    if len(open_units) == len(values):
        return ordered, number, found
    return tuple(  # type: ignore[return-value]
        whole.index_copy(0, open_units, part)
        for whole, part in ((values, ordered), (pictures, number), (places, found))
    )


def _finished(best: _Running, site: Site) -> Best:
    values, pictures, places = (one.clone().cpu() for one in best)  # clones are no inference tensors
    width = site.sides[1] if site.sides else 1
    positions = torch.stack([places // width, places % width], -1) if site.sides else places.new_full((1,), -1)
    return Best(values, pictures, positions.expand(*values.shape, 2).contiguous())
