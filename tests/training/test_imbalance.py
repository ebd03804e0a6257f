"""One class of twenty pictures beside one of four hundred, which overlap."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from sklearn.metrics import recall_score

import striate as st
from striate.prediction.predictor import compute_logits
from tests.training.test_fit import StopAt, same_weights

MODEL = "fc 2"
RECIPE = st.Recipe(epochs=6, batch_size=20, learning_rate=0.02)


@pytest.fixture(scope="module")
def imbalanced() -> st.ImageSet:
    """Grey squares: the rare ones are a little brighter, so that most of them look as some of the common ones do."""
    generator = torch.Generator().manual_seed(0)

    def part(common: int, rare: int) -> tuple[object, object]:
        labels = torch.tensor([0] * common + [1] * rare)
        brightness = 110 + 30 * labels + 25 * torch.randn(len(labels), generator=generator)
        noise = 10 * torch.randn(len(labels), 4, 4, generator=generator)
        images = (brightness[:, None, None] + noise).clamp(0, 255).to(torch.uint8)
        return images.numpy(), labels.numpy()

    return st.load_data((part(400, 20), part(80, 4), part(200, 200)))


def recall_of_the_rare(images: st.ImageSet, folder: Path, **changes: object) -> float:
    network = st.build(MODEL, images.spec, seed=1)
    run = st.fit(network, images, RECIPE.changed(learn_from="train+val", **changes), folder=folder, progress=False)
    said = compute_logits(run.network, images.test.images, images.spec.input).argmax(1)
    return (said[images.test.labels == 1] == 1).double().mean().item()


def test_balancing_finds_more_of_the_rare_class(imbalanced: st.ImageSet, tmp_path: Path) -> None:
    plain = recall_of_the_rare(imbalanced, tmp_path / "plain")
    weighted = recall_of_the_rare(imbalanced, tmp_path / "weighted", class_weights="balanced")
    drawn = recall_of_the_rare(imbalanced, tmp_path / "drawn", sampling="balanced")
    decided = recall_of_the_rare(imbalanced, tmp_path / "decided", loss="bce", class_weights="balanced")
    assert plain < 0.3
    assert min(weighted, drawn, decided) > 0.6


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": "balanced", "flip": "alternating", "shift": 1},
        {"class_weights": "balanced", "loss": "hinge"},
        {"loss": "focal", "focal_gamma": 1.5},
        {"loss": "bce", "class_weights": "balanced"},
    ],
)
@pytest.mark.parametrize("step", [10, 21])
def test_a_stopped_run_goes_on_to_the_same_weights(
    imbalanced: st.ImageSet, tmp_path: Path, changes: dict[str, object], step: int
) -> None:
    recipe = RECIPE.changed(epochs=2, **changes)
    whole = st.fit(st.build(MODEL, imbalanced.spec), imbalanced, recipe, folder=tmp_path / "1", progress=False)
    half = st.fit(
        st.build(MODEL, imbalanced.spec),
        imbalanced,
        recipe,
        folder=tmp_path / "2",
        progress=False,
        observers=[StopAt(step)],
    )
    assert half.interrupted
    resumed = st.fit(st.build(MODEL, imbalanced.spec, seed=5), imbalanced, resume=half.folder, progress=False)
    assert same_weights(whole.network, resumed.network)
    assert [entry["loss"] for entry in whole.history] == [entry["loss"] for entry in resumed.history]


@pytest.mark.parametrize("changes", [{"class_weights": "balanced"}, {"sampling": "balanced"}])
def test_where_classes_are_balanced_the_weights_are_chosen_by_the_mean_recall(
    imbalanced: st.ImageSet, tmp_path: Path, changes: dict[str, str]
) -> None:
    recipe = RECIPE.changed(learning_rate=0.05, schedule="constant", **changes)
    run = st.fit(st.build(MODEL, imbalanced.spec), imbalanced, recipe, folder=tmp_path / "run", progress=False)
    logits = compute_logits(run.network, imbalanced.val.images, imbalanced.spec.input)
    recall = recall_score(imbalanced.val.labels.numpy(), logits.argmax(1).numpy(), average="macro")
    assert run.val_balanced_accuracy == pytest.approx(recall)
    assert run.val_balanced_accuracy == max(entry["val_balanced_accuracy"] for entry in run.history)
    assert run.val_accuracy == pytest.approx((logits.argmax(1) == imbalanced.val.labels).double().mean().item())
    # Chosen by accuracy, another epoch would have been kept: the choice is of consequence.
    assert run.val_accuracy < max(entry["val_accuracy"] for entry in run.history)
    assert f"balanced {run.history[0]['val_balanced_accuracy']:.2%}" in (run.folder / "log.txt").read_text()
    with safe_open(run.model_path, framework="pt") as opened:
        metrics = json.loads(opened.metadata()["striate"])["metrics"]
    assert metrics["val_balanced_accuracy"] == run.val_balanced_accuracy
    assert metrics["val_accuracy"] == run.val_accuracy


def test_a_target_is_of_what_the_weights_are_chosen_by(imbalanced: st.ImageSet, tmp_path: Path) -> None:
    recipe = RECIPE.changed(sampling="balanced", target_error=0.5)
    run = st.fit(st.build(MODEL, imbalanced.spec), imbalanced, recipe, folder=tmp_path / "run", progress=False)
    error = 1 - run.history[-1]["val_balanced_accuracy"]
    assert run.stop_reason == f"1 − balanced accuracy on val, {error:.2%}, has reached the target of 50.00%"


def test_the_log_says_how_much_the_classes_count(imbalanced: st.ImageSet, tmp_path: Path) -> None:
    run = st.fit(
        st.build(MODEL, imbalanced.spec),
        imbalanced,
        RECIPE.changed(class_weights="balanced"),
        folder=tmp_path / "run",
        progress=False,
    )
    assert run.class_weights is not None
    assert run.class_weights.tolist() == pytest.approx([420 / 800, 420 / 40])
    assert "class weights from 0.525 (0) to 10.5 (1)\n" in (run.folder / "log.txt").read_text()
