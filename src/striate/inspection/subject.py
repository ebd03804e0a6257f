"""What is looked at: a network, its Spec, and pictures as it takes them. Every look begins here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from striate.core.errors import DataError, NetworkError, suggest
from striate.core.spec import Spec
from striate.data.imageset import Split
from striate.data.preprocess import normalise
from striate.networks import contract
from striate.networks.graph import Graph, trace
from striate.prediction.predictor import Classifier, Picture, as_images

Pictures = Split | Picture | Sequence[Picture]


@final
@dataclass(frozen=True, eq=False)
class Subject:
    """A network and the pictures that it is shown.

    Args:
        network: images (N, C, H, W) → logits (N, K); its modes are left as they are.
        spec: what it takes and what its logits mean.
        images: (N, C, H, W) uint8 at the network's size.
        labels: (N,) int64, the class of each picture; None where it is not known, or may be several.
        origins: a name of each picture.
    """

    network: nn.Module
    spec: Spec
    images: Tensor
    labels: Tensor | None
    origins: Sequence[str]

    @cached_property
    def device(self) -> torch.device:
        """Where the network is."""
        return contract.device_of(self.network)

    @cached_property
    def dtype(self) -> torch.dtype:
        """Of the network's weights."""
        return next(self.network.parameters(), torch.empty(0)).dtype

    @cached_property
    def inputs(self) -> Tensor:
        """What the network is given: (N, C, H, W) float, normalised, on its device and of its type."""
        return self.prepare(self.images)

    def prepare(self, images: Tensor) -> Tensor:
        """Return other pictures, or some of these, (N, C, H, W) uint8, as `inputs`."""
        return normalise(images, self.spec.input).to(self.device, self.dtype)

    @cached_property
    def graph(self) -> Graph:
        """The trace of the network."""
        return trace(self.network, self.spec)

    @cached_property
    def logits(self) -> Tensor:
        """(N, K) float, of the network in evaluation mode."""
        with contract.evaluating(self.network), torch.no_grad():
            logits: Tensor = self.network(self.inputs)
        return logits

    def targets(self, target: int | str | Sequence[int | str] | Tensor | None = None) -> Tensor:
        """Return the class that is asked about for each picture.

        Args:
            target: a class by name or number, or one for each picture; the most probable one where None.

        Returns:
            (N,) int64.

        Raises:
            DataError: there is no such class, or not one for each picture.
        """
        if target is None:
            return self.logits.argmax(1)
        if isinstance(target, str | int):
            return torch.full((len(self.images),), class_number(self.spec, target), device=self.device)
        wanted = target.tolist() if isinstance(target, Tensor) else list(target)
        if len(wanted) != len(self.images):
            raise DataError(f"There must be one class for each of the {len(self.images)} pictures, got {len(wanted)}.")
        return torch.tensor([class_number(self.spec, one) for one in wanted], device=self.device)


def class_number(spec: Spec, target: int | str) -> int:
    """Return the number of a class.

    Raises:
        DataError: there is none of this name or number.
    """
    names = spec.task.class_names
    if isinstance(target, str):
        if target in names:
            return names.index(target)
        raise DataError(f"There is no class {target!r}.{suggest(target, names)} The classes are {', '.join(names)}.")
    if not 0 <= target < len(names):
        raise DataError(f"There is no class {target}: the {len(names)} classes are numbered from 0 ({names[0]}).")
    return int(target)


def subject_of(network: nn.Module | Classifier, pictures: Pictures) -> Subject:
    """Return a network and pictures, ready to be looked at.

    Args:
        network: a classifier, or a module.
        pictures: a split; uint8 (N, C, H, W) or (C, H, W); or a picture as `Classifier.predict` takes it (file, bytes,
            Pillow image, array), or several. Files, Pillow images and arrays are resized to the network's size.

    Raises:
        DataError: there is no picture, or it is none that the network takes.
        NetworkError: the network does not fit the pictures, or does not say what it takes where that must be known.
    """
    spec = network.spec if isinstance(network, Classifier) else contract.spec_of(network)
    known = spec is not None  # a classifier has been tried, other networks were built or trained for their Spec
    module = network.network if isinstance(network, Classifier) else network
    if isinstance(pictures, Split):
        if not len(pictures):
            raise DataError("There must be at least one picture to look at, got none.")
        spec = spec or pictures.spec
        same = spec.task.class_names == pictures.spec.task.class_names
        labels = pictures.labels if same and pictures.labels.ndim == 1 else None
        return _checked(module, spec, pictures.images, labels, pictures.origins, known=known)
    images = _as_tensor(pictures, spec)
    spec = spec or _guessed(module, images)
    names = [str(one) if isinstance(one, str | Path) else f"picture {i}" for i, one in enumerate(_listed(pictures))]
    names = names if len(names) == len(images) else _numbered(len(images))
    return _checked(module, spec, images, None, names, known=known)


def _listed(pictures: Picture | Sequence[Picture]) -> list[Picture]:
    single = isinstance(pictures, str | Path | bytes | Image.Image | np.ndarray | Tensor)
    return [pictures] if single else list(pictures)  # type: ignore[list-item, arg-type]


def _as_tensor(pictures: Picture | Sequence[Picture], spec: Spec | None) -> Tensor:
    """Return pictures as uint8 (N, C, H, W)."""
    if isinstance(pictures, Tensor) and pictures.ndim in (3, 4):
        images = pictures if pictures.ndim == 4 else pictures[None]
        if images.dtype != torch.uint8:
            raise DataError(f"Pictures must be uint8 pixels 0–255, got {images.dtype}. Pass them before normalisation.")
        if not len(images):
            raise DataError("There must be at least one picture to look at, got none.")
        if spec is None or images.shape[1:] == spec.input.shape:
            return images
        return as_images(list(images), spec.input)
    listed = _listed(pictures)
    if not listed:
        raise DataError("There must be at least one picture to look at, got none.")
    if spec is None:
        raise NetworkError(
            "The network does not say what size of pictures it takes. "
            "Pass st.Classifier(network, spec), or pixels as a uint8 tensor (N, C, H, W) of that size."
        )
    return as_images(listed, spec.input)


def _guessed(network: nn.Module, images: Tensor) -> Spec:
    """Return the Spec of a module that nobody has noted one on: pixels as 0–1, classes by number."""
    channels, height, width = (int(size) for size in images.shape[1:])
    spec = Spec.of((channels, height, width), 1)
    with contract.evaluating(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            logits = network(Subject(network, spec, images[:1], None, ("",)).inputs)
        except RuntimeError as error:
            raise NetworkError(contract.why_not(network, spec, error)) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise NetworkError(
            f"The network must return logits (N, K), got {got}. Wrap it in a module whose forward returns them."
        )
    return Spec.of((channels, height, width), int(logits.shape[1]))


def _checked(
    network: nn.Module, spec: Spec, images: Tensor, labels: Tensor | None, origins: Sequence[str], *, known: bool
) -> Subject:
    """Return the subject; the network is tried on the pictures where it is not known to take them: two passes."""
    if tuple(images.shape[1:]) != spec.input.shape:
        wanted, got = ("×".join(map(str, shape)) for shape in (spec.input.shape, images.shape[1:]))
        raise DataError(f"The network takes pictures of {wanted}, these are {got}. Load them with its size.")
    if not known:
        contract.check(network, spec)
    return Subject(network, spec, images, labels, origins)


def _numbered(count: int) -> list[str]:
    return [f"picture {number}" for number in range(count)]
