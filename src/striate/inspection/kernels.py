"""Hand-made kernels on any picture, and chains of them: edges → crossings → squares.

A kernel is laid upon every pixel in turn, its numbers are multiplied with the pixels under them, and the products are
added up: cross-correlation, which is what networks call convolution. The named kernels are those of `KERNELS`, which
the layer ``fixed`` of a network text uses too. A chain is a network whose weights were written by hand, and is built
as one, so that everything that looks into networks looks into it as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from striate.core.errors import DataError, NetworkError, suggest
from striate.core.spec import InputSpec, Spec
from striate.data.decode import decode_picture, pixels_of, read_header
from striate.drawing.colours import Scale
from striate.drawing.grid import Group, Sheet, Tile, draw_grid
from striate.inspection.record import record
from striate.networks import contract
from striate.networks.layers import KERNELS
from striate.networks.text import TextNetwork, build_text
from striate.networks.text.tree import PadMode
from striate.prediction.predictor import Picture, as_images

Matrix = str | Sequence[Sequence[float]] | NDArray[np.float64] | Tensor
Kernels = Matrix | Sequence[Matrix] | Mapping[str, Matrix]

_DIRECTIONS: Mapping[str, tuple[str, ...]] = {
    "sobel": ("brighter to the right", "brighter below"),
    "kirsch": ("north", "north-west", "west", "south-west", "south", "south-east", "east", "north-east"),
}
_PADDINGS: Mapping[PadMode, str] = {
    "nearest": "replicate",
    "zeros": "constant",
    "mirror": "reflect",
    "wrap": "circular",
}
_BORDERS: Mapping[PadMode, str] = {
    "nearest": "Beyond the border stands the nearest pixel",
    "zeros": "Beyond the border is black",
    "mirror": "Beyond the border the picture is mirrored",
    "wrap": "Beyond the border the picture begins again at the other side",
}
PICTURE = "picture"  # the one map that a chain begins with
SIDE, LARGE = 160, 256  # px of a tile


@final
@dataclass(frozen=True, eq=False)
class Responses:
    """What kernels answer to a picture.

    Args:
        picture: (C, H, W) uint8.
        kernels: name → (rows, columns) float64.
        maps: name → (C, H, W) float64, of the picture with brightness 0–1; every kernel looks at every channel.
        padding: what stood beyond the border.
    """

    picture: Tensor
    kernels: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]
    padding: PadMode

    def draw(self) -> Sheet:
        """Draw the picture, and beside it each kernel's answer: a picture where brightness is kept, else a map."""
        signed = [name for name, kernel in self.kernels.items() if abs(float(kernel.sum()) - 1) > 1e-6]
        pictures = [Tile(self.picture, PICTURE)]
        pictures += [Tile(_as_picture(self.maps[name]), name) for name in self.kernels if name not in signed]
        answers = _with_extents({name: self.maps[name].mean(0) for name in signed}, numbers=False)
        groups = [
            Group(pictures, "Pictures", side=SIDE),
            Group(
                answers,
                "Answers: orange above 0, blue below, pale at 0; the darkest stand for the numbers under each",
                side=SIDE,
            ),
            Group(_with_extents(self.kernels, numbers=True), "Kernels", side=SIDE),
        ]
        return draw_grid(
            groups,
            title="Kernels on a picture",
            subtitle="Each number is the sum of the pixels around it, each times the kernel's weight there. "
            "Brightness goes from 0 to 1; answers are the mean of all channels.",
            notes=[f"{_BORDERS[self.padding]}."],
        )


def _with_extents(values: Mapping[str, Tensor], *, numbers: bool) -> list[Tile]:
    """Return maps as tiles, each with the extent of its colours under it; kernels of one family share theirs."""
    families = {name: name.split(",")[0] for name in values}
    extents = dict.fromkeys(families.values(), 0.0)
    for name, family in families.items():
        extents[family] = max(extents[family], float(values[name].abs().max()))
    return [
        Tile(
            values[name],
            f"{name}\n−{extents[family]:.3g} … {extents[family]:.3g}",
            Scale("diverging", -extents[family], extents[family]),
            numbers=numbers,
        )
        for name, family in families.items()
    ]


def apply_kernels(picture: Picture, kernels: Kernels, *, padding: PadMode = "nearest") -> Responses:
    """Return what kernels answer to a picture; the answers have the picture's size.

    Args:
        picture: a file, bytes, Pillow image, array (H, W) or (H, W, C), or tensor (C, H, W), of any size.
        kernels: a name (`KERNELS`), which may stand for several; a matrix as nested lists, array or tensor, or as text
            such as ``"0 -1 0; -1 5 -1; 0 -1 0"``, where ``1/9`` is a number too; several of these; or name → matrix.
            The pixel upon which a matrix of K rows is laid lies under row K // 2, counted from 0; columns alike.
        padding: what stands beyond the border: ``nearest`` pixel, as in ``fixed`` layers, ``zeros``, ``mirror`` (the
            border itself is not repeated) or ``wrap``.

    Raises:
        DataError: not a picture, one that is too small to be mirrored or wrapped, or no such padding.
        NetworkError: no such kernel, or no matrix.
    """
    pixels = _pixels(picture)
    parsed = parse_kernels(kernels)
    maps = {name: _correlate(pixels, name, kernel, padding) for name, kernel in parsed.items()}
    return Responses(pixels, parsed, maps, padding)


def parse_kernels(kernels: Kernels) -> dict[str, Tensor]:
    """Return kernels by name, each (rows, columns) float64. See `apply_kernels`.

    Raises:
        NetworkError: no such kernel, or no matrix of finite numbers.
    """
    if isinstance(kernels, Mapping):
        return {str(name): parse_matrix(matrix) for name, matrix in kernels.items()}
    if isinstance(kernels, str) and kernels in KERNELS:
        matrices = [torch.tensor(matrix, dtype=torch.float64) for matrix in KERNELS[kernels]]
        directions = _DIRECTIONS.get(kernels, ())
        names = [f"{kernels}, {direction}" for direction in directions] or [kernels]
        return dict(zip(names, matrices, strict=True))
    if _is_matrix(kernels):
        return {"your kernel": parse_matrix(kernels)}  # type: ignore[arg-type]
    found: dict[str, Tensor] = {}
    for number, one in enumerate(kernels, 1):
        named = parse_kernels(one)
        found |= {f"kernel {number}" if name == "your kernel" else name: matrix for name, matrix in named.items()}
    if not found:
        raise NetworkError("There must be at least one kernel, got none.")
    return found


def parse_matrix(matrix: Matrix) -> Tensor:
    """Return a matrix, typed as text or given as numbers, as (rows, columns) float64.

    Raises:
        NetworkError: it is none of finite numbers, with rows of one length; or its text names no single kernel.
    """
    if isinstance(matrix, str):
        return _of_text(matrix)
    try:
        values = torch.as_tensor(matrix if isinstance(matrix, Tensor) else np.asarray(matrix, np.float64)).double()
    except (TypeError, ValueError) as error:
        raise NetworkError("A kernel must be a matrix of numbers whose rows are equally long.") from error
    if values.ndim != 2 or not values.numel() or not values.isfinite().all():
        raise NetworkError(
            f"A kernel must be a matrix of finite numbers, rows × columns, got the shape {tuple(values.shape)}."
        )
    return values


def _is_matrix(kernels: object) -> bool:
    if isinstance(kernels, str | Tensor | np.ndarray):
        return True
    rows = list(kernels) if isinstance(kernels, Sequence) else []
    return (
        bool(rows)
        and all(isinstance(row, Sequence) and not isinstance(row, str) for row in rows)
        and not any(isinstance(value, Sequence) for row in rows for value in row)
    )


def _of_text(text: str) -> Tensor:
    if text in KERNELS:
        if len(KERNELS[text]) > 1:
            raise NetworkError(f"{text!r} stands for {len(KERNELS[text])} kernels, where one matrix must be.")
        return torch.tensor(KERNELS[text][0], dtype=torch.float64)
    if not any(character.isdigit() for character in text):
        raise NetworkError(
            f"No kernel named {text!r}.{suggest(text, KERNELS)} There are: {', '.join(KERNELS)}; "
            'or type a matrix such as "0 -1 0; -1 5 -1; 0 -1 0".'
        )
    rows = [row.replace(",", " ").split() for row in text.replace("\n", ";").split(";") if row.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise NetworkError(
                f"The rows of a kernel must be equally long: row 1 of {text!r} has {len(rows[0])} numbers, "
                f'row {number} has {len(row)}. Separate rows by ";".'
            )
    return parse_matrix([[_number(word, text) for word in row] for row in rows])


def _number(word: str, text: str) -> float:
    try:
        return float(Fraction(word.replace("−", "-")))
    except (ValueError, ZeroDivisionError):
        raise NetworkError(f"{word!r} in the kernel {text!r} is not a number such as 2, -0.5 or 1/9.") from None


def _correlate(pixels: Tensor, name: str, kernel: Tensor, padding: PadMode) -> Tensor:
    """Return the answer to (C, H, W) uint8 at every pixel, (C, H, W) float64."""
    if padding not in _PADDINGS:
        raise DataError(f"There is no padding {padding!r}.{suggest(padding, _PADDINGS)} There are: {_listed()}.")
    rows, columns = kernel.shape
    top, left = rows // 2, columns // 2
    widest = max(top, left)
    least = min(pixels.shape[1:])
    if padding in ("mirror", "wrap") and widest >= least + (padding == "wrap"):
        raise DataError(
            f"The picture must be larger than {widest} pixels for {name!r} to be applied with padding {padding!r}, "
            f'its smaller side has {least}. Try padding="nearest".'
        )
    widths = (left, columns - 1 - left, top, rows - 1 - top)
    padded = F.pad(pixels.double()[:, None] / 255, widths, _PADDINGS[padding])  # (C, 1, H + …, W + …)
    return F.conv2d(padded, kernel[None, None])[:, 0]


def _listed() -> str:
    return ", ".join(_PADDINGS)


def _pixels(picture: Picture) -> Tensor:
    """Return a picture at its own size: (C, H, W) uint8."""
    if isinstance(picture, str | Path | bytes):
        header = read_header(picture)
        return decode_picture(picture, _input_spec(1 if header.grey else 3, header.height, header.width))
    if isinstance(picture, Image.Image):
        channels = 1 if picture.mode in ("1", "L") else 3
        return pixels_of(picture, _input_spec(channels, picture.height, picture.width))
    if isinstance(picture, Tensor | np.ndarray) and picture.ndim in (2, 3) and min(picture.shape):
        shape = tuple(picture.shape)
        if isinstance(picture, np.ndarray):
            shape = (1, *shape) if len(shape) == 2 else (shape[2], *shape[:2])
        spec = _input_spec(shape[0] if len(shape) == 3 else 1, *shape[-2:])
    else:
        got = f"one of shape {tuple(picture.shape)}" if hasattr(picture, "shape") else type(picture).__name__
        raise DataError(f"A picture must be a file, bytes, a Pillow image, or pixels (C, H, W) uint8, got {got}.")
    return as_images([picture], spec)[0]


def _input_spec(channels: int, height: int, width: int) -> InputSpec:
    return InputSpec(channels=channels, height=height, width=width, mean=(0.0,) * channels, std=(1.0,) * channels)


def _as_picture(maps: Tensor) -> Tensor:
    pixels = (maps * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels if len(pixels) in (1, 3) else pixels.double().mean(0, keepdim=True).round().to(torch.uint8)


# Chains


@final
@dataclass(frozen=True)
class Detector:
    """Answers where several maps show the right things at the right places at once.

    Its answer is max(0, Σ kernel ⋆ map − threshold): a unit of a convolutional layer, written by hand.

    Args:
        kernels: name of a map of the step before → the kernel that looks at it; `PICTURE` in the first step.
        threshold: what the sum must exceed.
    """

    kernels: Mapping[str, Matrix]
    threshold: float = 0.0


Step = Kernels | Mapping[str, Detector]


@final
@dataclass(frozen=True, eq=False)
class Chain:
    """What a chain of kernels answers to a picture, step by step.

    Args:
        picture: (1, H, W) uint8.
        maps: name of each step → name of each of its maps → (H, W), rectified.
        network: the same as a network, pictures (N, 1, H, W) of brightness 0–1 → (N, the maps of the last step), the
            largest answer of each. Its ``text`` says how it is built; its weights are the kernels.
    """

    picture: Tensor
    maps: Mapping[str, Mapping[str, Tensor]]
    network: TextNetwork

    def found(self, name: str) -> list[tuple[int, int]]:
        """Return where a map of the last step answers: (row, column) of the largest answer of each spot.

        Raises:
            NetworkError: the last step has no such map.
        """
        last = self.maps[list(self.maps)[-1]]
        if name not in last:
            raise NetworkError(f"The last step has no map {name!r}.{suggest(name, last)} It has {', '.join(last)}.")
        answers = last[name][None, None]
        peaks = (answers > 0) & (answers == F.max_pool2d(answers, 5, 1, 2))
        return [(int(row), int(column)) for row, column in peaks[0, 0].nonzero()]

    def draw(self) -> Sheet:
        """Draw the picture and every map of every step."""
        groups = [Group([Tile(self.picture, box=self._box())], "The picture", side=LARGE)]
        for number, (step, maps) in enumerate(self.maps.items(), 1):
            values = torch.stack(list(maps.values()))
            scale = Scale("heat", 0.0, max(float(values.max()), 1e-9), "answer, 0 where there is none")
            tiles = [Tile(one, name) for name, one in maps.items()]
            groups.append(Group(tiles, f"Step {number}: {step}", scale, side=LARGE))
        return draw_grid(
            groups,
            title=" → ".join(self.maps),
            subtitle="Each step looks at the maps of the step before; what is below 0 becomes 0."
            + " The frame is what the one answer of the last step is about." * (self._box() is not None),
        )

    def _box(self) -> tuple[int, int, int, int] | None:
        """Return what the last step's kernel lies upon where it answers, if it answers in one place alone."""
        last = self.maps[list(self.maps)[-1]]
        spots = [spot for name in last for spot in self.found(name)]
        if len(spots) != 1:
            return None
        kernel = [module for module in self.network.modules() if isinstance(module, torch.nn.Conv2d)][-1].kernel_size
        (row, column), (rows, columns) = spots[0], (size // 2 + 1 for size in kernel)
        return row - rows, row + rows, column - columns, column + columns


def chain(picture: Picture, steps: Mapping[str, Step] | Sequence[Kernels]) -> Chain:
    """Apply kernels to a picture, then kernels to their rectified answers, and so on.

    Args:
        picture: as in `apply_kernels`; its brightness (the mean of its channels) is looked at.
        steps: name → step. A step is kernels as in `apply_kernels`, each of which looks at each map by itself, or
            name → `Detector`, which looks at several maps together. The nearest pixel stands beyond the border.

    Raises:
        DataError: not a picture.
        NetworkError: there is no step, no such kernel, or a detector looks at a map that there is not.
    """
    pixels = _pixels(picture)
    grey = pixels.double().mean(0, keepdim=True).round().to(torch.uint8)
    named = steps if isinstance(steps, Mapping) else {f"step{number}": one for number, one in enumerate(steps, 1)}
    if not named:
        raise NetworkError("There must be at least one step, got none.")
    names = [PICTURE]
    layers: dict[str, _Layer] = {}
    for title, step in named.items():
        layers[title] = _layer(step, names)
        names = layers[title].names
    network = _network(layers, tuple(int(size) for size in grey.shape))
    recording = record(network, grey[None].float() / 255, list(network.stages))
    maps = {
        title: dict(zip(layer.names, recording.activations[stage][0], strict=True))
        for (title, layer), stage in zip(layers.items(), network.stages, strict=False)
    }
    return Chain(grey, maps, network)


@dataclass(frozen=True, eq=False)
class _Layer:
    """One step as a convolution: its maps' names, weights (O, I, rows, columns) and thresholds (O,)."""

    names: list[str]
    weights: Tensor
    thresholds: Tensor


def _layer(step: Step, before: Sequence[str]) -> _Layer:
    """Return a step as a convolution of the maps before it."""
    detectors = _detectors(step, before)
    matrices = {name: {one: parse_matrix(m) for one, m in d.kernels.items()} for name, d in detectors.items()}
    for name, looked_at in matrices.items():
        for one in looked_at:
            if one not in before:
                raise NetworkError(
                    f"The detector {name!r} looks at a map {one!r}, which the step before does not make."
                    f"{suggest(one, before)} It makes {', '.join(before)}."
                )
    every = [matrix for looked_at in matrices.values() for matrix in looked_at.values()]
    reach = [max(matrix.shape[axis] // 2 for matrix in every) for axis in (0, 1)]
    weights = torch.zeros(len(detectors), len(before), *(2 * one + 1 for one in reach))
    for row, looked_at in enumerate(matrices.values()):
        for one, matrix in looked_at.items():
            top, left = (whole - size // 2 for whole, size in zip(reach, matrix.shape, strict=True))
            place = (slice(top, top + matrix.shape[0]), slice(left, left + matrix.shape[1]))
            weights[(row, list(before).index(one), *place)] = matrix.float()
    return _Layer(list(detectors), weights, torch.tensor([float(one.threshold) for one in detectors.values()]))


def _detectors(step: Step, before: Sequence[str]) -> Mapping[str, Detector]:
    """Return a step as detectors: plain kernels look at each map by itself."""
    if isinstance(step, Mapping) and step and all(isinstance(one, Detector) for one in step.values()):
        return step  # type: ignore[return-value]
    kernels = parse_kernels(step)  # type: ignore[arg-type]
    alone = len(before) == 1
    return {
        name if alone else f"{name} of {one}": Detector({one: matrix.tolist()})
        for one in before
        for name, matrix in kernels.items()
    }


def _network(layers: Mapping[str, _Layer], shape: tuple[int, ...]) -> TextNetwork:
    """Return a chain as a network written as text, with the kernels as its weights."""
    rows = [
        f"conv {len(layer.names)}@{layer.weights.shape[2]}x{layer.weights.shape[3]} pad same padmode nearest relu"
        for layer in layers.values()
    ]
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and then written over
        network = build_text(" | ".join([*rows, "gmp"]), shape)
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    with torch.no_grad():
        for module, layer in zip(convolutions, layers.values(), strict=True):
            module.weight.copy_(layer.weights)
            assert module.bias is not None
            module.bias.copy_(-layer.thresholds)
    last = list(layers.values())[-1]
    channels, height, width = shape
    contract.remember_spec(network, Spec.of((channels, height, width), tuple(last.names)))
    return network.eval()


def square_steps(side: int = 12) -> dict[str, Step]:
    """Return the chain edges → crossings → squares, which finds outlined squares of one size among other lines.

    Lines are 1 pixel wide and white on black. Edges: lines that run across, and lines that run down. Crossings: where
    both meet in one of the four kinds of corner, or cross. Squares: where the four corners are as far apart as they
    must be, seen from the square's centre.

    Args:
        side: pixels from one corner to the next; even, at least 6.

    Raises:
        NetworkError: no such side.
    """
    if side < 6 or side % 2:
        raise NetworkError(f"The side of the squares must be an even number of pixels from 6 on, got {side}.")
    across = "-1/6 -1/6 -1/6; 1/3 1/3 1/3; -1/6 -1/6 -1/6"
    down = parse_matrix(across).T.tolist()
    edges = {"across": Detector({PICTURE: across}), "down": Detector({PICTURE: down})}
    corners = {}
    for vertical, below in (("top", 1), ("bottom", -1)):
        for horizontal, right in (("left", 1), ("right", -1)):
            # Arms that must be there count 1, those that must not −1: a crossing is no corner.
            arm = [[-right, -right, 0.0, right, right]]
            arms: dict[str, Matrix] = {"across": arm, "down": [[-below], [-below], [0.0], [below], [below]]}
            corners[f"{vertical} {horizontal}"] = Detector(arms, 2.5)
    both: list[float] = [1, 1, 0, 1, 1]
    crossing = Detector({"across": [both], "down": [[one] for one in both]}, 5.5)
    looked_at: dict[str, Matrix] = {}
    for name in corners:
        matrix = torch.zeros(side + 1, side + 1)
        row, column = (0 if name.startswith("top") else side), (0 if name.endswith("left") else side)
        matrix[row, column] = 1
        looked_at[name] = matrix
    # A corner answers 0.83, three of them 2.5, all four 3.3.
    return {
        "edges": edges,
        "crossings": {**corners, "crossing": crossing},
        "squares": {"square": Detector(looked_at, 2.9)},
    }


def draw_shapes(side: int = 12) -> tuple[Tensor, tuple[int, int]]:
    """Return a picture of lines and shapes, among them one square: (1, 72, 96) uint8, and the square's centre.

    Args:
        side: of the square, as in `square_steps`; at most 16.
    """
    from PIL import ImageDraw

    image = Image.new("L", (96, 72))
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, 8, 8 + side, 8 + side), outline=255)  # the square
    draw.rectangle((34, 8, 34 + 2 * side, 8 + side), outline=255)  # twice as wide
    draw.rectangle((66, 6, 66 + side + 6, 6 + side + 6), outline=255)  # a square, but larger
    draw.line((6, 44, 30, 44), fill=255)  # a cross
    draw.line((18, 32, 18, 56), fill=255)
    draw.polygon((46, 32, 60, 56, 34, 56), outline=255)  # a triangle
    draw.ellipse((66, 36, 66 + side, 36 + side), outline=255)
    draw.line((88, 34, 88, 64), fill=255)
    draw.line((4, 66, 60, 66), fill=255)
    draw.line((64, 68, 84, 54), fill=255)
    return torch.from_numpy(np.array(image))[None], (8 + side // 2, 8 + side // 2)
