"""Orientation tuning: the experiment of Hubel and Wiesel, on the first layer of a network.

D. Hubel and T. Wiesel ("Receptive fields of single neurones in the cat's striate cortex", J. Physiol. 1959) showed bars
at many angles to a cat and listened to one cell at a time. Here the picture is a grating of stripes, sine waves from
black to white in bytes and preprocessed as every other picture of the network, at each of 36 angles, 16 spatial
frequencies and 16 phases.

- An angle is that of the stripes: degrees counter-clockwise from the horizontal, 0 ≤ angle < 180.
- A frequency is in cycles per pixel of the picture, from half a cycle in the unit's window to 0.5, which is the finest
  that pixels can show (Nyquist).
- One unit of each channel is measured, away from the borders. By the sharing of weights, a unit elsewhere gives the
  same answer to another phase, so that all phases at one place say what all places would, without the borders' effect.
- A response is the largest over the phases, after the batch normalisation and rectification that follow the layer
  directly, less the response to mid-grey, as a physiologist subtracts the spontaneous rate. Before its rectification
  such a unit is linear: it is what physiologists call a simple cell, which answers to one phase of the stripes.

All channels of a grating are equal, so a unit that answers to colour alone is silent here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.core.errors import NetworkError
from striate.drawing.angles import angle_colours, draw_bar, draw_rose, draw_wheel
from striate.drawing.grid import Group, Sheet, Tile, draw_grid
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.networks import contract
from striate.networks.graph import Graph, Node
from striate.prediction.predictor import Classifier

ANGLES, FREQUENCIES, PHASES = 36, 16, 16
SILENT = 0.01  # of the liveliest unit's response: below it is the rounding to bytes, and what hardly reaches 0
SELECTIVE = 0.2  # from this selectivity on, a unit's preferred angle is counted
FULL = 0.5  # from this selectivity on, the map shows full colour: a first layer rarely has more
SHOWN, MAPPED = 8, 256  # units with their tuning curves, units on the map
PETALS = 12  # of the rose of preferred angles, 15° each

_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)
_RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
               nn.Softplus, nn.Hardswish)  # fmt: skip
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "relu6": F.relu6, "silu": F.silu}

Step = tuple[str, Callable[[Tensor], Tensor]]  # what follows the layer: its name, and itself


@final
@dataclass(frozen=True, eq=False)
class OrientationTuning:
    """What the units of a first layer answer to gratings.

    Args:
        layer: the path of the module.
        after: what the answers were taken after: the layer, then what follows it directly.
        angles: (A,) of the stripes, degrees counter-clockwise from the horizontal.
        frequencies: (F,) cycles per pixel, rising.
        responses: (U, F, A) float64, at least 0: the largest over the phases, less that to mid-grey.
        kernels: (U, C, h, w) the weights of the units.
    """

    layer: str
    after: tuple[str, ...]
    angles: Tensor
    frequencies: Tensor
    responses: Tensor
    kernels: Tensor

    @cached_property
    def silent(self) -> Tensor:
        """(U,) bool: which units answer to no grating, as dead ones and those for colour alone do."""
        peaks = self.responses.amax((1, 2))
        return peaks <= SILENT * peaks.max()

    @cached_property
    def curves(self) -> Tensor:
        """(U, A) the tuning curves: responses at each unit's preferred frequency."""
        best = self.responses.amax(2).argmax(1)
        return self.responses[torch.arange(len(best)), best]

    @cached_property
    def preferred_frequency(self) -> Tensor:
        """(U,) cycles per pixel, that of the largest response; nan where the unit is silent."""
        best = self.frequencies[self.responses.amax(2).argmax(1)]
        return best.masked_fill(self.silent, math.nan)

    @cached_property
    def _resultant(self) -> Tensor:
        """(U,) complex: mean of exp(2i · angle) weighted by the tuning curve; nan where the unit is silent."""
        turns = torch.polar(torch.ones_like(self.angles), 2 * torch.deg2rad(self.angles))
        curves = self.curves.masked_fill(self.silent[:, None], math.nan)
        return (curves * turns).sum(1) / curves.sum(1)

    @cached_property
    def preferred_angle(self) -> Tensor:
        """(U,) degrees, 0 ≤ angle < 180: half the direction of the vector sum of responses at doubled angles.

        nan where the unit is silent; of little meaning where its selectivity is near 0.
        """
        return (torch.rad2deg(self._resultant.angle()) / 2).remainder(180).remainder(180)  # −1e-20 is 180 at first

    @cached_property
    def selectivity(self) -> Tensor:
        """(U,) 1 − circular variance: 0 where all angles are answered alike, 1 where one alone is; nan where silent.

        D. Ringach, R. Shapley, M. Hawken, "Orientation selectivity in macaque V1", J. Neurosci. 2002.
        """
        return self._resultant.abs()

    def draw(self) -> Sheet:
        """Draw the most selective units with their tuning curves, the preferred angles, and the map of all units."""
        counted, units = self.selectivity >= SELECTIVE, len(self.kernels)
        silent = int(self.silent.sum())
        notes = [f"Units that answer to no grating, framed in grey: {silent} of {units}."] * (silent > 0)
        shown = torch.arange(units)
        if units > MAPPED:
            shown = self._ranked()[:MAPPED].sort().values
            notes.append(f"The map shows the {MAPPED} most selective of {units} units.")
        groups = [
            Group([self._tuned(u) for u in self._ranked()[:SHOWN].tolist() if not self.silent[u]],
                  "The most selective units: weights (mid-grey is 0), and response to stripes of each angle",
                  columns=4, side=204),
            Group(self._summary(counted), "Preferred angles", side=160),
            Group([self._mapped(u) for u in shown.tolist()],
                  "The cortex: every unit's weights, framed in its preferred angle's colour, and a bar at that angle",
                  side=self._mapped(0).pixels.shape[2]),
        ]  # fmt: skip
        return draw_grid(
            groups,
            title=f"Orientation tuning of the units of {self.layer or 'the network'}",
            subtitle="Gratings of every angle and frequency were shown to each unit, as Hubel and Wiesel showed bars "
            "to cells of the striate cortex. A narrow rose is a unit that answers to stripes of one angle alone, a "
            f"round one a unit that takes all alike. Measured after {', '.join(self.after)}.",
            notes=notes,
        )

    def _ranked(self) -> Tensor:
        return self.selectivity.nan_to_num(-1).argsort(descending=True, stable=True)

    def _tuned(self, unit: int) -> Tile:
        curve = F.interpolate(self.curves[unit].repeat(3)[None, None], 3 * 180, mode="linear", align_corners=False)
        # Interpolated samples lie at half steps: turn the curve so that its first is at 0°.
        turned = curve[0, 0, 180:360].roll(-round(90 / len(self.angles) - 0.5))
        rose = draw_rose(turned, 100)
        weights = _fitted(_picture_of(self.kernels[unit]), 100)
        gap = torch.full((3, 100, 4), 255, dtype=torch.uint8)
        words = (
            f"unit {unit}: {round(float(self.preferred_angle[unit])) % 180}°, "
            f"{self.preferred_frequency[unit]:.2f} cycles per pixel, selectivity {self.selectivity[unit]:.2f}"
        )
        return Tile(torch.cat([weights, gap, rose], 2), words)

    def _summary(self, counted: Tensor) -> list[Tile]:
        bins = (self.preferred_angle[counted] / 180 * PETALS).round().long() % PETALS
        counts = torch.bincount(bins, minlength=PETALS)
        return [
            Tile(draw_rose(counts, 160), f"units by preferred angle, in steps of 15°; the rim is {int(counts.max())}. "
                 f"{int(counted.sum())} of {len(counted)} units: those of selectivity {SELECTIVE} or more"),
            Tile(draw_wheel(160), "the colour of an angle: horizontal stripes to the right, vertical at the top; pale "
                 f"in the middle is selectivity 0, full at the rim {FULL} or more"),
        ]  # fmt: skip

    def _mapped(self, unit: int) -> Tile:
        weights = _fitted(_picture_of(self.kernels[unit]), 44)
        angle, strength = self.preferred_angle[unit], self.selectivity[unit].nan_to_num(0) / FULL
        framed = angle_colours(angle, strength)[:, None, None].repeat(1, *(side + 10 for side in weights.shape[1:]))
        framed[:, 5:-5, 5:-5] = weights
        bar = draw_bar(float(angle), float(strength), 26)
        above = (framed.shape[1] - 26) // 2
        beside = F.pad(bar, (2, 0, above, framed.shape[1] - 26 - above), value=255)
        return Tile(torch.cat([framed, beside], 2), str(unit))


def orientation_tuning(network: nn.Module | Classifier, pictures: Pictures | None = None) -> OrientationTuning:
    """Show gratings to each unit of the first layer and return what it answers.

    Args:
        network: a classifier, or a module whose first layer is a convolution, or is fully connected to the picture.
        pictures: of the size that the network takes, where it does not say that itself; nothing else of them matters.

    Raises:
        DataError: the pictures are none that the network takes.
        NetworkError: the first layer is of another kind or does not get the picture itself, or it is not known what
            pictures the network takes.
    """
    subject = _probed(network, pictures)
    path, layer, node = _first_layer(subject)
    scale, offset = _what_reaches(subject, path, layer)
    kernels = _kernels(layer, subject)
    grey = _on_grey_pictures(kernels, scale)
    bias = torch.zeros(len(kernels)) if layer.bias is None else layer.bias.detach().cpu()
    constant = bias.double() + _on_grey_pictures(kernels, offset).sum((1, 2))
    following = list(_following(subject.graph, node, subject.network))
    dilation = _pair(layer.dilation) if isinstance(layer, nn.Conv2d) else (1, 1)

    def answers(pixels: Tensor) -> Tensor:
        """(…, h, w) bytes under the unit's window → (…, U)."""
        linear = pixels.flatten(-2).double() @ grey.flatten(1).T + constant
        flat = linear.reshape(-1, len(kernels)).to(subject.device, subject.dtype)
        flat = flat if isinstance(layer, nn.Linear) else flat[:, :, None, None]
        with contract.evaluating(subject.network), torch.no_grad():
            for _, step in following:
                flat = step(flat)
        return flat.double().cpu().reshape(linear.shape)

    window = [(size - 1) * step + 1 for size, step in zip(grey.shape[1:], dilation, strict=True)]
    lowest = min(0.25, 0.5 / max(window))
    frequencies = torch.logspace(math.log10(lowest), math.log10(0.5), FREQUENCIES, dtype=torch.float64)
    angles = torch.arange(ANGLES, dtype=torch.float64) * 180 / ANGLES
    silence = answers(torch.full(grey.shape[1:], 128))
    shown = (gratings(angles, float(one), (grey.shape[1], grey.shape[2]), dilation) for one in frequencies)
    responses = torch.stack([(answers(one).amax(1) - silence).clamp(min=0).T for one in shown], 1)
    return OrientationTuning(
        path, (path, *(name for name, _ in following)), angles, frequencies, responses, kernels
    )  # fmt: skip


def gratings(angles: Tensor, frequency: float, size: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> Tensor:
    """Return stripes from black to white as a unit's window sees them.

    Args:
        angles: (A,) of the stripes, degrees counter-clockwise from the horizontal.
        frequency: cycles per pixel.
        size: rows and columns of the window's weights.
        dilation: pixels from one to the next.

    Returns:
        (A, P, h, w) uint8, of P phases of which the first is white in the middle.
    """
    y, x = (
        (torch.arange(count) - (count - 1) / 2) * step for count, step in zip(size, dilation, strict=True)
    )  # rows go down
    slopes = torch.deg2rad(angles).float()[:, None, None, None]
    phases = (torch.arange(PHASES) * 2 * math.pi / PHASES)[:, None, None]
    across = x * torch.sin(slopes) + y[:, None] * torch.cos(slopes)  # at right angles to the stripes
    return (127.5 + 127.5 * torch.cos(2 * math.pi * frequency * across + phases)).round().to(torch.uint8)


def _probed(network: nn.Module | Classifier, pictures: Pictures | None) -> Subject:
    """Return the network with three pictures to find out what becomes of them: black, white and noise."""
    spec = network.spec if isinstance(network, Classifier) else contract.spec_of(network)
    if pictures is None:
        if spec is None:
            raise NetworkError(
                "The network does not say what size of pictures it takes. "
                "Pass st.Classifier(network, spec), or a picture of that size."
            )
        pictures = torch.zeros(1, *spec.input.shape, dtype=torch.uint8)
    subject = subject_of(network, pictures)
    images = torch.randint(0, 256, (3, *subject.images.shape[1:]), generator=torch.Generator().manual_seed(0))
    images[0], images[1] = 0, 255
    return replace(subject, images=images.to(torch.uint8), labels=None, origins=("black", "white", "noise"))


def _first_layer(subject: Subject) -> tuple[str, nn.Conv2d | nn.Linear, Node]:
    """Return the first convolution or fully connected layer that runs: its path, itself and its node."""
    for node in subject.graph.nodes[1:]:
        module = subject.network.get_submodule(node.module)
        if isinstance(module, nn.Conv2d | nn.Linear):
            return node.module, module, node
    raise NetworkError(
        "The network must begin with a convolution (nn.Conv2d) or a fully connected layer (nn.Linear) for gratings "
        "to be shown to its units; it has neither."
    )


class _ReachedError(Exception):
    """The first layer is about to run: what follows need not."""


def _what_reaches(subject: Subject, path: str, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return (C,) scales and offsets: what the layer gets is scale · byte + offset, measured, not presumed."""
    caught: list[Tensor] = []

    def catch(module: nn.Module, inputs: Any) -> None:
        caught.append(inputs[0].detach().double().cpu())
        raise _ReachedError

    hook = layer.register_forward_pre_hook(catch)
    try:
        with contract.evaluating(subject.network), torch.no_grad(), torch.random.fork_rng(devices=[]):
            subject.network(subject.inputs)
    except _ReachedError:
        pass
    finally:
        hook.remove()
    images = subject.images.double()
    got = caught[0].reshape(images.shape) if caught[0].numel() == images.numel() else caught[0]
    if got.ndim == 4 and got.shape[:2] == images.shape[:2]:
        rows, columns = (of - own for of, own in zip(got.shape[2:], images.shape[2:], strict=True))
        if min(rows, columns) >= 0:  # larger where the network pads it first
            got = got[:, :, rows // 2 :, columns // 2 :][:, :, : images.shape[2], : images.shape[3]]
            offset = got[0].mean((1, 2))
            scale = (got[1].mean((1, 2)) - offset) / 255
            expected = scale[:, None, None] * images + offset[:, None, None]
            if torch.allclose(got, expected, rtol=0, atol=float(1e-3 * 255 * scale.abs().max())):
                return scale, offset
    raise NetworkError(
        f"The first layer ({path}) must get the picture itself for gratings to be shown to its units; the network "
        "computes something else from it before. Pass a network that begins with that layer."
    )


def _kernels(layer: nn.Conv2d | nn.Linear, subject: Subject) -> Tensor:
    """Return the weights as (U, C, h, w), 0 at the channels that a group of units does not get."""
    weight = layer.weight.detach().cpu()
    if isinstance(layer, nn.Linear):
        return weight.reshape(-1, *subject.images.shape[1:])
    if layer.groups == 1:
        return weight
    channels = len(weight) // layer.groups, weight.shape[1]  # units and channels of a group
    whole = weight.new_zeros(len(weight), layer.in_channels, *weight.shape[2:])
    for group in range(layer.groups):
        units, own = (slice(group * count, (group + 1) * count) for count in channels)
        whole[units, own] = weight[units]
    return whole


def _on_grey_pictures(kernels: Tensor, factors: Tensor) -> Tensor:
    """(U, C, h, w), (C,) → (U, h, w) float64: all channels of a grating are equal, so that only their sum counts."""
    return (kernels.double() * factors[:, None, None]).sum(1)


def _following(graph: Graph, node: Node, network: nn.Module) -> Iterable[Step]:
    """Yield the batch normalisation and the rectification that follow a layer directly."""
    while True:
        place = graph.nodes.index(node) + 1
        # What was observed and not traced runs in this order, and what feeds what is not known.
        users: Sequence[Node] = graph.users[node.name] if graph.traced else graph.nodes[place : place + 1]
        if len(users) != 1:
            return
        (node,) = users
        module = network.get_submodule(node.module)
        if isinstance(module, _RECTIFIERS):
            yield "rectification", module
            return
        if node.operation in _FUNCTIONS:
            yield "rectification", _FUNCTIONS[node.operation]
            return
        if not isinstance(module, _NORMS):
            return
        yield "batch normalisation", module


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    rows, columns = sizes
    return rows, columns


def _picture_of(kernel: Tensor) -> Tensor:
    """(C, h, w) → (3, h, w) uint8: in colour for 3 channels, else their sum in grey; mid-grey is 0."""
    values = kernel.double() if len(kernel) == 3 else kernel.double().sum(0, keepdim=True).expand(3, -1, -1)
    return (127.5 + 127.5 * values / values.abs().max().clamp(min=1e-300)).round().to(torch.uint8)


def _fitted(picture: Tensor, side: int) -> Tensor:
    """Return a picture in a square of ``side`` px: enlarged by a whole number where it is small, resized where not."""
    factor = side // max(picture.shape[1:])
    if factor < 2:
        sizes = [max(1, round(size * side / max(picture.shape[1:]))) for size in picture.shape[1:]]
        picture = F.interpolate(picture[None].float(), sizes, mode="bilinear", antialias=True)[0].round().byte()
        factor = 1
    larger = picture.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    rows, columns = (side - size for size in larger.shape[1:])
    return F.pad(larger, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2), value=255)
