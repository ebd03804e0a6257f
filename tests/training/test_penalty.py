from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.training.penalty import Penalty

RECIPES = [{"l2": 0.3}, {"l1": 0.2}, {"l2": 0.3, "l1": 0.2}, {}]


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2)).double()
    with torch.no_grad():
        layers[0].weight[0] = 0  # where |w| has a corner
    return layers


def loss(layers: nn.Module) -> Tensor:
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    result: Tensor = layers(images).square().mean()
    return result


def of_autograd(layers: nn.Sequential, l2: float, l1: float) -> Tensor:
    """Return the penalty, written down as in a text book."""
    weights = (layers[0].weight, layers[3].weight)
    return 0.5 * l2 * sum((w**2).sum() for w in weights) + l1 * sum(w.abs().sum() for w in weights)


@pytest.mark.parametrize("fields", RECIPES)
def test_the_gradient_is_that_of_the_loss_with_the_penalty_in_it(fields: dict[str, float]) -> None:
    ours, theirs = network(), network()
    loss(ours).backward()
    Penalty(ours, st.Recipe(**fields)).add_gradients()
    (loss(theirs) + of_autograd(theirs, fields.get("l2", 0), fields.get("l1", 0))).backward()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("fields", RECIPES)
def test_what_is_measured_is_the_penalty(fields: dict[str, float]) -> None:
    layers = network()
    measured = Penalty(layers, st.Recipe(**fields, weight_decay=0.05)).measured()
    assert measured["l2_penalty"] == pytest.approx(of_autograd(layers, fields.get("l2", 0.05), 0).item(), rel=1e-12)
    assert ("l1_penalty" in measured) == ("l1" in fields)
    if "l1" in fields:
        assert measured["l1_penalty"] == pytest.approx(of_autograd(layers, 0, fields["l1"]).item(), rel=1e-12)


def test_what_is_frozen_gets_no_gradient() -> None:
    layers = network()
    penalty = Penalty(layers, st.Recipe(l2=0.1, l1=0.1))
    layers[0].weight.requires_grad_(False)
    loss(layers).backward()
    penalty.add_gradients()
    assert layers[0].weight.grad is None
    penalty.measured()


def test_the_history_has_it_beside_the_loss(image_set: st.ImageSet) -> None:
    text = "conv 4@3x3 bn relu | gap | fc 3"
    run = st.fit(st.build(text, image_set.spec), image_set, epochs=2, l2=0.1, l1=0.01, progress=False)
    plain = st.fit(st.build(text, image_set.spec), image_set, epochs=2, weight_decay=0.02, progress=False)
    last = Penalty(run.network, run.recipe).measured()
    assert run.best is not None
    assert {name: run.history[run.best.epoch - 1][name] for name in last} == pytest.approx(last, rel=1e-5)
    assert run.history[0]["l2_penalty"] > run.history[1]["l2_penalty"]
    assert plain.history[1]["l2_penalty"] > 0
    assert "l1_penalty" not in plain.history[1]
    header = (run.folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header.index("l2_penalty") == header.index("accuracy") + 1
    total = sum(run.history[0][name] for name in ("l2_penalty", "l1_penalty"))
    assert f"penalty {total:.4f}" in (run.folder / "log.txt").read_text()
    assert "penalty" not in (plain.folder / "log.txt").read_text()  # the loss has no part of it


def test_a_strong_penalty_keeps_the_weights_small(image_set: st.ImageSet) -> None:
    def norm(**fields: float) -> float:
        run = st.fit(st.build("conv 4@3x3 relu | gap | fc 3", image_set.spec), image_set, epochs=3, optimizer="sgd",
                     learning_rate=0.05, weight_decay=0, batch_size=8, progress=False, **fields)  # fmt: skip
        return sum(p.square().sum().item() for p in run.network.parameters() if p.dim() > 1)

    plain = norm()
    assert norm(l2=0.5) < 0.7 * plain
    assert norm(l1=0.05) < 0.7 * plain
