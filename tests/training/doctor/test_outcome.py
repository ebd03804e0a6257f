from __future__ import annotations

import pytest
import torch

import striate as st
from striate.training.doctor import outcome
from striate.training.doctor.evidence import Evidence
from tests.conftest import make_image_set
from tests.training.doctor.conftest import epochs, found, make_evidence, make_look, make_run

RULES = (
    outcome.one_class_said,
    outcome.rare_ignored,
    outcome.shuffled,
    outcome.overfitting,
    outcome.underfitting,
    outcome.norm_gap,
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


@pytest.mark.parametrize(("train", "val_losses", "severity"), [
    (0.99, (0.8, 0.7, 1.5), "warning"), (0.99, (0.8, 0.7, 0.8), "note"), (0.8, (0.8, 0.7, 1.5), "note"),
    (0.8, (0.8, 0.7, 0.8), None),
])  # fmt: skip
def test_overfitting(train: float, val_losses: tuple[float, ...], severity: str | None) -> None:
    run = epochs(make_run(), (0.5, 0.2, 0.05), train, 0.6, val_losses)
    evidence = make_evidence(run, make_look(), ended=True)
    assert found(outcome.overfitting, evidence) == ([("overfitting", severity)] if severity else [])


def test_underfitting() -> None:
    evidence = make_evidence(epochs(make_run(), (1.0, 0.8, 0.795, 0.79, 0.79), 0.6, 0.6), make_look(), ended=True)
    assert found(outcome.underfitting, evidence) == [("underfitting", "warning")]
    evidence = make_evidence(epochs(make_run(), (1.0, 0.9, 0.8, 0.7, 0.6), 0.6, 0.6), make_look(), ended=True)
    assert found(outcome.underfitting, evidence) == []  # it still gains


def test_evaluation_differs(healthy: Evidence) -> None:
    healthy.looks[-1] = make_look(99, loss=0.1, gap=2.0)
    assert found(outcome.norm_gap, healthy) == [("evaluation-differs", "warning")]


@pytest.mark.parametrize(("accuracy", "severity"), [(0.4, "warning"), (0.95, "note")])
def test_frozen_weights_matter_where_little_is_learned(accuracy: float, severity: str) -> None:
    run = epochs(make_run(), (0.5,), accuracy, accuracy)
    run.network[1].weight.requires_grad_(False)  # type: ignore[index]
    assert found(outcome.frozen, make_evidence(run, ended=True)) == [("frozen-weights", severity)]


def test_before_the_end_nothing_is_concluded(healthy: Evidence) -> None:
    evidence = make_evidence(epochs(make_run(), (1.1,), 0.33, 0.33), make_look())
    for rule in RULES:
        assert found(rule, evidence) == []
