"""The network's own initialisation from pictures, where it has one."""

from __future__ import annotations

import math

import torch

from striate.data.keyed import keyed_generator
from striate.data.preprocess import normalise
from striate.data.stream.stream import Stream
from striate.training.run import Run

PREPARE_PICTURES = 5_000  # what a network's own data-dependent initialisation is shown at most
PREPARE_BYTES = 64 << 20  # of them as floats: large pictures have as many patches with fewer
_PREPARE_STREAM = -1  # keys the choice of these pictures; epochs are 0 and up


def prepare(run: Run) -> None:
    """Let the network initialise itself from pictures, where it does: SpeedNet's whitening."""
    prepare = getattr(run.network, "prepare", None)
    if not callable(prepare):
        return
    learned, pictures = run.learned, min(PREPARE_PICTURES, 1 + PREPARE_BYTES // (4 * math.prod(run.spec.input.shape)))
    if isinstance(learned, Stream):
        images = learned.some(pictures, run.recipe.seed).images
    else:
        order = torch.randperm(len(learned), generator=keyed_generator(run.recipe.seed, _PREPARE_STREAM))
        images = learned.images.index_select(0, order[:pictures])
    prepare(normalise(images, run.spec.input))
