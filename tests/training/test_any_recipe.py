"""Whatever a recipe asks for, training runs to its end or is refused in one sentence, before anything is written."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st_
from hypothesis.strategies import SearchStrategy

import striate as st
from striate.core.spec import Spec
from striate.data.imageset import Origins

SIDE, CLASSES, PICTURES = 12, 3, 24
MODEL = f"conv 4@3x3 pad 1 bn relu | gap | fc {CLASSES}"


def _set(channels: int, several: bool) -> st.ImageSet:
    """Noise; labels of a kind."""
    generator = torch.Generator().manual_seed(0)
    spec = Spec.of((channels, SIDE, SIDE), CLASSES)
    if several:
        spec = spec.model_copy(update={"task": spec.task.model_copy(update={"labels": "multi"})})

    def split(name: str) -> st.Split:
        images = torch.randint(0, 256, (PICTURES, channels, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        labels = torch.arange(PICTURES) % CLASSES
        if several:
            labels = torch.randint(0, 2, (PICTURES, CLASSES), generator=generator, dtype=torch.uint8)
        return st.Split(images, labels, spec, Origins.numbered(name, PICTURES))

    return st.ImageSet(split("train"), split("val"), split("test"), name="noise")


SETS = {f"{channels} {several}": _set(channels, several) for channels in (1, 3) for several in (False, True)}

_PHASES = st_.sampled_from(
    [(), ({"epochs": 0.25},), ({"epochs": 0.25, "resolution": 8},), ({"epochs": 0.25, "frozen": ("nothing",)},)]
)
_FIELDS: dict[str, SearchStrategy[Any]] = {
    "optimizer": st_.sampled_from(["sgd", "adamw", "rmsprop", "muon"]),
    "schedule": st_.sampled_from(["one_cycle", "cosine", "exponential", "step", "plateau", "constant"]),
    "clip_gradient_norm": st_.none() | st_.floats(0.01, 10),
    "bias_rate_factor": st_.floats(0, 64),
    "l2": st_.floats(0, 0.1),
    "l1": st_.floats(0, 0.1),
    "loss": st_.sampled_from([None, "cross_entropy", "hinge", "focal", "bce"]),
    "focal_gamma": st_.floats(0, 10),
    "label_smoothing": st_.floats(0, 0.9),
    "class_weights": st_.sampled_from(["none", "balanced"]),
    "sampling": st_.sampled_from(["uniform", "balanced"]),
    "average": st_.sampled_from(["none", "ema"]),
    "learn_from": st_.sampled_from(["train", "train+val"]),
    "target_error": st_.none() | st_.floats(0, 1),
    "early_stopping_epochs": st_.none() | st_.integers(1, 3),
    "phases": _PHASES,
    "batch_size": st_.sampled_from([1, 5, 12, 24, 100]),
    "flip": st_.sampled_from(["none", "random", "alternating"]),
    "shift": st_.integers(0, SIDE + 2),
    "crop_area": st_.floats(0.01, 1),
    "rotation": st_.floats(0, 180),
    "zoom": st_.floats(1, 4),
    "shear": st_.floats(0, 60),
    "trivial_augment": st_.booleans(),
    "brightness": st_.floats(0, 1),
    "saturation": st_.floats(0, 1),
    "hue": st_.floats(0, 0.5),
    "grey": st_.floats(0, 1),
    "erase": st_.floats(0, 1),
    "mixup": st_.floats(0, 100),
    "cutmix": st_.floats(0, 100),
}


@st_.composite
def _changes(draw: st_.DrawFn) -> dict[str, Any]:
    """Return a few fields of a recipe: many at once would nearly always hold one that is refused."""
    names = draw(st_.lists(st_.sampled_from(sorted(_FIELDS)), unique=True, max_size=5))
    return {name: draw(_FIELDS[name]) for name in names}


@given(st_.sampled_from(sorted(SETS)), _changes())
@example("3 True", {"mixup": 0.4, "cutmix": 1.0, "class_weights": "balanced", "loss": "focal"})
@example("3 False", {"mixup": 0.4, "class_weights": "balanced", "loss": "bce", "label_smoothing": 0.1})
@example("1 False", {"hue": 0.1})
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None, derandomize=True)
def test_a_recipe_runs_or_is_refused_before_anything_is_written(name: str, changes: dict[str, Any]) -> None:
    images = SETS[name]
    known = {"epochs": 0.25, "batch_size": 3, "threads": 1, "precision": "fp32", "memory_format": "contiguous"}
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        refusal = ""
        try:
            recipe = st.Recipe(**{**known, **changes})
            run = st.fit(st.build(MODEL, images.spec), images, recipe, folder=folder, progress=False)
        except st.RecipeError as error:
            refusal = str(error)
        if refusal:
            assert not folder.exists()
            assert len(refusal.splitlines()) == 1
        else:
            assert run.finished or run.stop_reason
            assert run.model_path.is_file()
            assert all(torch.isfinite(weight).all() for weight in run.network.parameters())


@pytest.mark.parametrize("name", sorted(SETS))
def test_batches_of_one_picture_run(name: str, tmp_path: Path) -> None:
    images = SETS[name]
    network = st.build(MODEL, images.spec)
    assert st.fit(network, images, epochs=0.25, batch_size=1, folder=tmp_path / "run", progress=False).finished


@pytest.mark.parametrize("name", sorted(SETS))
def test_the_plainest_recipe_runs_on_every_kind_of_pictures(name: str, tmp_path: Path) -> None:
    images = SETS[name]
    run = st.fit(st.build(MODEL, images.spec), images, epochs=1, folder=tmp_path / "run", progress=False)
    assert run.finished
