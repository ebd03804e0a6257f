from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import striate as st
from striate.core import processes
from striate.training.memory import Need
from striate.training.recipe import Phase
from striate.training.rehearsal import rehearse


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused_before_anything_is_written(
    image_set: st.ImageSet, tmp_path: Path, value: float
) -> None:
    network = mlp()
    with torch.no_grad():
        network[4].bias[1] = value
    with pytest.raises(st.NetworkError, match=r"The weights must be finite before training, 4\.bias is not"):
        st.fit(network, image_set, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_phase_that_freezes_everything_is_refused(image_set: st.ImageSet, tmp_path: Path) -> None:
    phases = (Phase(epochs=1), Phase(epochs=1, frozen=("1", "2", "4")))
    with pytest.raises(st.RecipeError, match=r"A phase must leave something to learn, .* is frozen: 1, 2, 4"):
        st.fit(mlp(), image_set, epochs=2, phases=phases, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_norm_that_gets_one_number_of_each_channel_is_refused(image_set: st.ImageSet, tmp_path: Path) -> None:
    with pytest.raises(st.NetworkError, match=r"pictures of 8×8, 1 at once: Expected more than 1 value per channel"):
        st.fit(mlp(), image_set, batch_size=1, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_crops_need_pictures_that_were_kept_larger(image_set: st.ImageSet) -> None:
    network = st.build("conv 4@3x3 | relu | fc 3", image_set.spec)
    with pytest.raises(
        st.RecipeError, match=r"stored_size needs .* st.load_data\(folder, stored_size=1.5\)\. Leave it"
    ):
        st.fit(network, image_set, stored_size=1.5)


def test_pictures_that_are_stored_larger_are_not_joined_with_val(image_set: st.ImageSet, tmp_path: Path) -> None:
    train = image_set.train
    larger = dataclasses.replace(train, stored=train.images.repeat_interleave(2, 2).repeat_interleave(2, 3))
    images = st.ImageSet(name="larger", train=larger, val=image_set.val, test=image_set.test)
    assert images.fingerprint != image_set.fingerprint
    with pytest.raises(st.RecipeError, match="learn_from must be train where pictures are stored larger"):
        st.fit(mlp(), images, learn_from="train+val", folder=tmp_path / "run", progress=False)


def test_one_process_has_nobody_to_synchronise_norms_with(image_set: st.ImageSet, tmp_path: Path) -> None:
    with pytest.raises(st.NetworkError, match=r"pictures of 8×8, 1 at once: Expected more than 1 value per channel"):
        st.fit(mlp(), image_set, batch_size=1, sync_norm=True, folder=tmp_path / "run", progress=False)


def test_every_process_needs_two_pictures_of_a_batch_where_a_norm_gets_one_number_of_each(
    image_set: st.ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "world", lambda: 2)
    recipe = st.Recipe(batch_size=2, sync_norm=True)  # what is measured beforehand does not join the processes
    with pytest.raises(st.NetworkError, match=r"pictures of 8×8, 1 at once: Expected more than 1 value per channel"):
        rehearse(mlp(), image_set, recipe)
    rehearse(mlp(), image_set, recipe.changed(batch_size=4))


def test_memory_is_for_the_batch_of_all_that_is_learned_from(
    image_set: st.ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Need, "check", lambda need, batch_size: asked.append(batch_size))
    for learn_from in ("train", "train+val"):
        rehearse(mlp(), image_set, st.Recipe(batch_size=1000, learn_from=learn_from))  # type: ignore[arg-type]
    assert asked == [len(image_set.train), len(image_set.train) + len(image_set.val)]
