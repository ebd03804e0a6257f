from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import striate as st
from striate.core.spec import TaskSpec
from striate.data.balance import class_shares
from striate.training.losses import class_weights, compute_loss, count_correct, resolve_loss

Array = NDArray[np.float64]
ONE = torch.tensor([0, 1, 2, 3, 3, 0])
SHARES = torch.tensor(
    [[0.3, 0.7, 0, 0], [0, 0.25, 0.75, 0], [1, 0, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4]]
)
SEVERAL = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]])
WEIGHTS = np.array([0.5, 2.0, 1.25, 3.0])


def of_pictures(logits: Array, shares: Array, smoothing: float, gamma: float, weights: Array) -> float:
    """The softmax losses, picture by picture and class by class; γ = 0 is the cross-entropy."""
    total = 0.0
    for row, share in zip(logits, shares, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        for k in range(len(row)):
            target = share[k] * (1 - smoothing) + smoothing / len(row)
            total -= (share * weights).sum() * target * (1 - p[k]) ** gamma * np.log(p[k])
    return total / len(logits)


def of_decisions(logits: Array, shares: Array, smoothing: float, gamma: float, weights: Array) -> float:
    """The sigmoid losses, likewise."""
    total = 0.0
    for row, share in zip(logits, shares, strict=True):
        for k in range(len(row)):
            p = 1 / (1 + np.exp(-row[k]))
            yes, no = (1 - p) ** gamma * np.log(p), p**gamma * np.log(1 - p)
            total -= weights[k] * share[k] * ((1 - smoothing / 2) * yes + smoothing / 2 * no)
            total -= (1 - share[k]) * (smoothing / 2 * yes + (1 - smoothing / 2) * no)
    return total / logits.size


def hinge(logits: Array, shares: Array, smoothing: float, gamma: float, weights: Array) -> float:
    total = 0.0
    for row, label in zip(logits, shares.argmax(1), strict=True):
        losses = [max(0.0, 1 - (row[label] - row[k])) for k in range(len(row)) if k != label]
        total += weights[label] * sum(losses) / len(row)
    return total / len(logits)


def slopes(function: Callable[[Array], float], at: Array, step: float = 1e-6) -> Array:
    """Central differences."""
    found = np.zeros_like(at)
    for place in np.ndindex(at.shape):
        moved = np.zeros_like(at)
        moved[place] = step
        found[place] = (function(at + moved) - function(at - moved)) / (2 * step)
    return found


def as_shares(targets: torch.Tensor) -> Array:
    return np.asarray(np.eye(4)[targets.numpy()] if targets.ndim == 1 else targets.numpy(), np.float64)


CASES = [
    ("cross_entropy", ONE, False, of_pictures, 0.0),
    ("cross_entropy", SHARES, False, of_pictures, 0.0),
    ("focal", ONE, False, of_pictures, 2.0),
    ("focal", SHARES, False, of_pictures, 0.5),
    ("hinge", ONE, False, hinge, 0.0),
    ("bce", ONE, False, of_decisions, 0.0),
    ("bce", SHARES, False, of_decisions, 0.0),
    ("bce", SEVERAL, True, of_decisions, 0.0),
    ("bce", SHARES, True, of_decisions, 0.0),
    ("focal", SEVERAL, True, of_decisions, 2.0),
    ("focal", SEVERAL, True, of_decisions, 0.5),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize(("loss", "targets", "several", "reference", "gamma"), CASES)
def test_each_loss_and_its_gradient_equal_the_formula(
    loss: str,
    targets: torch.Tensor,
    several: bool,
    reference: Callable[[Array, Array, float, float, Array], float],
    gamma: float,
    smoothing: float,
    weighted: bool,
) -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(3)) * 2
    logits.requires_grad_()
    weights = WEIGHTS if weighted else np.ones(4)
    value = compute_loss(
        logits,
        targets.byte() if targets is SEVERAL else targets,
        nn.Identity(),
        st.Recipe(loss=loss, focal_gamma=gamma, label_smoothing=smoothing),
        several=several,
        weights=torch.tensor(WEIGHTS, dtype=torch.float32) if weighted else None,
    )
    value.backward()  # type: ignore[no-untyped-call]

    def formula(at: Array) -> float:
        return reference(at, as_shares(targets), smoothing, gamma, weights)

    at = logits.detach().double().numpy()
    assert value.item() == pytest.approx(formula(at), rel=1e-5)
    assert logits.grad is not None
    assert logits.grad.numpy() == pytest.approx(slopes(formula, at), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "several"), [("focal", False), ("focal", True), ("bce", True), ("cross_entropy", False)]
)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certain_answers_have_a_finite_loss_and_gradient(loss: str, several: bool, gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0], [0.0, 0.0]], requires_grad=True)
    targets = torch.eye(2)[[0, 0, 1]] if several else torch.tensor([0, 0, 1])
    value = compute_loss(logits, targets, nn.Identity(), st.Recipe(loss=loss, focal_gamma=gamma), several=several)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0].abs().max() < 1e-6  # it is right already
    assert logits.grad[1].abs().max() > 0.1  # it is wrong


def test_the_focal_loss_without_gamma_is_the_loss_it_is_made_of() -> None:
    logits = torch.randn(6, 4)
    for targets, several, plain in ((ONE, False, "cross_entropy"), (SEVERAL, True, "bce")):
        one, other = (
            compute_loss(logits, targets, nn.Identity(), st.Recipe(loss=loss, focal_gamma=0), several=several).item()
            for loss in ("focal", plain)
        )
        assert one == pytest.approx(other, rel=1e-6)


def test_a_weight_of_a_class_is_worth_as_many_copies_of_its_pictures() -> None:
    logits, recipe = torch.randn(3, 2), st.Recipe(label_smoothing=0.1)
    weighted = compute_loss(
        logits, torch.tensor([0, 1, 1]), nn.Identity(), recipe, weights=torch.tensor([2.0, 1.0])
    ).item()
    copied = compute_loss(logits[[0, 0, 1, 2]], torch.tensor([0, 0, 1, 1]), nn.Identity(), recipe).item()
    assert weighted * 3 == pytest.approx(copied * 4, rel=1e-6)


@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_a_weight_of_a_label_says_nothing_of_pictures_that_lack_it(loss: str) -> None:
    logits = torch.randn(1, 2)
    recipe = st.Recipe(loss=loss, label_smoothing=0.1)  # type: ignore[arg-type]
    values = [
        compute_loss(logits, torch.zeros(1, 2), nn.Identity(), recipe, several=True, weights=weights).item()
        for weights in (None, torch.tensor([32.0, 1.0]))
    ]
    assert values[0] == values[1]


def test_auxiliary_heads_count_with_their_weight() -> None:
    network = nn.Identity()
    network.auxiliary = {"aux1": 0.3}  # type: ignore[assignment]
    main, aux, labels = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    loss = compute_loss(st.Outputs(main, {"aux1": aux}), labels, network, st.Recipe())
    one, other = (of_pictures(logits.double().numpy(), as_shares(labels), 0, 0, np.ones(4)) for logits in (main, aux))
    assert loss.item() == pytest.approx(one + 0.3 * other, rel=1e-5)


def test_a_head_without_a_weight_is_named() -> None:
    network = nn.Identity()
    network.auxiliary = {"aux1": 0.3}  # type: ignore[assignment]
    outputs = st.Outputs(torch.zeros(1, 2), {"aux2": torch.zeros(1, 2)})
    with pytest.raises(st.NetworkError, match="must name every auxiliary head of the network, got none named 'aux2'"):
        compute_loss(outputs, torch.tensor([0]), network, st.Recipe())


def test_outputs_without_weights_are_a_mistake_of_the_network() -> None:
    outputs = st.Outputs(torch.zeros(1, 2), {"aux1": torch.zeros(1, 2)})
    with pytest.raises(st.NetworkError, match="must have `auxiliary`"):
        compute_loss(outputs, torch.tensor([0]), nn.Identity(), st.Recipe())


def test_right_answers_are_counted_by_what_the_labels_are() -> None:
    logits = torch.tensor([[2.0, 1.0, -1.0], [-1.0, 3.0, 1.0]])
    assert count_correct(logits, torch.tensor([0, 2])) == 1
    assert count_correct(logits, torch.tensor([[0.75, 0.25, 0], [0.5, 0, 0.5]])) == 0.75
    labels = torch.tensor([[1, 0, 0], [0, 1, 1]])
    assert count_correct(logits, labels.byte(), several=True) == 1  # the first has one label too many
    assert count_correct(logits, torch.tensor([[0.7, 0.7, 0.3], [0.7, 0.3, 0.3]]), several=True) == 1
    assert count_correct(torch.zeros(1, 3), torch.full((1, 3), 0.5), several=True) == 1


def task(labels: str) -> TaskSpec:
    return TaskSpec.model_validate({"class_names": ("a", "b", "c"), "labels": labels})


def test_the_loss_that_is_left_open_is_that_of_the_labels() -> None:
    assert resolve_loss(st.Recipe(), task("single")) == "cross_entropy"
    assert resolve_loss(st.Recipe(), task("multi")) == "bce"
    assert resolve_loss(st.Recipe(loss="focal"), task("multi")) == "focal"
    assert resolve_loss(st.Recipe(loss="bce"), task("single")) == "bce"
    for loss in ("cross_entropy", "hinge"):
        with pytest.raises(st.RecipeError) as error:
            resolve_loss(st.Recipe(loss=loss), task("multi"))
        assert str(error.value) == (
            f"loss must be bce or focal where a picture may have several labels, got {loss}. "
            "Leave it out, and it is bce."
        )


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "hinge"])
def test_weights_of_pictures_even_the_classes_out_with_a_mean_of_one(loss: str) -> None:
    recipe = st.Recipe(loss=loss, class_weights="balanced")
    labels = torch.tensor([0] * 12 + [2] * 3)  # nothing of b
    weights = class_weights(recipe, task("single"), class_shares(labels, 3))
    assert weights is not None
    assert weights.tolist() == pytest.approx([15 / (2 * 12), 1, 15 / (2 * 3)])
    assert weights[labels].mean().item() == pytest.approx(1)


def test_weights_of_decisions_even_out_yes_and_no() -> None:
    labels = torch.zeros(600, 3, dtype=torch.uint8)
    labels[:400, 0], labels[:2, 1] = 1, 1  # c: none
    shares = class_shares(labels, 3)
    weights = class_weights(st.Recipe(class_weights="balanced"), task("multi"), shares)
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.5, 100, 1])  # b would be 299
    few = class_shares(torch.tensor([0, 0, 0, 1, 2]), 3)
    one = class_weights(st.Recipe(loss="bce", class_weights="balanced"), task("single"), few)
    assert one is not None
    assert one.tolist() == pytest.approx([2 / 3, 4, 4])
    assert class_weights(st.Recipe(), task("multi"), shares) is None
