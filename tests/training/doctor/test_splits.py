from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st_
from torch import Tensor, nn

import striate as st
from striate.training.doctor import splits
from striate.training.doctor.evidence import Evidence
from tests.conftest import make_image_set
from tests.training.doctor.conftest import epochs, found, make_evidence, make_look, make_run


def ended(
    train: st.Split, val: st.Split, accuracy: float, val_accuracy: float, network: nn.Module | None = None
) -> Evidence:
    images = st.ImageSet(train, val, val, name="x")
    run = epochs(make_run(network, images), (1.0, 0.5), accuracy, val_accuracy)
    run.val = val
    return make_evidence(run, make_look(), ended=True)


def with_pictures(split: st.Split, images: Tensor) -> st.Split:
    return st.Split(images, split.labels, split.spec, split.origins)


def with_labels(split: st.Split, labels: Tensor) -> st.Split:
    return st.Split(split.images, labels, split.spec, split.origins)


def test_a_healthy_run_has_nothing(healthy: Evidence) -> None:
    healthy.run.val = make_image_set().val
    assert found(splits.val_unlike_train, healthy) == []
    assert found(splits.noisy_labels, healthy) == []


def test_val_of_other_pictures_or_of_other_labels_is_told_from_what_was_learned_by_heart() -> None:
    images = make_image_set(pictures=1000)
    train, val = images.train, images.val
    assert len(val) >= splits.FEWEST
    inverted = with_pictures(val, 255 - val.images)
    grouped = st.Split(inverted.images, val.labels, val.spec, val.origins, torch.arange(len(val)) // 5)
    assert found(splits.val_unlike_train, ended(train, grouped, 0.95, 0.4)) == []  # they are meant to be others
    assert found(splits.val_unlike_train, ended(train, inverted, 0.95, 0.4)) == [("val-unlike-train", "warning")]
    renumbered = with_labels(val, (val.labels + 1) % 3)
    assert found(splits.val_unlike_train, ended(train, renumbered, 0.95, 0.1)) == [("val-labels-differ", "warning")]
    assert found(splits.val_unlike_train, ended(train, val, 0.95, 0.5)) == []  # by heart
    assert found(splits.val_unlike_train, ended(train, inverted, 0.95, 0.94)) == []  # it does no harm
    little, none = 0.45, 0.34  # of three classes
    assert found(splits.val_unlike_train, ended(train, inverted, little, none)) == [("val-unlike-train", "warning")]
    assert found(splits.val_unlike_train, ended(train, inverted, little, 0.42)) == []
    assert found(splits.val_unlike_train, ended(train, inverted, 0.37, none)) == []  # there was little to lose
    assert found(splits.val_unlike_train, ended(train, inverted, 0.37, 0.1)) == [("val-unlike-train", "warning")]
    assert found(splits.val_unlike_train, ended(train, val, little, none)) == []


@pytest.mark.parametrize(
    ("size", "known", "is_found"), [(6, False, True), (6, True, False), (None, False, False), (8, False, False)]
)
def test_a_last_phase_of_another_size_than_val(
    size: int | None, known: bool, is_found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make_image_set(pictures=240)
    phases = ({"epochs": 5, "resolution": 6}, {"epochs": 5, "resolution": size})
    run = epochs(make_run(images=images, phases=phases), (1.0, 0.5), 0.95, 0.4)
    run.val = images.val
    right = torch.full((100,), known)  # of train, at the size of val
    monkeypatch.setattr(splits, "_answers", lambda evidence, split: (right, right))
    words = " ".join(one.message for one in splits.val_unlike_train(make_evidence(run, make_look(), ended=True)))
    assert ("last phase learns from pictures of 6×6" in words) == is_found


@given(st_.integers(3, 8), st_.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_neighbours_by_hand(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    both = torch.randint(0, 256, (2 * count, 1, 3, 3), generator=generator, dtype=torch.uint8)
    own = []
    for i, picture in enumerate(both.double()):
        apart = [
            math.inf if j == i else float((picture - other).square().sum()) for j, other in enumerate(both.double())
        ]
        if apart.count(min(apart)) > 1 or min(apart) == 0:
            return  # which of two as near is taken does not matter
        own.append((apart.index(min(apart)) < count) == (i < count))
    parts = (sum(own[:count]) / count, sum(own[count:]) / count)
    assert splits.same_split(both[:count], both[count:]) == pytest.approx(max(parts))


@given(st_.lists(st_.tuples(st_.booleans(), st_.integers(0, 5)), min_size=1, max_size=20))
def test_area_is_how_often_a_right_answer_is_surer(pairs: list[tuple[bool, int]]) -> None:
    right = [sure for good, sure in pairs if good]
    wrong = [sure for good, sure in pairs if not good]
    points = [1.0 if a > b else 0.5 if a == b else 0.0 for a in right for b in wrong]
    area = splits.area(torch.tensor([good for good, _ in pairs]), torch.tensor([float(sure) for _, sure in pairs]))
    assert area == pytest.approx(sum(points) / len(points)) if points else math.isnan(area)


class Knows(nn.Module):
    """Answers by the true label, which the first pixel holds; surer the brighter the second one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))

    def forward(self, pictures: Tensor) -> Tensor:
        label = (pictures[:, 0, 0, 0] * 255).round().long()
        return nn.functional.one_hot(label, 3) * (1 + pictures[:, 0, 0, 1:2])


def marked(count: int) -> st.ImageSet:
    images = make_image_set(pictures=count)
    spec = images.spec.model_copy(
        update={"input": images.spec.input.model_copy(update={"mean": (0.0,), "std": (1.0,)})}
    )

    def mark(split: st.Split) -> st.Split:
        pictures = split.images.clone()
        pictures[:, 0, 0, 0] = split.labels.to(torch.uint8)
        return st.Split(pictures, split.labels, spec, split.origins)

    return st.ImageSet(mark(images.train), mark(images.val), mark(images.test), name="marked")


def test_labels_that_were_changed_by_chance_are_told_from_hard_pictures() -> None:
    images = marked(6000)
    generator = torch.Generator().manual_seed(0)

    def spoiled(split: st.Split, where: Tensor) -> st.Split:
        return with_labels(split, torch.where(where, (split.labels + 1) % 3, split.labels))

    noise = spoiled(images.train, torch.rand(len(images.train), generator=generator) < 0.4)
    evidence = ended(noise, images.val, 0.6, 1.0, Knows())
    assert found(splits.noisy_labels, evidence) == [("labels-noisy", "warning")]
    evidence = ended(images.train, images.val, 0.6, 1.0, Knows())  # it was augmented: now its pictures are right
    assert found(splits.noisy_labels, evidence) == []
    wrong = torch.rand(len(images.val), generator=generator) < 0.4
    evidence = ended(noise, spoiled(images.val, wrong), 0.6, 0.6, Knows())
    assert found(splits.noisy_labels, evidence) == [("labels-noisy", "warning")]
    dark = images.val.images[:, 0, 0, 1].float()
    hard = dark < dark.quantile(0.4)  # there it is not sure
    evidence = ended(noise, spoiled(images.val, hard), 0.6, 0.6, Knows())
    assert found(splits.noisy_labels, evidence) == []


def test_classes_that_are_rarer_in_train_are_no_noise() -> None:
    right = torch.tensor([True] * 95 + [False] * 2 + [True] * 3)
    labels = torch.tensor([0] * 95 + [1] * 5)
    assert splits.recall_by(right, labels, torch.tensor([0.5, 0.5])) == pytest.approx(0.5 * 1 + 0.5 * 0.6)
    assert splits.recall_by(right, labels, torch.tensor([0.9, 0.0, 0.1])) == pytest.approx(1.0)
