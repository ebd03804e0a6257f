from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from striate.training.doctor import signals
from striate.training.doctor.evidence import Evidence
from striate.training.doctor.look import Units
from tests.training.doctor.conftest import found, make_evidence, make_look, make_run

RULES = (
    signals.dead_units,
    signals.saturated_units,
    signals.fading_gradients,
    signals.no_gradient,
    signals.same_for_all,
)


def test_a_healthy_run_has_nothing(healthy: Evidence) -> None:
    for rule in RULES:
        assert found(rule, healthy) == []


def test_layers_are_compared_in_the_order_in_which_they_ran() -> None:
    turned = make_look(gradients=(1.0, 1e-2, 1e-4, 1e-6))
    turned.layers = tuple(replace(one, turn=3 - k) for k, one in enumerate(turned.layers))
    (finding,) = signals.fading_gradients(make_evidence(None, turned, turned))
    assert (finding.code, finding.where) == ("vanishing-gradients", "layer3")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda logits: logits, None),
        (lambda logits: logits.exp() / logits.exp().sum(1, keepdim=True), "softmax-before-loss"),
        (lambda logits: logits.softmax(1).bfloat16().float() + 1e-4, "softmax-before-loss"),
        (lambda logits: logits.abs(), None),
        (lambda logits: torch.full_like(logits, 1 / 3), None),  # all answers are alike, which is said by itself
        (lambda logits: logits / logits.norm(dim=1, keepdim=True), "activation-before-loss"),
        (lambda logits: 10 * logits / logits.norm(dim=1, keepdim=True), None),  # with a scale, as in face recognition
    ],
)
def test_what_comes_out_of_a_softmax_or_a_division_by_the_length(
    make: Callable[[torch.Tensor], torch.Tensor], code: str | None
) -> None:
    logits = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    findings = found(signals.activation_at_end, make_evidence(None, make_look(logits=make(logits))))
    assert findings == ([(code, "warning")] if code else [])
    for few in (1, 2):  # two lengths are easily alike
        assert found(signals.activation_at_end, make_evidence(None, make_look(logits=torch.ones(few, 3)))) == []


def relu_with(silent: list[int]) -> Units:
    """Return what is seen of a rectifier of 20 units, of which these are nowhere positive."""
    return Units("body.1", "relu", torch.isin(torch.arange(20), torch.tensor(silent)), 0.0)


@pytest.mark.parametrize(("dead", "severity"), [(20, "error"), (19, "warning"), (14, "note"), (6, None)])
def test_dead_units(dead: int, severity: str | None) -> None:
    look, later = (make_look(step, units=(relu_with([*range(dead)]),)) for step in (0, 10))
    assert found(signals.dead_units, make_evidence(None, look)) == []  # one look might be chance
    assert found(signals.dead_units, make_evidence(None, look, later)) == (
        [("dead-units", severity)] if severity else []
    )
    alive = make_look(20, units=(relu_with([]),))
    assert found(signals.dead_units, make_evidence(None, look, later, alive)) == []


def test_units_that_are_silent_by_turns_are_alive() -> None:
    looks = [make_look(step, units=(relu_with([*range(step, step + 14)]),)) for step in (0, 6)]
    assert found(signals.dead_units, make_evidence(None, *looks)) == []


def test_saturated_units() -> None:
    looks = [make_look(step, units=(Units("body.1", "tanh", torch.empty(0), 0.9),)) for step in (0, 10)]
    assert found(signals.saturated_units, make_evidence(None, *looks)) == [("saturated-units", "warning")]


@pytest.mark.parametrize(
    ("first", "code"), [(1e-5, "vanishing-gradients"), (0.1, None), (20.0, None), (1e5, "exploding-gradients")]
)
def test_gradients_on_the_way_back(first: float, code: str | None) -> None:
    looks = [make_look(step, gradients=(first, first, 0.5, 0.7, 1.0, 1.0)) for step in (0, 10)]
    assert found(signals.fading_gradients, make_evidence(None, *looks)) == ([(code, "warning")] if code else [])


def test_no_gradient_must_be_so_in_all_looks() -> None:
    first, later = make_look(gradients=(0.0, None, 1.0, 1.0)), make_look(10, gradients=(0.5, None, 1.0, 1.0))
    assert found(signals.no_gradient, make_evidence(None, first, later)) == []  # a layer may be left out by chance
    (finding,) = signals.no_gradient(make_evidence(None, first, later, ended=True))
    assert finding.where == "layer1"
    assert finding.numbers == {"layers": 1.0, "of": 4.0}
    many = [make_look(step, gradients=(0.0, 1.0, 1.0, 1.0)) for step in (0, 10, 40, 160)]
    assert found(signals.no_gradient, make_evidence(None, *many)) == [("no-gradient", "warning")]


def test_where_there_is_no_loss_there_is_no_gradient() -> None:
    looks = [make_look(step, gradients=(0.0, 0.0, 0.0, 0.0), loss=0.0) for step in (0, 10)]
    assert found(signals.no_gradient, make_evidence(None, *looks, ended=True)) == []


def test_few_units_may_all_be_silent() -> None:
    squeezed = Units("squeeze.1", "relu", torch.ones(4, dtype=torch.bool), 0.0)
    looks = [make_look(step, units=(squeezed,)) for step in (0, 10)]
    assert found(signals.dead_units, make_evidence(None, *looks)) == []


def test_answers_alike() -> None:
    same = torch.tensor([[1.0, 2.0, 3.0]]).expand(32, 3) + 1e-5 * torch.randn(32, 3)
    evidence = make_evidence(None, make_look(logits=same), make_look(10, logits=same))
    evidence.run.step = 11
    assert found(signals.same_for_all, evidence) == [("answers-alike", "warning")]


@pytest.mark.parametrize(("last", "codes"), [
    ("linear", []),
    ("adaptive_avg_pool2d", []),
    ("", []),
    ("sigmoid", [("activation-before-loss", "warning")]),
    ("relu", [("activation-before-loss", "warning")]),
    ("softmax", [("softmax-before-loss", "warning")]),
])  # fmt: skip
def test_logits_come_out_of_a_layer(last: str, codes: list[tuple[str, str]]) -> None:
    evidence = make_evidence(make_run(loss="cross_entropy"), make_look(last=last))
    assert found(signals.activation_at_end, evidence) == codes


def test_a_batch_of_one_has_no_deviation() -> None:
    run = make_run()
    run.step = 5
    one = torch.zeros(1, 3)
    assert found(signals.same_for_all, make_evidence(run, make_look(logits=one), make_look(4, logits=one))) == []
