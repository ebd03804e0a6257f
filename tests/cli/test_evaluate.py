from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

import striate as st
from striate.evaluation.predictions import read_predictions
from striate.training import checkpoint
from tests.cli.conftest import Striate, write_pictures


def test_scores_the_pictures_that_the_run_was_trained_on(striate: Striate, trained: Path) -> None:
    done = striate("evaluate", trained, "--json")
    assert done.status == 0, done.err
    kept = {"network", "data", "pictures", "accuracy", "interval", "top5", "classes", "confusion"}
    assert kept <= set(done.json)
    assert done.json["accuracy"] >= 0.8
    assert [one["name"] for one in done.json["classes"]] == ["dark", "light"]
    assert sum(map(sum, done.json["confusion"])) == done.json["pictures"]


def test_words_for_people(striate: Striate, trained: Path) -> None:
    done = striate("evaluate", trained)
    assert "95 % interval" in done.out
    assert "precision" in done.out
    assert "confused" in done.out


def test_other_pictures_of_the_same_classes(striate: Striate, trained: Path, tmp_path: Path) -> None:
    """They are all scored: the network has learned from none of them."""
    done = striate("evaluate", trained, write_pictures(tmp_path / "more"), "--json")
    assert done.status == 0, done.err
    assert (done.json["data"], done.json["pictures"]) == ("more", 48)


def test_its_own_pictures_by_name_are_still_only_its_test_pictures(
    striate: Striate, trained: Path, picture_folder: Path
) -> None:
    own, named = striate("evaluate", trained, "--json"), striate("evaluate", trained, picture_folder, "--json")
    assert own.out == named.out
    assert own.json["pictures"] < 48


def test_grey_pictures_are_read_as_the_network_takes_them(striate: Striate, trained: Path, tmp_path: Path) -> None:
    for path in write_pictures(tmp_path / "grey").rglob("*.png"):
        with Image.open(path) as picture:
            grey = picture.convert("L")
        grey.save(path)
    done = striate("evaluate", trained, tmp_path / "grey", "--json")
    assert done.status == 0, done.err
    assert done.json["pictures"] == 48


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none",), "striate: There is no saved network none. Name a run's folder or a .safetensors file.\n"),
        (
            ("{run}/model.safetensors",),
            "striate: {run}/model.safetensors does not say what it was trained on. "
            "Name the pictures: striate evaluate {run}/model.safetensors DATA.\n",
        ),
        (
            ("{run}", "digits"),
            "striate: The network knows the classes dark, light, these pictures have 0, 1, 2, 3 … (10). "
            "Evaluate it on pictures of its own classes.\n",
        ),
    ],
)
def test_what_cannot_be_scored(striate: Striate, trained: Path, words: tuple[str, ...], message: str) -> None:
    done = striate("evaluate", *(word.format(run=trained) for word in words))
    assert (done.status, done.out) == (2, "")
    assert done.err == message.format(run=trained)


def test_what_it_says_besides(striate: Striate, trained: Path) -> None:
    done = striate("evaluate", trained, "--json").json
    assert 0 <= done["macro_f1_interval"][0] <= done["macro_f1"] <= done["macro_f1_interval"][1] <= 1
    assert 0.5 < done["macro_auc"] <= 1
    for one in done["classes"]:
        assert one["auc_interval"][0] <= one["auc"] <= one["auc_interval"][1]
        assert one["f1_interval"][0] <= one["f1"] <= one["f1_interval"][1]
    assert set(done["calibration"]) == {"temperature", "ece", "negative_log_likelihood", "brier", "confidence"}
    wrong = sum(one["count"] for one in done["confused"])
    assert wrong == pytest.approx(done["pictures"] * (1 - done["accuracy"]))
    assert (done["calibrated_on"], done["views"]) == (None, None)


def test_training_keeps_the_logits_that_it_was_scored_by(striate: Striate, trained: Path) -> None:
    images = st.load_data(**checkpoint.read_header(trained).data.source)
    kept = read_predictions(trained, st.load_classifier(trained), images.test)
    assert kept is not None
    done = striate("evaluate", trained, "--json").json
    assert st.evaluate(kept, images.test).accuracy == done["accuracy"]


def test_calibrating_changes_the_temperature_and_no_answer(striate: Striate, trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    before = striate("evaluate", run, "--json").json
    done = striate("evaluate", run, "--calibrate", "--json")
    assert done.status == 0, done.err
    after = done.json
    assert before["calibration"]["temperature"] == 1.0
    assert after["calibration"]["temperature"] != 1.0
    assert after["calibrated_on"]["ece_before"] == before["calibration"]["ece"]
    assert (after["confusion"], after["accuracy"]) == (before["confusion"], before["accuracy"])
    kept = striate("evaluate", run, "--json").json
    assert kept["calibration"] == after["calibration"]
    assert st.load(run).spec.task.temperature == after["calibration"]["temperature"]
    assert "calibrated on" in striate("evaluate", run, "--calibrate").out


def test_calibrating_uses_val_and_not_test(
    striate: Striate, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from striate.cli import evaluate

    used = []
    fit = evaluate.calibrate_on
    monkeypatch.setattr(evaluate, "calibrate_on", lambda network, split: used.append(split) or fit(network, split))
    run = shutil.copytree(trained, tmp_path / "run")
    assert striate("evaluate", run, "--calibrate").status == 0
    images = st.load_data(**checkpoint.read_header(trained).data.source)
    assert list(used[0].origins) == list(images.val.origins)


def test_what_cannot_be_calibrated(striate: Striate, trained: Path, picture_folder: Path) -> None:
    path = trained / "model.safetensors"
    before = path.read_bytes()
    done = striate("evaluate", path, picture_folder, "--calibrate")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"striate: --calibrate needs the val pictures of a run, and {path} is a saved network. Name the run's folder.\n"
    )
    assert path.read_bytes() == before


def test_views_are_compared_with_the_plain_answers(striate: Striate, trained: Path) -> None:
    plain = striate("evaluate", trained, "--json").json
    for views in ("flip", "shift", "flip+shift"):
        done = striate("evaluate", trained, "--tta", views, "--json")
        assert done.status == 0, done.err
        told = done.json["views"]
        assert told["name"] == views
        assert told["accuracy_before"] == plain["accuracy"]
        assert told["difference"] == pytest.approx(done.json["accuracy"] - plain["accuracy"])
        assert 0 < told["p_value"] <= 1
    assert "McNemar" in striate("evaluate", trained, "--tta", "flip").out
    assert striate("evaluate", trained, "--tta", "turn").status == 2
