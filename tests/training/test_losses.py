from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import striate as st
from striate.training.losses import compute_loss


def cross_entropy(logits: np.ndarray, labels: np.ndarray, smoothing: float) -> float:
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        log_probabilities = row - np.log(np.exp(row).sum())
        target = np.full(len(row), smoothing / len(row))
        target[label] += 1 - smoothing
        total -= (target * log_probabilities).sum()
    return total / len(labels)


def hinge(logits: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        total += sum(max(0.0, 1 - (row[label] - row[k])) for k in range(len(row)) if k != label) / len(row)
    return total / len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_equals_its_formula(smoothing: float) -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    loss = compute_loss(logits, labels, nn.Identity(), st.Recipe(label_smoothing=smoothing))
    assert loss.item() == pytest.approx(cross_entropy(logits.numpy(), labels.numpy(), smoothing), rel=1e-5)


def test_hinge_equals_its_formula() -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    loss = compute_loss(logits, labels, nn.Identity(), st.Recipe(loss="hinge"))
    assert loss.item() == pytest.approx(hinge(logits.numpy(), labels.numpy()), rel=1e-5)


def test_auxiliary_heads_count_with_their_weight() -> None:
    network = nn.Identity()
    network.auxiliary = {"aux1": 0.3}  # type: ignore[assignment]
    main, aux, labels = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    loss = compute_loss(st.Outputs(main, {"aux1": aux}), labels, network, st.Recipe())
    expected = cross_entropy(main.numpy(), labels.numpy(), 0) + 0.3 * cross_entropy(aux.numpy(), labels.numpy(), 0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


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
