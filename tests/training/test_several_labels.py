"""Pictures that may have several labels, from the first batch to the saved file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from sklearn.metrics import average_precision_score, f1_score

import striate as st
from striate.core.spec import TaskSpec
from striate.data.imageset import Origins
from striate.evaluation.multilabel import score_labels
from striate.networks.contract import spec_of
from striate.prediction.predictor import compute_logits
from striate.training.recipe import read_recipe
from tests.training.test_fit import StopAt, same_weights

MODEL = "conv 16@3x3 pad 1 bn relu | maxpool 2 | conv 32@3x3 pad 1 bn relu | gap | fc 10"
RECIPE = st.Recipe(epochs=2, batch_size=64, learning_rate=0.01, precision="fp32")  # as what is saved is scored again


@pytest.fixture(scope="module")
def pairs() -> st.ImageSet:
    """Two digits side by side in each picture of 8×16, labelled with both; the right half of every eighth is black."""
    digits = st.load_data("digits")
    task = TaskSpec(class_names=digits.spec.task.class_names, labels="multi")
    pictures = digits.spec.input.model_copy(update={"width": 16})
    spec = digits.spec.model_copy(update={"input": pictures, "task": task})

    def paired(split: st.Split, name: str, count: int) -> st.Split:
        generator = torch.Generator().manual_seed(len(split))
        left, right = (torch.randint(len(split), (count,), generator=generator) for _ in range(2))
        images = torch.cat([split.images[left], split.images[right]], 3)
        labels = torch.zeros(count, 10, dtype=torch.uint8)
        labels.scatter_(1, split.labels[right][:, None], 1)
        images[::8, :, :, 8:], labels[::8] = 0, 0
        labels.scatter_(1, split.labels[left][:, None], 1)
        return st.Split(images, labels, spec, Origins.numbered(name, count))

    return st.ImageSet(
        paired(digits.train, "train", 2_000),
        paired(digits.val, "val", 400),
        paired(digits.test, "test", 400),
        name="pairs",
    )


def train(images: st.ImageSet, folder: Path, recipe: st.Recipe = RECIPE, **options: object) -> st.Run:
    network = st.build(str(options.pop("model", MODEL)), images.spec)
    return st.fit(network, images, recipe, folder=folder, progress=False, **options)  # type: ignore[arg-type]


def test_it_learns_finds_thresholds_and_is_saved_with_them(pairs: st.ImageSet, tmp_path: Path) -> None:
    run = train(pairs, tmp_path / "run", RECIPE.changed(epochs=8))
    best = max(entry["val_mean_average_precision"] for entry in run.history)
    assert run.val_mean_average_precision == best
    assert best > 0.9
    logits = compute_logits(run.network, pairs.val.images, run.spec.input)
    labels = pairs.val.labels.numpy()
    assert best == pytest.approx(average_precision_score(labels, logits.numpy(), average="macro"), abs=1e-4)
    all_right = ((logits > 0) == pairs.val.labels.bool()).all(1).double().mean().item()
    assert run.val_accuracy == pytest.approx(all_right, abs=1 / len(pairs.val))
    unfitted = pairs.val.spec.task  # without thresholds each label is said from ½ on
    assert score_labels(logits, pairs.val.labels, unfitted).accuracy == all_right

    task = run.spec.task
    assert task.thresholds is not None
    assert spec_of(run.network) == run.spec
    chosen = (logits.sigmoid() >= torch.tensor(task.thresholds)).numpy()
    at_half = (logits > 0).numpy()
    assert all(f1_score(labels[:, k], chosen[:, k]) >= f1_score(labels[:, k], at_half[:, k]) for k in range(10))

    loaded = st.load_classifier(run.folder)
    assert loaded.spec == run.spec
    probabilities = loaded.probabilities(pairs.test.images)
    assert average_precision_score(pairs.test.labels.numpy(), probabilities.numpy(), average="macro") > 0.9
    score = st.evaluate(loaded.network, pairs.test)
    assert score.mean_average_precision > 0.9
    assert torch.equal(score.predicted, probabilities >= torch.tensor(task.thresholds))
    said = loaded.predict(pairs.test.images[1])
    expected = {name for name, is_said in zip(task.class_names, score.predicted[1].tolist(), strict=True) if is_said}
    assert {name for name, _ in said.labels} == expected

    with open(run.folder / "metrics.csv", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert [float(row["val_mean_average_precision"]) for row in rows] == [
        entry["val_mean_average_precision"] for entry in run.history
    ]
    assert f"mAP {run.history[-1]['val_mean_average_precision']:.2%}" in (run.folder / "log.txt").read_text()
    assert read_recipe(run.folder / "recipe.toml").loss == run.recipe.loss == "bce"


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "focal", "average": "ema"},
        {"class_weights": "balanced", "label_smoothing": 0.1},
        {"sampling": "balanced", "shift": 1},
        {"mixup": 0.4},
    ],
)
def test_a_stopped_run_goes_on_to_the_same_weights(
    pairs: st.ImageSet, tmp_path: Path, changes: dict[str, object]
) -> None:
    recipe = RECIPE.changed(batch_size=256, epochs=1, **changes)
    whole = train(pairs, tmp_path / "whole", recipe)
    half = train(pairs, tmp_path / "half", recipe, observers=[StopAt(5)])
    assert half.interrupted
    resumed = st.fit(st.build(MODEL, pairs.spec, seed=5), pairs, resume=half.folder, progress=False)
    assert same_weights(whole.network, resumed.network)
    assert whole.spec == resumed.spec
    assert whole.val_mean_average_precision == resumed.val_mean_average_precision


def test_it_stops_where_the_mean_average_precision_reaches_the_target(pairs: st.ImageSet, tmp_path: Path) -> None:
    run = train(pairs, tmp_path / "run", RECIPE.changed(epochs=20, target_error=0.4))
    reached = run.history[-1]["val_mean_average_precision"]
    assert reached >= 0.6
    assert run.stop_reason == (
        f"1 − mean average precision on val, {1 - reached:.2%}, has reached the target of 40.00%"
    )


def test_learning_from_val_too_fits_no_thresholds(pairs: st.ImageSet, tmp_path: Path) -> None:
    run = train(pairs, tmp_path / "run", RECIPE.changed(epochs=0.2, learn_from="train+val"))
    assert run.val_mean_average_precision is None
    assert run.spec.task.thresholds is None


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge"])
def test_a_loss_of_one_label_is_refused_before_anything_is_written(
    pairs: st.ImageSet, tmp_path: Path, loss: str
) -> None:
    with pytest.raises(st.RecipeError, match=f"loss must be bce or focal where .* several labels, got {loss}"):
        train(pairs, tmp_path / "run", st.Recipe(loss=loss))
    assert not (tmp_path / "run").exists()


def test_the_saved_file_says_what_was_measured(pairs: st.ImageSet, tmp_path: Path) -> None:
    run = train(pairs, tmp_path / "run", RECIPE.changed(epochs=1))
    with safe_open(run.model_path, framework="pt") as opened:
        header = json.loads(opened.metadata()["striate"])
    assert header["metrics"]["val_mean_average_precision"] == run.val_mean_average_precision
    assert header["spec"]["task"]["thresholds"] == list(run.spec.task.thresholds or ())
