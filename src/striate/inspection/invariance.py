"""Invariance: whether a network's answer and features stay as they are while a picture is changed.

Convolution is equivariant, not invariant: where the picture moves, its maps move along (`equivariance` measures that).
Invariance comes from what follows. Pooling gives a little of it to translation and none to rotation; the rest is
learned from pictures that were shown in many places, or is not there. What is measured here says how much there is.
Blurring before subsampling is a remedy for shifts, and what it costs is measured by ``benchmarks/invariance.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from striate.core.errors import DataError
from striate.data.augment.warp import Border, blur, warp
from striate.data.imageset import Split
from striate.data.keyed import keyed_generator
from striate.drawing.curves import Curve, Plane, draw_curves
from striate.drawing.grid import Group, Sheet, Tile, draw_grid
from striate.drawing.svg import Drawing
from striate.evaluation.intervals import wilson_interval
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.networks import contract
from striate.prediction.predictor import Classifier, check_finite, probabilities_of

Kind = Literal["shift", "rotation", "scale", "blur"]

SHIFTS, BLURS = 8, 6  # amounts besides none, at most
PAIRS = 4  # of shifted copies of each picture, for the shift consistency
AT_ONCE = 64  # pictures in one forward pass
RESAMPLES = 1000  # of the bootstrap
SHOWN = 9  # changes of one kind on a sheet, at most
DIRECTIONS = ((0, 1, "right"), (1, 0, "down"), (0, -1, "left"), (-1, 0, "up"))
_CHOICE, _PAIRS = 1, 2  # each kind of draw has a stream of its own


@final
@dataclass(frozen=True)
class Estimates:
    """A number for each amount of a change, with its 95 % interval.

    Args:
        value, low, high: equally many.
    """

    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@final
@dataclass(frozen=True, eq=False)
class Effect:
    """What one kind of change did, for A amounts and N pictures.

    Args:
        kind: ``shift`` in pixels (picture i goes right, down, left or up after i mod 4), ``rotation`` in degrees
            counter-clockwise, ``scale`` as a factor, ``blur`` as the σ of a Gaussian in pixels.
        amounts: A of them, rising; one of them changes nothing.
        answers: (A, N) int64, the class that was answered.
        probabilities: (A, N) float64, of the class that was the answer to the unchanged picture.
        similarities: (A, N) float64, cosine of the features and those of the unchanged picture, −1 to 1.
        originals: (N,) int64, the answers to the unchanged pictures.
        labels: (N,) int64; None where they are not known.
    """

    kind: Kind
    amounts: tuple[float, ...]
    answers: Tensor
    probabilities: Tensor
    similarities: Tensor
    originals: Tensor
    labels: Tensor | None

    @cached_property
    def unchanged(self) -> Estimates:
        """The part of the answers that stayed, with Wilson's intervals."""
        return _shares(self.answers == self.originals)

    @cached_property
    def accuracy(self) -> Estimates | None:
        """The part of the answers that are right, with Wilson's intervals; None where the labels are not known."""
        return None if self.labels is None else _shares(self.answers == self.labels)

    @cached_property
    def probability(self) -> Estimates:
        """The mean probability of the original answer, with intervals of a bootstrap over pictures."""
        return _means(self.probabilities)

    @cached_property
    def similarity(self) -> Estimates:
        """The mean cosine of the features, with intervals of a bootstrap over pictures."""
        return _means(self.similarities)

    @property
    def area(self) -> float:
        """The mean of the curve of unchanged answers over the range: 1 where no change of any amount changed one.

        It is the trapezoids' area under `unchanged` between the least and the most amount, over the length of that
        range; of a scale along its logarithm, so that half and twice count alike.
        """
        return float(self._areas.mean())

    @property
    def area_interval(self) -> tuple[float, float]:
        """The 95 % interval of `area`, of a bootstrap over pictures; it has no width where all pictures agree."""
        estimate = _means(self._areas[None])
        return estimate.low[0], estimate.high[0]

    @cached_property
    def _areas(self) -> Tensor:
        """The area under the curve of each picture: (N,) float64."""
        place = torch.tensor(self.amounts, dtype=torch.float64)
        place = place.log() if self.kind == "scale" else place
        stays = (self.answers == self.originals).double()
        return torch.trapezoid(stays, place, dim=0) / (place[-1] - place[0])


@final
@dataclass(frozen=True, eq=False)
class Invariance:
    """How a network answers as pictures are changed.

    Args:
        images: (N, C, H, W) uint8, as they were before.
        origins: N names.
        class_names: by their numbers.
        effects: of each kind of change.
        consistency: the share of pairs of copies of a picture, each shifted by chance, that get the same answer
            (Zhang 2019, section 4).
        consistency_interval: 95 %, of a bootstrap over pictures; it has no width where all pictures agree.
        most_shift: pixels that these copies are shifted at most, each way.
        border: what moves in at the border.
        features: the layer whose input the features are; ``logits`` where no layer has a weight matrix.
    """

    images: Tensor
    origins: Sequence[str]
    class_names: tuple[str, ...]
    effects: Mapping[Kind, Effect]
    consistency: float
    consistency_interval: tuple[float, float]
    most_shift: int
    border: Border
    features: str

    def __str__(self) -> str:
        areas = ", ".join(f"{kind} {effect.area:.2f}" for kind, effect in self.effects.items())
        low, high = self.consistency_interval
        return (
            f"answers that stay, over the range: {areas}; shift consistency {self.consistency:.1%} "
            f"(95 % interval {low:.1%} to {high:.1%}, n = {len(self.images)}, up to {self.most_shift} pixels)"
        )

    def draw(self) -> Drawing:
        """Draw a plane for each kind of change."""
        return draw_curves([self._plane(effect) for effect in self.effects.values()], description=str(self))

    def draw_pictures(self, which: int = 0) -> Sheet:
        """Draw one picture under each change, with the answers.

        Args:
            which: its number among `images`.

        Raises:
            DataError: there is none of this number.
        """
        if not 0 <= which < len(self.images):
            raise DataError(f"There are {len(self.images)} pictures, numbered from 0; there is none at {which}.")
        original = int(next(iter(self.effects.values())).originals[which])
        return draw_grid(
            [self._group(effect, which) for effect in self.effects.values()],
            title=f"{Path(self.origins[which]).name}, changed",
            subtitle=f"Under each: the change, the answer (≠ where it is not {self.class_names[original]!r}, the "
            "answer to the unchanged picture), and the probability that is left to that answer.",
            notes=[f"What moves in at the border: {_BORDERS[self.border]}."],
        )

    def _group(self, effect: Effect, which: int) -> Group:
        steps = range(0, len(effect.amounts), math.ceil(len(effect.amounts) / SHOWN))  # evenly, from the first
        return Group([self._tile(effect, step, which) for step in steps], _TITLES[effect.kind], side=112)

    def _tile(self, effect: Effect, step: int, which: int) -> Tile:
        amount = effect.amounts[step]
        pixels = change(self.images[which : which + 1], effect.kind, amount, self.border, first=which)[0]
        answer = int(effect.answers[step, which])
        mark = "" if answer == int(effect.originals[which]) else "≠ "
        return Tile(
            pixels,
            f"{_in_words(effect.kind, amount, which)}\n{mark}{self.class_names[answer]}\n"
            f"{float(effect.probabilities[step, which]):.0%} left",
        )

    def _plane(self, effect: Effect) -> Plane:
        place = [math.log2(amount) for amount in effect.amounts] if effect.kind == "scale" else effect.amounts
        lines = {
            "answer unchanged": effect.unchanged,
            "probability of the original answer": effect.probability,
            "similarity of the features (cosine)": effect.similarity,
        }
        curves = [Curve(place, one.value, label, one.low, one.high, form="marks") for label, one in lines.items()]
        if effect.accuracy is not None:  # often the same as the first, so marks upon its line
            curves.append(Curve(place, effect.accuracy.value, "accuracy", form="points"))
        title = f"{_TITLES[effect.kind]}: {effect.area:.0%} of the answers stay, over the whole range"
        border = "" if effect.kind == "blur" else f"; border: {_BORDERS[self.border]}"
        return Plane(
            curves,
            title=f"{title}; shift consistency {self.consistency:.0%}" if effect.kind == "shift" else title,
            x_title=_UNITS[effect.kind] + border,
            y_title=f"share or mean, with 95 % intervals (n = {len(self.images)})",
            y_range=(min(0.0, *effect.similarity.low), 1.03),
            size=(620, 380),
        )


_TITLES: Mapping[Kind, str] = {"shift": "Shift", "rotation": "Rotation", "scale": "Scale", "blur": "Blur"}
_UNITS: Mapping[Kind, str] = {
    "shift": "pixels (right, down, left, up in turn)",
    "rotation": "degrees counter-clockwise",
    "scale": "log₂ of the factor (−1: half the size, 1: twice)",
    "blur": "σ of the Gaussian in pixels",
}
_BORDERS: Mapping[Border, str] = {"zeros": "black", "edge": "edge pixels repeated", "reflect": "mirrored"}


def invariance(
    network: nn.Module | Classifier, pictures: Pictures, *, border: Border = "edge", count: int = 64, seed: int = 0
) -> Invariance:
    """Change pictures more and more, and measure how the answers and the features change.

    Shifts go up to a quarter of the picture's shorter side, rotations from −90° to 90°, scales from ½ to 2, blurs up to
    a σ of a fourteenth of the side (2 pixels at 28). The features are the input of the last layer that has a weight
    matrix, the mean over all places where it is a map. Something must move in at the border, and a network
    may answer to that: repeated edges add no object, but streaks where the background is not even; ``reflect`` adds
    none of these, but parts of the object a second time.

    Args:
        network: a classifier, or a module.
        pictures: a split, whose labels then give the accuracy too, or pictures; see `subject_of`.
        border: what moves in at the border.
        count: pictures that are looked at, at most; chosen by ``seed``. Each costs about 42 forward passes.
        seed: chooses the pictures and the shifts of the pairs.

    Raises:
        DataError: there is no picture, or it is none that the network takes.
        NetworkError: the network does not fit the pictures, or its answers are no numbers.

    Source: Zhang, Making convolutional networks shift-invariant again (ICML 2019), section 4, for the shift
    consistency: he shifts by up to an eighth of the side.
    """
    subject = subject_of(network, _chosen(pictures, count, seed))
    path, head = _head_of(subject)
    originals, features = _run(subject, head, subject.images)
    answers = originals.argmax(1)
    effects: dict[Kind, Effect] = {}
    for kind, amounts in _amounts(min(subject.images.shape[2:])).items():
        rows = [
            (originals, features)
            if amount == (kind == "scale")
            else _run(subject, head, change(subject.images, kind, amount, border))
            for amount in amounts
        ]
        effects[kind] = Effect(
            kind,
            amounts,
            torch.stack([probabilities.argmax(1) for probabilities, _ in rows]),
            torch.stack([probabilities.gather(1, answers[:, None])[:, 0] for probabilities, _ in rows]),
            torch.stack([F.cosine_similarity(seen, features, dim=1) for _, seen in rows]),
            answers,
            subject.labels,
        )
    most = max(1, min(subject.images.shape[2:]) // 8)
    same = _means(_pairs(subject, head, most, border, seed)[None])
    return Invariance(
        subject.images,
        subject.origins,
        subject.spec.task.class_names,
        effects,
        same.value[0],
        (same.low[0], same.high[0]),
        most,
        border,
        path,
    )


def change(images: Tensor, kind: Kind, amount: float, border: Border = "edge", *, first: int = 0) -> Tensor:
    """Return pictures (N, C, H, W) uint8, changed by one amount of a kind; see `Effect`.

    Args:
        first: the number of the first picture, which says where a shift goes.
    """
    if kind == "rotation":
        return warp(images, degrees=amount, border=border)
    if kind == "scale":
        return warp(images, scale=amount, border=border)
    if kind == "blur":
        return blur(images, amount)
    towards = [DIRECTIONS[number % 4] for number in range(first, first + len(images))]
    shift = torch.tensor([[down * amount, right * amount] for down, right, _ in towards])
    return warp(images, shift=shift, border=border)


def _amounts(side: int) -> dict[Kind, tuple[float, ...]]:
    """Return the amounts of each kind for pictures whose shorter side is this many pixels."""
    most = max(1, side // 4)
    return {
        "shift": tuple(float(pixels) for pixels in range(0, most + 1, math.ceil(most / SHIFTS))),
        "rotation": tuple(float(degrees) for degrees in range(-90, 91, 15)),
        "scale": tuple(2 ** (step / 4) for step in range(-4, 5)),
        "blur": tuple(side / 14 * step / BLURS for step in range(BLURS + 1)),
    }


def _in_words(kind: Kind, amount: float, which: int) -> str:
    if kind == "shift":
        return f"{amount:.0f} px {DIRECTIONS[which % 4][2]}" if amount else "0 px"
    if kind == "rotation":
        return f"{amount:+.0f}°".replace("-", "−") if amount else "0°"
    return f"× {amount:.2f}" if kind == "scale" else f"σ {amount:.1f} px"


def _chosen(pictures: Pictures, count: int, seed: int) -> Pictures:
    """Return at most ``count`` of the pictures, in their order."""
    if count < 1:
        raise DataError(f"count must be at least 1, got {count}.")
    single = isinstance(pictures, str | Path | bytes | Image.Image | np.ndarray)
    single = single or (isinstance(pictures, Tensor) and pictures.ndim < 4)
    several: Any = pictures
    if single or len(several) <= count:
        return pictures
    chosen = torch.randperm(len(several), generator=keyed_generator(seed, _CHOICE))[:count].sort().values
    if isinstance(pictures, Split | Tensor):
        return pictures[chosen]
    return [several[number] for number in chosen.tolist()]


def _head_of(subject: Subject) -> tuple[str, nn.Module | None]:
    """Return the last layer with a weight matrix that runs, and its path."""
    ran: list[str] = []
    layers = {
        path: module
        for path, module in contract.leaves_of(subject.network).items()
        if any(parameter.ndim > 1 for parameter in module.parameters())
    }
    hooks = [module.register_forward_pre_hook(_noting(ran, path)) for path, module in layers.items()]
    try:
        with contract.evaluating(subject.network), torch.no_grad():
            subject.network(subject.prepare(subject.images[:1]))
    finally:
        for hook in hooks:
            hook.remove()
    return (ran[-1], layers[ran[-1]]) if ran else ("logits", None)


def _noting(ran: list[str], path: str) -> Any:
    return lambda module, inputs: ran.append(path)


@contextmanager
def _seeing_inputs(head: nn.Module | None) -> Iterator[list[Tensor]]:
    """Yield a list to which a layer adds what it is given; the hook is removed however it ends."""
    seen: list[Tensor] = []
    if head is None:
        yield seen
        return
    hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    try:
        yield seen
    finally:
        hook.remove()


def _run(subject: Subject, head: nn.Module | None, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities (N, K) and the features (N, F) of pictures (N, C, H, W) uint8, float64 on the CPU."""
    logits, features = [], []
    with contract.evaluating(subject.network), torch.no_grad(), _seeing_inputs(head) as seen:
        for start in range(0, len(images), AT_ONCE):
            part = images[start : start + AT_ONCE]
            logits.append(subject.network(subject.prepare(part)).double().cpu())
            given = seen[-1].double().cpu() if seen else logits[-1]
            given = given.mean(tuple(range(2, given.ndim))) if given.ndim > 2 else given  # (N, F)
            features.append(given.reshape(len(part), -1))
            seen.clear()
    check_finite(torch.cat(logits))
    return probabilities_of(torch.cat(logits), subject.spec.task), torch.cat(features)


def _pairs(subject: Subject, head: nn.Module | None, most: int, border: Border, seed: int) -> Tensor:
    """Return the share of `PAIRS` pairs of shifted copies of each picture that get one answer: (N,) float64."""
    generator = keyed_generator(seed, _PAIRS)
    shape = (PAIRS, 2, len(subject.images), 2)
    shifts = torch.randint(-most, most + 1, shape, generator=generator)
    agree = torch.zeros(len(subject.images), dtype=torch.float64)
    for pair in shifts:
        one, other = (
            _run(subject, head, warp(subject.images, shift=shift, border=border))[0].argmax(1) for shift in pair
        )
        agree += one == other
    return agree / PAIRS


def _shares(hits: Tensor) -> Estimates:
    """Return the share of each row of (A, N) that is true, with Wilson's 95 % interval."""
    counts, total = hits.sum(1).tolist(), hits.shape[1]
    intervals = [wilson_interval(count, total) for count in counts]
    return Estimates(
        tuple(count / total for count in counts),
        tuple(low for low, _ in intervals),
        tuple(high for _, high in intervals),
    )


def _means(values: Tensor) -> Estimates:
    """Return the mean of each row of (A, N), with the 95 % interval of a bootstrap over columns."""
    count = values.shape[1]
    drawn = torch.randint(count, (RESAMPLES, count), generator=keyed_generator(count))
    weights = torch.zeros(RESAMPLES, count, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.full(drawn.shape, 1 / count, dtype=torch.float64))
    means = values.double() @ weights.T  # (A, RESAMPLES)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=1)
    return Estimates(tuple(values.double().mean(1).tolist()), tuple(low.tolist()), tuple(high.tolist()))
