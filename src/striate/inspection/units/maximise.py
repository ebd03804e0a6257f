"""The picture that excites one unit most, found by gradient ascent from nothing.

The picture is described by its frequencies, each with the weight that natural pictures give it, 1/f (Olah, Mordvintsev
and Schubert, "Feature Visualization", Distill 2017; Field, "Relations between the statistics of natural images and the
response properties of cortical cells", 1987), so that ascent finds shapes before it finds noise; and it is shifted a
little at every step, so that what it shows does not hang on single pixels. Its contrast is limited: without a limit a
unit's answer would grow with the contrast of whatever excites it, and every pixel would end up black or white. Colours
count for it as rare as they are in the pictures of the set, where red, green and blue mostly rise and fall together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from striate.core.errors import DataError
from striate.core.spec import InputSpec
from striate.drawing.grid import Group, Sheet, Tile, draw_grid, in_digits
from striate.inspection.backward import Rectified
from striate.inspection.subject import Pictures, Subject, subject_of
from striate.inspection.units.crops import Window, frame, window_of
from striate.inspection.units.site import Site, respond, sent_back, unit_of
from striate.networks.geometry import Geometry
from striate.prediction.predictor import Classifier

STEPS = 64
LEARNING_RATE = 0.04
CONTRAST = 0.25  # that of photographs: root mean square about the mean, of a full range of 1
SAMPLED, RAREST = 256, 0.01  # pictures whose colours are counted; the least share of the contrast of a colour
SHIFTED = 0.75  # share of the steps with shifts; those without bring what they blurred into focus
STEADIED = 8  # shifts are up to one in so many of the pixels that the unit sees


@final
@dataclass(frozen=True, eq=False)
class Maximum:
    """The picture that excites a unit most, as far as ascent found it.

    Args:
        unit: as ``layer:channel``.
        picture: (C, H, W) uint8.
        value: of the unit for this picture, after the rectification that follows; of a convolution's unit in the
            middle of its map.
        window: what the unit sees of it: (first row, last row, first column, last column).
        history: (steps,) its value before rectification at every step, with that step's shift.
    """

    unit: str
    picture: Tensor
    value: float
    window: Window
    history: Tensor

    def draw(self) -> Sheet:
        """Draw the whole picture."""
        box = frame(self.window, self.picture)
        framed = "; the frame is what the unit sees" if box else ""
        tile = Tile(self.picture, f"the unit's value: {in_digits(self.value)}", box=box)
        return draw_grid(
            [Group([tile], side=320)],
            title=f"The picture that excites {self.unit} most",
            subtitle=f"Found by {len(self.history)} steps of gradient ascent{framed}.",
        )


def maximise(
    network: nn.Module | Classifier,
    pictures: Pictures,
    unit: str,
    *,
    steps: int = STEPS,
    contrast: float = CONTRAST,
    seed: int = 0,
) -> Maximum:
    """Make the picture that excites one unit most.

    Args:
        network: a classifier or any module.
        pictures: any that the network takes; of their pixels only the correlation of the colours matters.
        unit: as ``layer:channel``, such as ``conv3:17``.
        steps: of ascent (Adam).
        contrast: that the picture may have where the unit sees it: the root mean square of its difference from the
            mean of the data, 0–1, in colours as common as grey.
        seed: of the first picture and of the shifts; the same seed makes the same picture.

    Raises:
        DataError: steps below 1.
        NetworkError: there is no such unit.
    """
    if steps < 1:
        raise DataError(f"steps must be at least 1, got {steps}.")
    subject = subject_of(network, pictures)
    site, channel = unit_of(subject, unit)
    return ascend(subject, site, channel, steps=steps, contrast=contrast, seed=seed)


def ascend(subject: Subject, site: Site, channel: int, *, steps: int, contrast: float, seed: int) -> Maximum:
    """See `maximise`."""
    network, spec = subject.network, subject.spec.input
    centre = tuple(side // 2 for side in site.sides)
    window = window_of(Geometry(subject.graph), site, centre, spec)
    top, bottom, left, right = window
    seen = (slice(max(0, top), bottom + 1), slice(max(0, left), right + 1))
    shift = min(bottom - top + 1, right - left + 1) // STEADIED
    generator = torch.Generator().manual_seed(seed)
    weights, colours = _weights(spec.height, spec.width), _colours(subject.images)
    spectrum = (0.002 * torch.randn(spec.channels, *weights.shape, 2, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([spectrum], lr=LEARNING_RATE)

    def picture() -> Tensor:
        waves = torch.fft.irfft2(torch.view_as_complex(spectrum) * weights, s=(spec.height, spec.width), norm="ortho")
        return _pixels(waves, waves[:, seen[0], seen[1]], contrast, colours, spec)

    def value(pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (spec.mean, spec.std))
        inputs = ((pixels - mean) / std)[None].to(subject.device, subject.dtype)
        return respond(network, site, inputs, lambda output: output[(0, channel, *centre)])

    history = torch.empty(steps)
    with torch.enable_grad():
        for step in range(steps):
            reach = shift if step < SHIFTED * steps else 0
            shifts = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
            answer = value(picture().roll(shifts, (1, 2)))
            gradient = sent_back(site, answer, spectrum)
            if not gradient.any():  # every way back ends at a ReLU that is closed: let pass what would open it
                with Rectified("deconvolution"):
                    gradient = sent_back(site, value(picture().roll(shifts, (1, 2))), spectrum)
            spectrum.grad = -gradient
            optimizer.step()
            history[step] = answer.detach()
    with torch.no_grad():
        final = (picture() * 255).round().to(torch.uint8)
        reached = float(value(final / 255))
    return Maximum(f"{site.name}:{channel}", final, max(0.0, reached) if site.rectified else reached, window, history)


def _weights(height: int, width: int) -> Tensor:
    """Return 1/f for each frequency of a real picture, the constant like the lowest: (H, W // 2 + 1)."""
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    weights: Tensor = 1 / (rows.square() + columns.square()).sqrt().clamp(min=1 / max(height, width))
    return weights


def _colours(images: Tensor) -> Tensor:
    """Return the square root of the covariance of pictures' colours: (C, C), its square of trace C.

    Args:
        images: (N, C, H, W) uint8.
    """
    channels = images.shape[1]
    some = images[:: -(-len(images) // SAMPLED)]
    pixels = some.transpose(0, 1).flatten(1).double()
    covariance = torch.cov(pixels).reshape(channels, channels)
    strengths, directions = torch.linalg.eigh(covariance)
    if strengths[-1] < 1:  # of no contrast
        return torch.eye(channels)
    roots = (strengths * channels / strengths.sum()).clamp(min=RAREST).sqrt()
    mixed: Tensor = directions * roots @ directions.T
    return mixed.float()


def _pixels(waves: Tensor, seen: Tensor, contrast: float, colours: Tensor, spec: InputSpec) -> Tensor:
    """Return a picture 0–1 (C, H, W): waves (C, H, W) about the mean of the data, or mid-grey where it is not known.

    They are limited to a contrast where the unit sees them and, gently, to what a picture can hold.
    """
    found = seen.square().mean().sqrt()
    waves = torch.einsum("dc,chw->dhw", colours, waves * (contrast / found.clamp(min=contrast)))
    grey = mean_of(spec).clamp(0.1, 0.9)
    room = torch.where(waves > 0, 1 - grey, grey)
    return grey + room * (waves / room).tanh()


def mean_of(spec: InputSpec) -> Tensor:
    """Return the mean of the data, 0–1, or mid-grey where pictures are not centred: (C, 1, 1)."""
    return torch.tensor(spec.mean if any(spec.mean) else (0.5,) * spec.channels).view(-1, 1, 1)
