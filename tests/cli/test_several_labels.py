"""Pictures that may have several labels, from a saved network to answers, scores and the report."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import striate as st
from striate.data.preprocess import normalise
from striate.evaluation.multilabel import MultiScore, fit_thresholds
from striate.evaluation.predictions import predictions_of
from striate.networks import saved
from tests.cli.conftest import Striate

MODEL = "conv 16@3x3 pad 1 bn relu | maxpool 2 | conv 32@3x3 pad 1 bn relu | gap | fc 10"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of pictures of two digits side by side, some of one or none."""
    folder = tmp_path_factory.mktemp("pairs")
    digits = st.load_data("digits").everything
    generator = torch.Generator().manual_seed(0)
    rows = [["path", "labels", "split"]]
    for number, (left, right) in enumerate(torch.randint(len(digits), (900, 2), generator=generator).tolist()):
        halves = [torch.zeros(8, 8, dtype=torch.uint8) if number % 9 < blank else digits.images[one, 0]
                  for one, blank in ((left, 1), (right, 2))]  # fmt: skip
        labels = {str(int(digits.labels[one])) for one, blank in ((left, 1), (right, 2)) if number % 9 >= blank}
        Image.fromarray(torch.cat(halves, 1).numpy()).save(folder / f"{number}.png")
        rows.append([f"{number}.png", "|".join(sorted(labels)), "train" if number < 600 else "test"])
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows(rows)
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def pairs(table: Path) -> st.ImageSet:
    """The pictures of the table."""
    return st.load_data(table)


@pytest.fixture(scope="module")
def run(pairs: st.ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network that learned them, with thresholds fitted on val."""
    network = st.build(MODEL, pairs.spec, seed=0)
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    pictures, labels = normalise(pairs.train.images, pairs.spec.input), pairs.train.labels.float()
    order = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(15):
        for batch in torch.randperm(len(labels), generator=order).split(64):
            optimiser.zero_grad()
            F.binary_cross_entropy_with_logits(network(pictures[batch]), labels[batch]).backward()
            optimiser.step()
    folder = tmp_path_factory.mktemp("run")
    path = st.save(folder / "model.safetensors", network, pairs.spec, data={"name": "pairs"})
    logits = predictions_of(network.eval(), pairs.val).logits
    saved.store_thresholds(path, fit_thresholds(logits, pairs.val.labels))
    return folder


def test_it_has_learned(run: Path, pairs: st.ImageSet) -> None:
    score = st.evaluate(st.load_classifier(run), pairs.test)
    assert isinstance(score, MultiScore)
    assert score.mean_average_precision > 0.8
    assert score.have_none > 0


def test_the_command_line_scores_it(run: Path, table: Path, striate: Striate) -> None:
    words = striate("evaluate", run / "model.safetensors", table)
    assert words.status == 0, words.err
    for expected in ("mAP ", "all labels right in", "macro F1", "ECE", "threshold", "said to be no "):
        assert expected in words.out
    done = striate("evaluate", run / "model.safetensors", table, "--json", "--tta", "shift")
    assert done.status == 0, done.err
    assert done.json["pictures"] == 300
    low, high = done.json["mean_average_precision_interval"]
    assert 0.7 < low <= done.json["mean_average_precision"] <= high < 1
    assert done.json["views"]["name"] == "shift"
    first = done.json["classes"][0]
    assert {"name", "threshold", "average_precision", "average_precision_interval", "auc", "f1_interval"} <= set(first)


def test_the_command_line_labels_pictures(run: Path, table: Path, striate: Striate, tmp_path: Path) -> None:
    pictures = [table.parent / f"{number}.png" for number in range(880, 900)]
    classifier = st.load_classifier(run)
    done = striate("predict", run, *pictures, "--csv", tmp_path / "said.csv", "--json")
    assert done.status == 0, done.err
    expected = classifier.predict_many(pictures)
    assert [[tuple(pair) for pair in one["labels"]] for one in done.json["predictions"]] == [
        list(one.labels) for one in expected
    ]
    assert any(len(one.labels) == 2 for one in expected)
    assert any(not one.labels for one in expected)
    with (tmp_path / "said.csv").open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["labels"] for row in rows] == ["|".join(name for name, _ in one.labels) for one in expected]
    assert all(row["labels"].count("|") == row["probabilities"].count("|") for row in rows)
    words = striate("predict", run, *pictures).out
    assert re.search(r"\d [\d.]+%, \d [\d.]+%", words)
    assert "none" in words
    refused = striate("predict", run, pictures[0], "--abstain-below", "0.5")
    assert refused.status == 2
    assert "--abstain-below must be left out where a picture may have several labels" in refused.err


def test_two_networks_are_compared(
    run: Path, table: Path, pairs: st.ImageSet, striate: Striate, tmp_path: Path
) -> None:
    other = shutil.copytree(run, tmp_path / "other") / "model.safetensors"
    saved.store_thresholds(other, None)
    done = striate("compare", run / "model.safetensors", other, table, "--json", "--output", tmp_path / "flips.png")
    assert done.status == 0, done.err
    assert done.json["mended"] + done.json["broken"] > 0
    assert all(0 < one["p_value"] <= 1 for one in done.json["classes"])
    assert {flip["change"] for flip in done.json["flips"]} <= {"mended", "broken", "still wrong"}
    assert "first right" in striate("compare", run / "model.safetensors", other, table).out


def test_its_page(run: Path, pairs: st.ImageSet) -> None:
    page = st.report(run, pairs).read_text(encoding="utf-8")
    score = st.evaluate(st.load_classifier(run), pairs.test)
    assert isinstance(score, MultiScore)
    assert f"{score.mean_average_precision:.2%}" in page
    for expected in ("mean average precision", "Precision and recall", "at its threshold", "Saliency"):
        assert expected in page
    assert "Confusion" not in page.replace("confusion", "")


def test_every_look_takes_it(run: Path, pairs: st.ImageSet) -> None:
    classifier, few = st.load_classifier(run), pairs.test[:6]
    assert torch.equal(
        st.saliency(classifier, few, check=False).targets, classifier.probabilities(few.images).argmax(1)
    )
    assert st.invariance(classifier, few).effects["shift"].accuracy is None


def test_the_step_of_one_weight_is_refused(run: Path, pairs: st.ImageSet) -> None:
    with pytest.raises(st.NetworkError, match="this network gives a picture several labels"):
        st.explain_step(st.load_classifier(run), pairs.test[:1], "3", "body.conv1.conv.weight", 0)
