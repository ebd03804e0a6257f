from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import striate as st
from striate.core.finding import Finding
from striate.training.doctor import outcome
from striate.training.doctor.evidence import Evidence
from striate.training.doctor.look import Modes
from tests.conftest import make_image_set
from tests.training.doctor.conftest import epochs, found, make_evidence, make_look, make_run

RULES = (
    outcome.one_class_said,
    outcome.rare_ignored,
    outcome.shuffled,
    outcome.overfitting,
    outcome.underfitting,
    outcome.norm_gap,
    outcome.evaluation_by_chance,
    outcome.pictures_mixed,
    outcome.norms_evaluating,
    outcome.frozen,
    outcome.nothing_learned,
)


def test_a_healthy_run_has_nothing(healthy: Evidence) -> None:
    for rule in RULES:
        assert found(rule, healthy) == []


def test_one_class_only(healthy: Evidence) -> None:
    healthy.said = torch.tensor([216.0, 0.0, 0.0])
    (finding,) = outcome.one_class_said(healthy)
    assert (finding.code, finding.where) == ("one-class-only", f"class {healthy.run.spec.task.class_names[0]}")
    healthy.asked = torch.tensor([215.0, 1.0, 0.0])  # so it is right
    assert found(outcome.one_class_said, healthy) == []


def test_rare_classes() -> None:
    images = make_image_set(pictures=240)
    keep = (images.train.labels != 2) | (torch.arange(len(images.train)) % 20 < 3)
    few = st.ImageSet(images.train[keep], images.val, images.test, name="few")
    evidence = make_evidence(epochs(make_run(images=few), (0.2,), 0.9), make_look(), ended=True)
    evidence.asked = torch.tensor([58.0, 58.0, 9.0])
    evidence.said = torch.tensor([62.0, 62.0, 1.0])
    assert found(outcome.rare_ignored, evidence) == [("rare-classes-ignored", "warning")]
    evidence.said = torch.tensor([59.0, 59.0, 7.0])
    assert found(outcome.rare_ignored, evidence) == []


def test_shuffled_labels_are_told_from_a_network_that_fails() -> None:
    images = make_image_set(pictures=400)
    split = images.train
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    mixed = st.Split(split.images, split.labels[order], split.spec, split.origins)
    for train, codes in ((mixed, [("labels-shuffled", "warning")]), (split, [])):
        run = make_run(images=st.ImageSet(train, images.val, images.test, name="x"))
        evidence = make_evidence(epochs(run, (1.1,), 0.33, 0.33), make_look(), ended=True)
        assert found(outcome.shuffled, evidence) == codes
        assert found(outcome.nothing_learned, evidence) == [("nothing-learned", "warning")]


def test_of_few_pictures_it_is_not_said_that_labels_are_shuffled() -> None:
    images = make_image_set(pictures=80)  # 56 to learn from: neighbours may agree in half of cases by chance alone
    split = images.train
    mixed = st.Split(split.images, split.labels[torch.randperm(len(split))], split.spec, split.origins)
    run = make_run(images=st.ImageSet(mixed, images.val, images.test, name="x"))
    evidence = make_evidence(epochs(run, (1.1,), 0.33, 0.33), make_look(), ended=True)
    assert found(outcome.shuffled, evidence) == []


def test_a_run_that_stopped_early_has_learned_nothing_too() -> None:
    run = epochs(make_run(), (1.1, 1.1), 0.34, 0.34)
    run.step, run.stop_reason = 20, "val has not improved for 1 epochs"
    evidence = make_evidence(run, make_look(), ended=True)
    assert not run.finished
    assert found(outcome.nothing_learned, evidence) == [("nothing-learned", "warning")]


def test_skill_of_several_labels_is_over_the_most_frequent_ones() -> None:
    labels = np.zeros((200, 3), np.uint8)
    labels[::5] = [0, 1, 1]
    labels[1::5, 0] = labels[2::5, 0] = labels[3::5, 0] = labels[4::5, 0] = 1
    pictures = np.random.default_rng(0).integers(0, 255, (200, 8, 8), dtype=np.uint8)
    images = st.load_data(dict.fromkeys(("train", "val", "test"), (pictures, labels)))
    evidence = make_evidence(make_run(images=images))
    assert evidence.guessed == pytest.approx(0.8)
    assert evidence.skill(0.9) == pytest.approx(0.5)
    labels[:] = 1
    same = make_evidence(make_run(images=st.load_data(dict.fromkeys(("train", "val", "test"), (pictures, labels)))))
    assert same.skill(0.9) == 0.0


@pytest.mark.parametrize(("train", "val_losses", "severity"), [
    (0.99, (0.8, 0.7, 1.5), "warning"), (0.99, (0.8, 0.7, 0.8), "note"), (0.8, (0.8, 0.7, 1.5), "note"),
    (0.8, (0.8, 0.7, 0.8), "note"), (0.7, (0.8, 0.7, 0.8), None),
])  # fmt: skip
def test_overfitting(train: float, val_losses: tuple[float, ...], severity: str | None) -> None:
    run = epochs(make_run(), (0.5, 0.2, 0.05), train, 0.6, val_losses)
    evidence = make_evidence(run, make_look(), ended=True)
    assert found(outcome.overfitting, evidence) == ([("overfitting", severity)] if severity else [])


@pytest.mark.parametrize(
    ("mixed", "by_chance", "is_found"), [(1.0, 0.0, True), (0.6, 0.0, True), (0.2, 0.0, False), (1.0, 0.5, False)]
)
def test_pictures_of_a_batch_that_are_mixed(mixed: float, by_chance: float, is_found: bool) -> None:
    evidence = make_evidence(make_run(), make_look(compared=Modes(0.5, 0.0, 1.1, by_chance, mixed)), ended=True)
    assert bool(found(outcome.pictures_mixed, evidence)) == is_found


def test_a_norm_that_never_sees_a_batch() -> None:
    norm = nn.BatchNorm2d(1)
    run = make_run(nn.Sequential(norm, nn.Flatten(), nn.Linear(64, 3)))
    evidence = make_evidence(run, make_look(), make_look(10, evaluating=("0",)), ended=True)
    assert found(outcome.norms_evaluating, evidence) == [("batch-norm-evaluating", "warning")]
    norm.running_var.fill_(2.0)  # type: ignore[union-attr]  # it has statistics: it may be meant to keep them
    assert found(outcome.norms_evaluating, evidence) == []
    unused = make_evidence(make_run(nn.Sequential(nn.BatchNorm2d(1))), make_look(), make_look(10), ended=True)
    assert found(outcome.norms_evaluating, unused) == []


def test_underfitting() -> None:
    evidence = make_evidence(epochs(make_run(), (1.0, 0.8, 0.795, 0.79, 0.79), 0.6, 0.6), make_look(), ended=True)
    assert found(outcome.underfitting, evidence) == [("underfitting", "warning")]
    evidence.run.findings.append(Finding("labels-noisy", "warning", "labels", "Labels are wrong."))
    assert found(outcome.underfitting, evidence) == []  # a larger network would learn them by heart
    evidence = make_evidence(epochs(make_run(), (1.0, 0.9, 0.8, 0.7, 0.6), 0.6, 0.6), make_look(), ended=True)
    assert found(outcome.underfitting, evidence) == []  # it still gains
    evidence = make_evidence(epochs(make_run(), (0.8, 0.7, 0.7, 0.7), 0.95, 0.95), make_look(), ended=True)
    assert found(outcome.underfitting, evidence) == []  # smoothed targets: the loss is high, the answers are right
    evidence = make_evidence(epochs(make_run(), (1.0, 0.5, 0.0, 0.0), 0.5, 0.5), make_look(), ended=True)
    assert found(outcome.underfitting, evidence) == []  # a hinge that nothing touches any more
    evidence = make_evidence(epochs(make_run(), (1.0, 0.5, 0.0, 0.9), 0.6, 0.6), make_look(), ended=True)
    assert found(outcome.underfitting, evidence) == [("underfitting", "warning")]


def test_frozen_by_the_recipe_in_every_phase() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 3))
    body, both = st.Phase(epochs=5, frozen=("1",)), st.Phase(epochs=5)
    run = epochs(make_run(network, phases=(body, body)), (0.9,), 0.4, 0.4)
    assert found(outcome.frozen, make_evidence(run, ended=True)) == [("frozen-weights", "warning")]
    run = epochs(make_run(network, phases=(body, both)), (0.9,), 0.4, 0.4)
    assert found(outcome.frozen, make_evidence(run, ended=True)) == []


@pytest.mark.parametrize("by", ["class_weights", "sampling"])
def test_a_balanced_run_is_judged_by_the_mean_recall(by: str) -> None:
    images = make_image_set(pictures=400)
    rare = torch.arange(len(images.train)) % 20 == 0
    split = images.train
    train = st.Split(split.images, torch.where(rare, 1, 0), split.spec, split.origins)
    changes = {"class_weights" if by == "class_weights" else "sampling": "balanced"}
    run = make_run(images=st.ImageSet(train, images.val, images.test, name="x"), **changes)
    run = epochs(run, (0.3,), 0.92, 0.92)  # less than the 95 % of saying the frequent class always
    run.history[-1]["val_balanced_accuracy"] = 0.92
    asked = torch.tensor([190.0, 10.0, 0.0])
    evidence = make_evidence(run, make_look(), said=asked, asked=asked, met=0.92 * asked, ended=True)
    assert evidence.guessed == 0.5
    assert evidence.train_skill == pytest.approx(0.84)
    assert evidence.val_skill == pytest.approx(0.84)
    for rule in (outcome.nothing_learned, outcome.shuffled, outcome.underfitting):
        assert found(rule, evidence) == []
    run.history[-1] |= {"val_balanced_accuracy": 0.5, "accuracy": 0.5}
    evidence.met = torch.tensor([190.0, 0.0, 0.0])
    assert found(outcome.nothing_learned, evidence) == [("nothing-learned", "warning")]


@pytest.mark.parametrize(("precision", "codes"), [(0.35, [("nothing-learned", "warning")]), (0.6, [])])
def test_several_labels_of_which_nothing_is_learned(precision: float, codes: list[tuple[str, str]]) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 255, (60, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (60, 3), generator=generator).eq(0).long()
    run = epochs(make_run(images=st.load_data((pictures.numpy(), labels.numpy()))), (0.6,), 0.3, 0.3)
    run.history[-1]["val_mean_average_precision"] = precision
    assert found(outcome.nothing_learned, make_evidence(run, make_look(), ended=True)) == codes


def test_evaluation_differs(healthy: Evidence) -> None:
    healthy.looks[-1] = make_look(99, loss=0.1, compared=Modes(0.1, 2.0, 1.1, 0.0))
    assert found(outcome.norm_gap, healthy) == [("evaluation-differs", "warning")]
    assert found(outcome.evaluation_by_chance, healthy) == []
    healthy.looks[-1] = make_look(99, loss=0.1, compared=Modes(0.1, 0.0, 1.1, 0.5))
    assert found(outcome.norm_gap, healthy) == []
    assert found(outcome.evaluation_by_chance, healthy) == [("evaluation-by-chance", "warning")]


@pytest.mark.parametrize(("accuracy", "severity"), [(0.4, "warning"), (0.95, "note")])
def test_frozen_weights_matter_where_little_is_learned(accuracy: float, severity: str) -> None:
    run = epochs(make_run(), (0.5,), accuracy, accuracy)
    run.network[1].weight.requires_grad_(False)  # type: ignore[index]
    assert found(outcome.frozen, make_evidence(run, ended=True)) == [("frozen-weights", severity)]


def test_before_the_end_nothing_is_concluded(healthy: Evidence) -> None:
    evidence = make_evidence(epochs(make_run(), (1.1,), 0.33, 0.33), make_look())
    for rule in RULES:
        assert found(rule, evidence) == []
