"""The classifier: picture files, bytes, arrays or tensors in, labels and probabilities out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from striate.core import processes
from striate.core.errors import DataError, NetworkError
from striate.core.machine import Execution
from striate.core.spec import InputSpec, Spec, TaskSpec
from striate.data.decode import decode_picture, pixels_of, read_pictures
from striate.data.preprocess import normalise, resize_to_uint8
from striate.networks import contract, saved

Picture = str | Path | bytes | Image.Image | NDArray[np.uint8] | Tensor
PICTURES_AT_ONCE = 512
_NUMBERS_AT_ONCE = 1 << 23  # of larger pictures, no more than 32 MB of float32
NONE = "none"  # what is said of a picture that may have several labels and has none


@dataclass(frozen=True)
class Prediction:
    """What a classifier says about one picture.

    Args:
        label: the most probable class. Where a picture may have several: those that are said, joined by commas, or
            ``none``.
        probability: of that class, 0–1; of several labels, that they are just these, were they independent.
        top: (class, probability) of the most probable classes, best first.
        labels: (class, probability) of what is said: the one class, or all that reach their thresholds, best first.
    """

    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    labels: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return ", ".join(f"{name} ({probability:.1%})" for name, probability in self.labels) or NONE


@final
class Classifier:
    """A network with its Spec: everything that is needed to label a picture.

    Args:
        network: images (N, C, H, W) → logits (N, K); put into evaluation mode.
        spec: what it takes and what its logits mean.

    Raises:
        NetworkError: the network does not fit the spec.
    """

    def __init__(self, network: nn.Module, spec: Spec) -> None:
        contract.check(network, spec)
        self.network = network.eval()
        self.spec = spec

    def predict(self, picture: Picture, *, top: int = 5) -> Prediction:
        """Label one picture.

        Args:
            picture: a file, its bytes, a Pillow image, or pixels: uint8 (H, W), (H, W, C) as an array, (C, H, W) as
            a tensor. top: how many classes to name.

        Raises:
            DataError: not a picture, or one with another number of channels than the network takes.
        """
        return self.predict_many([picture], top=top)[0]

    def predict_many(self, pictures: Sequence[Picture], *, top: int = 5) -> list[Prediction]:
        """Label several pictures. See `predict`."""
        if top < 1:
            raise DataError(f"top must be at least 1, got {top}.")
        return [
            self._in_words(row, top)
            for start in range(0, len(pictures), PICTURES_AT_ONCE)
            for row in self.probabilities(as_images(pictures[start : start + PICTURES_AT_ONCE], self.spec.input))
        ]

    def probabilities(self, images: Tensor) -> Tensor:
        """Return the probability of each class.

        Args:
            images: (N, C, H, W) uint8, at the network's size.

        Returns:
            (N, K) float32; rows sum to 1 where each picture has one class.

        Raises:
            DataError: images of another type or size.
            NetworkError: the network's answers are not numbers.
        """
        if images.dtype != torch.uint8 or images.shape[1:] != self.spec.input.shape:
            raise DataError(
                f"images must be uint8 of shape (N, {', '.join(map(str, self.spec.input.shape))}), "
                f"got {images.dtype} of shape {tuple(images.shape)}."
            )
        logits = compute_logits(self.network, images, self.spec.input)
        check_finite(logits)
        return probabilities_of(logits, self.spec.task)

    def _in_words(self, probabilities: Tensor, top: int) -> Prediction:
        task = self.spec.task
        best = probabilities.sort(descending=True, stable=True)
        ranked = [(task.class_names[k], p) for k, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
        if not task.several:
            return Prediction(*ranked[0], tuple(ranked[:top]), tuple(ranked[:1]))
        said = said_of(probabilities, task)
        labels = tuple(one for one, is_said in zip(ranked, said[best.indices].tolist(), strict=True) if is_said)
        sure = float(torch.where(said, probabilities, 1 - probabilities).prod())
        return Prediction(", ".join(name for name, _ in labels) or NONE, sure, tuple(ranked[:top]), labels)


def load_classifier(path: str | Path, network: nn.Module | None = None) -> Classifier:
    """Read a saved network and make it a classifier.

    Args:
        path: of the ``.safetensors`` file, or of a run's folder.
        network: your own module, where the file holds a foreign network.

    Raises:
        FileError: see `striate.networks.saved.load`.
    """
    loaded = saved.load(path, network)
    return Classifier(loaded.network, loaded.spec)


def pictures_at_once(spec: InputSpec) -> int:
    """Return how many pictures a network looks at together in evaluation."""
    return max(1, min(PICTURES_AT_ONCE, _NUMBERS_AT_ONCE // math.prod(spec.shape)))


@torch.inference_mode()
def compute_logits(
    network: nn.Module,
    images: Tensor,
    spec: InputSpec,
    execution: Execution | None = None,
    *,
    together: bool = False,
) -> Tensor:
    """Run the network, where it is, over pictures in evaluation mode; its training mode is what it was afterwards.

    Args:
        images: (N, C, H, W) uint8 at the network's size.
        spec: how they are normalised.
        execution: fp32 and contiguous where None, the same on every machine.
        together: several processes divide the work, and each gets all logits. All of them must call this then.

    Returns:
        logits: (N, K) float32 on the CPU.
    """
    execution = execution or Execution()
    at_once = pictures_at_once(spec)
    starts = range(0, len(images), at_once)
    several = together and processes.world() > 1
    where, logits = contract.device_of(network), {}
    with contract.evaluating(network):
        for start in starts[processes.own_rows()] if several else starts:
            own = images[start : start + at_once].to(where)  # bytes are a quarter of what is computed with
            pictures = execution.arrange(normalise(own, spec), where)
            with execution.autocast():
                logits[start] = network(pictures).float().cpu()
    return _joined(logits, len(images)) if several else torch.cat(list(logits.values()))


def _joined(own: Mapping[int, Tensor], pictures: int) -> Tensor:
    """Return the logits (N, K) of several processes, given those of this one by the number of their first picture.

    The pieces are those of one process, and so are the logits, to the last bit.
    """
    # The first process always has a piece, and so knows K.
    classes = processes.from_first(lambda: next(iter(own.values())).shape[1])
    whole = torch.zeros(pictures, classes)
    for start, logits in own.items():
        whole[start : start + len(logits)] = logits
    return processes.add_up(whole)


def probabilities_of(logits: Tensor, task: TaskSpec) -> Tensor:
    """Return what logits (N, K) mean: the probability of each class, of the same type."""
    logits = logits / task.temperature
    return logits.sigmoid() if task.several else logits.softmax(1)


def said_of(probabilities: Tensor, task: TaskSpec) -> Tensor:
    """Return which labels are said where a picture may have several: those whose probability reaches its threshold.

    Args:
        probabilities: (…, K).
        task: has the thresholds.

    Returns:
        (…, K) bool.
    """
    thresholds = torch.tensor(task.thresholds or (0.5,) * task.classes, dtype=torch.float64)
    return probabilities.double() >= thresholds


def in_words(label: Tensor, task: TaskSpec) -> str:
    """Return what a picture is: the name of the class whose number it is, or of those that are 1 in K, or ``none``."""
    names = task.class_names
    if not label.ndim:
        return names[int(label)]
    return ", ".join(names[k] for k in label.nonzero().flatten().tolist()) or NONE


def check_finite(logits: Tensor) -> None:
    """Refuse answers that are no numbers.

    Raises:
        NetworkError: some of them are not finite.
    """
    if not logits.isfinite().all():
        raise NetworkError("The network's answers are not finite numbers: its weights are of no use. Train it again.")


def as_images(pictures: Sequence[Picture], spec: InputSpec) -> Tensor:
    """Return pictures, as `Classifier.predict` takes them, at the network's size: (N, C, H, W) uint8.

    Raises:
        DataError: not a picture, or one with another number of channels than the network takes.
    """
    files = [picture for picture in pictures if isinstance(picture, str | Path)]
    if len(files) == len(pictures):
        return read_pictures(files, spec)  # on all cores
    return torch.stack([resize_to_uint8(_as_pixels(picture, spec), spec) for picture in pictures])


def _as_pixels(picture: Picture, spec: InputSpec) -> Tensor:
    """Return one picture as uint8 (C, h, w)."""
    if isinstance(picture, str | Path | bytes):
        return decode_picture(picture, spec)
    if isinstance(picture, Image.Image):
        return pixels_of(picture, spec)
    if isinstance(picture, np.ndarray):
        return _of_array(picture, spec)
    return _checked(picture, spec)


def _of_array(array: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    """Turn (H, W) or (H, W, C) into (C, H, W)."""
    pixels = torch.from_numpy(np.array(array))
    return _checked(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels, spec)


def _checked(pixels: Tensor, spec: InputSpec) -> Tensor:
    if pixels.dtype != torch.uint8 or pixels.ndim != 3:
        raise DataError(
            f"A picture must be uint8 pixels 0–255 of shape (H, W), (H, W, C) or, as a tensor, (C, H, W); "
            f"got {pixels.dtype} of shape {tuple(pixels.shape)}."
        )
    if pixels.shape[0] != spec.channels:
        raise DataError(
            f"The network takes pictures with {spec.channels} channel{'s' * (spec.channels > 1)}, "
            f"this one has {pixels.shape[0]}. Convert it first, or pass the picture file."
        )
    return pixels
