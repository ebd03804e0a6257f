from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import striate as st
from striate.core import machine
from striate.core.machine import Execution
from striate.core.spec import TaskSpec
from striate.data.preprocess import normalise
from striate.prediction import predictor as module
from striate.prediction.predictor import compute_logits
from tests.networks.zoo.test_zoo import make_spec

SPEC = make_spec((1, 12, 10), 4)


@pytest.fixture(scope="module")
def classifier() -> st.Classifier:
    return st.Classifier(st.build("conv 4 bn relu | fc 4", SPEC, seed=2), SPEC)


def pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (12, 10), dtype=np.uint8)


def test_every_form_of_a_picture_gets_the_same_answer(classifier: st.Classifier, tmp_path: Path) -> None:
    picture = Image.fromarray(pixels())
    picture.save(tmp_path / "picture.png")
    written = io.BytesIO()
    picture.save(written, "PNG")
    forms = [tmp_path / "picture.png", str(tmp_path / "picture.png"), written.getvalue(), picture, pixels()]
    forms += [pixels()[..., None], torch.from_numpy(pixels())[None]]
    answers = [classifier.predict(form) for form in forms]
    assert len(set(answers)) == 1
    together = classifier.predict_many(forms)
    assert [one.label for one in together] == [one.label for one in answers]
    assert [one.probability for one in together] == pytest.approx([one.probability for one in answers])


def test_the_answer_is_the_softmax_of_the_logits(classifier: st.Classifier) -> None:
    images = torch.from_numpy(pixels())[None, None]
    with torch.no_grad():
        logits = classifier.network(normalise(images, SPEC.input))[0].double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum()
    answer = classifier.predict(pixels(), top=4)
    assert [name for name, _ in answer.top] == [str(k) for k in np.argsort(-expected)]
    np.testing.assert_allclose([p for _, p in answer.top], sorted(expected, reverse=True), rtol=1e-5)
    assert (answer.label, answer.probability) == answer.top[0]
    assert str(answer) == f"{answer.label} ({answer.probability:.1%})"


def test_temperature_and_several_labels_are_obeyed() -> None:
    network = st.build("fc 4", SPEC)
    images = torch.from_numpy(pixels())[None, None]
    logits = compute_logits(network, images, SPEC.input)
    cool = SPEC.model_copy(update={"task": SPEC.task.model_copy(update={"temperature": 3.0})})
    several = SPEC.model_copy(update={"task": SPEC.task.model_copy(update={"labels": "multi"})})
    assert torch.equal(st.Classifier(network, cool).probabilities(images), (logits / 3).softmax(1))
    assert torch.equal(st.Classifier(network, several).probabilities(images), logits.sigmoid())


def test_batches_and_modes_do_not_change_the_logits() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(240, 4)
    ).train()
    network[1].eval()
    images = torch.randint(0, 256, (1100, 1, 12, 10), dtype=torch.uint8)
    logits = compute_logits(network, images, SPEC.input)
    assert logits.shape == (1100, 4)
    torch.testing.assert_close(logits[1050:], compute_logits(network, images[1050:], SPEC.input))
    torch.testing.assert_close(logits, compute_logits(network, images, SPEC.input, Execution("fp32", "channels_last")))
    assert network.training
    assert not network[1].training


def test_a_network_answers_where_it_is_whatever_device_is_in_use(
    classifier: st.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randint(0, 256, (3, 1, 12, 10), dtype=torch.uint8)
    expected = compute_logits(classifier.network, images, SPEC.input)
    monkeypatch.setattr(machine, "device", lambda: torch.device("meta"))  # as a GPU is: another one than the CPU
    assert torch.equal(compute_logits(classifier.network, images, SPEC.input), expected)
    assert st.Classifier(classifier.network, SPEC).predict(pixels())


def test_a_colour_picture_file_is_made_grey_for_a_grey_network(classifier: st.Classifier, tmp_path: Path) -> None:
    grey = Image.fromarray(pixels())
    grey.convert("RGB").save(tmp_path / "colour.png")
    assert classifier.predict(tmp_path / "colour.png") == classifier.predict(grey)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((12, 10, 3), np.uint8), r"takes pictures with 1 channel, this one has 3\. Convert it first"),
        (np.zeros((12, 10), np.float32), r"must be uint8 pixels 0–255 .* got torch\.float32 of shape \(1, 12, 10\)"),
        (np.zeros((2, 12, 10, 1), np.uint8), r"must be uint8 pixels .* of shape \(2, 12, 10, 1\)"),
        (torch.zeros(12, 10, dtype=torch.uint8), r"must be uint8 pixels .* of shape \(12, 10\)"),
        (b"no picture at all", r"must be a picture .*; its content is something else"),
        ("none.png", r"Cannot read none\.png: No such file or directory\."),
    ],
)
def test_what_is_no_picture_is_refused(classifier: st.Classifier, picture: object, message: str) -> None:
    with pytest.raises(st.DataError, match=message):
        classifier.predict(picture)  # type: ignore[arg-type]


def test_a_pillow_image_and_its_file_get_the_same_answer(tmp_path: Path) -> None:
    spec = make_spec((3, 12, 10), 4)
    classifier = st.Classifier(st.build("conv 4 relu | fc 4", spec, seed=1), spec)
    transparent = Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 20, 4), dtype=np.uint8), "RGBA")
    transparent.save(tmp_path / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    transparent.convert("RGB").save(tmp_path / "turned.png", exif=exif)
    deep = Image.fromarray(np.random.default_rng(2).integers(0, 65536, (30, 20), dtype=np.uint16))
    deep.save(tmp_path / "deep.png")
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as opened:
            assert classifier.predict(opened) == classifier.predict(path), path.name


def test_probabilities_are_of_uint8_pictures_at_the_networks_size(classifier: st.Classifier) -> None:
    for images in (torch.rand(1, 1, 12, 10), torch.zeros(1, 1, 12, 11, dtype=torch.uint8)):
        with pytest.raises(st.DataError, match=r"images must be uint8 of shape \(N, 1, 12, 10\), got "):
            classifier.probabilities(images)


def test_weights_that_are_not_numbers_are_not_hidden() -> None:
    network = st.build("fc 4", SPEC)
    torch.nn.init.constant_(next(network.parameters()), float("nan"))
    with pytest.raises(st.NetworkError, match="answers are not finite numbers"):
        st.Classifier(network, SPEC).predict(pixels())


def test_no_pictures_and_no_classes(classifier: st.Classifier) -> None:
    assert classifier.predict_many([]) == []
    with pytest.raises(st.DataError, match="top must be at least 1, got 0"):
        classifier.predict(pixels(), top=0)


def test_a_network_that_does_not_fit_its_spec_is_refused() -> None:
    with pytest.raises(st.NetworkError, match="one for each of the 4 classes"):
        st.Classifier(st.build("fc 5", SPEC), SPEC)


def test_several_labels_are_those_that_reach_their_thresholds() -> None:
    network = st.build("fc 4", SPEC, seed=3)
    images = torch.from_numpy(pixels())[None, None]
    first, second, third, fourth = compute_logits(network, images, SPEC.input)[0].sigmoid().tolist()

    def predict(*thresholds: float) -> st.Prediction:
        task = TaskSpec(class_names=("ant", "bee", "cat", "dog"), labels="multi", thresholds=thresholds)
        return st.Classifier(network, SPEC.model_copy(update={"task": task})).predict(pixels(), top=1)

    said = predict(1, second - 1e-3, third - 1e-3, 1)
    expected = sorted([("bee", second), ("cat", third)], key=lambda one: -one[1])
    assert [name for name, _ in said.labels] == [name for name, _ in expected]
    assert [p for _, p in said.labels] == pytest.approx([p for _, p in expected])
    assert said.label == ", ".join(name for name, _ in expected)
    assert str(said) == ", ".join(f"{name} ({p:.1%})" for name, p in expected)
    assert said.probability == pytest.approx((1 - first) * second * third * (1 - fourth))
    assert said.top[0][1] == pytest.approx(max(first, second, third, fourth))
    none = predict(1, 1, 1, 1)
    assert (none.label, none.labels, str(none)) == ("none", (), "none")


def test_of_one_class_it_alone_is_said(classifier: st.Classifier) -> None:
    answer = classifier.predict(pixels())
    assert answer.labels == answer.top[:1]


def test_large_pictures_go_in_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    network = st.build("conv 4 bn relu | fc 4", SPEC, seed=2)
    images = torch.randint(0, 256, (7, 1, 12, 10), dtype=torch.uint8)
    expected = compute_logits(network, images, SPEC.input)
    seen: list[int] = []
    network.register_forward_pre_hook(lambda network, inputs: seen.append(len(inputs[0])))
    for numbers, pieces in ((250, [2, 2, 2, 1]), (1, [1] * 7)):
        seen.clear()
        monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", numbers)
        torch.testing.assert_close(compute_logits(network, images, SPEC.input), expected)
        assert seen == pieces
