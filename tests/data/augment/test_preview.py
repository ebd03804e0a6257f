from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.data.augment import preview as module
from striate.data.augment.preview import preview
from striate.data.balance import balancing_shares
from striate.drawing.grid import Group
from tests.conftest import make_image_set


class Watcher(nn.Module):
    """A network that remembers what it sees in training."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, classes)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.seen.append(images.detach().clone())
        logits: Tensor = self.fc(images.mean((2, 3)))
        return logits


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[Group]:
    """What is drawn."""
    drawn: list[Group] = []
    draw = module.draw_grid

    def watched(groups: Sequence[Group], **words: str) -> object:
        drawn.extend(groups)
        return draw(groups, **words)

    monkeypatch.setattr(module, "draw_grid", watched)
    return drawn


def as_bytes(pictures: Tensor, spec: st.Spec) -> Tensor:
    mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (spec.input.mean, spec.input.std))
    return ((pictures * std + mean) * 255).round().to(torch.uint8)


@pytest.mark.parametrize(
    "changes",
    [
        {"flip": "random", "shift": 2},
        {"crop_area": 0.3, "trivial_augment": True, "mixup": 0.4, "cutmix": 1.0, "rotation": 20},
        {"flip": "alternating", "mixup": 1.0, "sampling": "balanced"},
    ],
)
def test_it_shows_what_a_network_in_training_sees(
    changes: dict[str, object], groups: list[Group], tmp_path: Path
) -> None:
    images = make_image_set(pictures=30, channels=3, size=12)
    larger = nn.functional.interpolate(images.train.images, (15, 15))  # as if read with stored_size=1.25
    train = dataclasses.replace(images.train, stored=larger)
    images = st.ImageSet(train, images.val, images.test, name="stored larger")
    recipe = st.Recipe(
        epochs=2, batch_size=8, seed=5, **changes, precision="fp32", memory_format="contiguous", threads=1
    )
    network = Watcher(3)
    st.fit(network, images, recipe, folder=tmp_path / "run", progress=False)
    per_epoch = len(images.train) // 8
    seen = network.seen[-2 * per_epoch :]
    shares = balancing_shares(images.train.labels, 3) if "sampling" in changes else None
    preview(images.train, recipe, batch_size=8, seed=5, sizes=[None, None], shares=shares)
    assert len(groups) == 8
    shown = 0
    for group in groups:
        for epoch, tile in enumerate(group.tiles):
            if "left out" in tile.caption:
                continue
            shown += 1
            of_epoch = as_bytes(torch.cat(seen[epoch * per_epoch : (epoch + 1) * per_epoch]), images.spec)
            assert (of_epoch == tile.pixels).flatten(1).all(1).any()
            assert ("%" in tile.caption) == bool(recipe.mixup or recipe.cutmix)
    assert shown >= 6


def test_rows_are_pictures_of_the_first_classes(groups: list[Group]) -> None:
    images = make_image_set(pictures=60, channels=1, size=8)
    preview(images.train, st.Recipe(), batch_size=16, seed=0)
    names = images.spec.task.class_names
    assert [group.heading.split(":")[0] for group in groups] == [names[number % 3] for number in range(8)]
    assert {len(group.tiles) for group in groups} == {8}
    for group in groups:
        shown = [tile.pixels for tile in group.tiles if "left out" not in tile.caption]
        assert all(torch.equal(pixels, shown[0]) for pixels in shown)


def test_labels_of_several_classes_and_their_mixtures_are_named() -> None:
    spec = st.Spec.of((3, 4, 4), ["cat", "dog", "sky"])
    spec = spec.model_copy(update={"task": spec.task.model_copy(update={"labels": "multi"})})
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.uint8)
    split = st.Split(images, labels, spec, ["a", "b"])
    assert module._in_words(labels[0], split) == "cat, sky"
    assert module._in_words(labels[1], split) == "no class"
    assert module._in_words(torch.tensor([0.25, 0.001, 0.75]), split) == "sky 75%, cat 25%"


def test_a_policy_that_does_not_fit_is_refused() -> None:
    images = make_image_set(pictures=30, channels=1, size=8)
    with pytest.raises(st.RecipeError, match=r"hue must be 0 for pictures that are not RGB, got 0\.1 with 1 channel"):
        preview(images.train, st.Recipe(hue=0.1), batch_size=8, seed=0)
