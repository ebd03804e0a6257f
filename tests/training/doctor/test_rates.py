from __future__ import annotations

import math

import pytest
import torch

from striate.training.doctor import rates
from striate.training.doctor.evidence import Evidence
from striate.training.doctor.look import Units
from tests.training.doctor.conftest import epochs, found, make_evidence, make_look, make_run


def test_a_healthy_run_has_nothing(healthy: Evidence) -> None:
    for rule in (rates.rate_too_high, rates.rate_too_low, rates.nothing_moves, rates.penalty, rates.few_steps):
        assert found(rule, healthy) == []


@pytest.mark.parametrize(
    ("update", "rate", "highest", "is_found"),
    [
        (0.6, 1e-3, 1.1, True),  # a step of 60 %
        (0.4, 1e-3, 1.1, False),
        (0.1, 5e-5, 1.1, True),  # in the warm-up: at the top it would be twice the weights
        (0.1, 1e-3, 1.5, True),  # the loss rose to 1.5; no answer costs 1.1
        (0.1, 1e-3, 1.3, False),
    ],
)
def test_rate_too_high(update: float, rate: float, highest: float, is_found: bool) -> None:
    run = make_run(learning_rate=1e-3)
    evidence = make_evidence(run, make_look(update=update, learning_rate=rate), highest=highest)
    assert bool(found(rates.rate_too_high, evidence)) == is_found


def test_the_fix_of_a_rate_is_a_flag_with_a_value() -> None:
    (finding,) = rates.rate_too_high(make_evidence(make_run(learning_rate=0.3), make_look(update=5.0)))
    assert finding.fix == "Take --lr 0.003."
    run = epochs(make_run(learning_rate=3e-6), (1.1, 1.09), 0.34)
    (finding,) = rates.rate_too_low(make_evidence(run, make_look(update=3e-6), make_look(9, update=3e-6), ended=True))
    assert finding.fix == "Take --lr 0.003."
    assert finding.message.endswith("and the loss is still 1.09 (no answer: 1.1).")


def test_a_low_rate_is_none_where_it_learned_or_nothing_can_get_through() -> None:
    looks = (make_look(update=1e-5, learning_rate=1.0), make_look(9, update=1e-5))
    assert found(rates.rate_too_low, make_evidence(epochs(make_run(), (0.4,), 0.9), *looks, ended=True)) == []
    evidence = make_evidence(epochs(make_run(), (1.1,), 0.3), *looks, ended=True)
    assert found(rates.rate_too_low, evidence) == [("learning-rate-too-low", "warning")]
    evidence.ended = False
    assert found(rates.rate_too_low, evidence) == []
    few_pictures_a_step = make_evidence(epochs(make_run(), (0.8,), 0.75, 0.7), *looks, ended=True)
    assert found(rates.rate_too_low, few_pictures_a_step) == []


def test_a_run_that_was_stopped_in_its_warm_up_says_nothing_about_its_rate() -> None:
    looks = [make_look(step, update=1e-5, learning_rate=1e-4) for step in (0, 9)]
    evidence = make_evidence(epochs(make_run(learning_rate=0.1), (1.1,), 0.3), *looks, ended=True)
    assert found(rates.rate_too_low, evidence) == []


def test_nothing_moves() -> None:
    evidence = make_evidence(make_run(learning_rate=0.0), make_look(update=0.0), make_look(10, update=0.0))
    assert found(rates.nothing_moves, evidence) == [("nothing-moves", "error")]


def test_penalty_is_one_filter_s_share_of_the_loss() -> None:
    # 4 layers of norm 4 with 10 filters each: ½ · λ · 64 / 40 = 0.8 λ for a filter; 5 % of ln 10 is 0.115.
    look = make_look(weight=4.0, gradients=(9.0,) * 4)
    for decay, rate, is_found in ((0.13, 0.01, False), (0.16, 0.01, True), (0.16, 0.004, False)):
        # Of 100 steps at half of the top, the last takes 3 % of the weights away.
        evidence = make_evidence(make_run(weight_decay=decay, learning_rate=rate), look)
        assert bool(found(rates.penalty, evidence)) == is_found
    later = make_look(50, weight=4.0, gradients=(0.01,) * 4)  # of a resumed run
    assert found(rates.penalty, make_evidence(make_run(weight_decay=0.16, l2=0.1), later)) == []
    # Σ|w| = 4 · 4 · √(100 · 2 / π) = 127.7 of Gaussian weights, 3.19 for a filter; the pull of λ is λ · √400.
    for l1, is_found in ((0.03, False), (0.04, True)):
        assert bool(found(rates.penalty, make_evidence(make_run(l1=l1, weight_decay=0.0), look))) == is_found
    none = make_look(weight=4.0, gradients=(0.0,) * 4)  # which is said by itself
    assert found(rates.penalty, make_evidence(make_run(l1=0.01, weight_decay=0.0), none)) == []
    undefined = make_look(weight=4.0, gradients=(math.nan,) * 4)  # and so is this; no penalty is to blame
    assert found(rates.penalty, make_evidence(make_run(weight_decay=0.0), undefined)) == []
    weak = make_look(weight=4.0, gradients=(0.01,) * 4)
    assert found(rates.penalty, make_evidence(make_run(l1=0.01, weight_decay=0.0), weak)) != []
    # The pull of l2 = 0.05 is 0.05 · 8 = 0.4, larger than a gradient of 0.2 in all, smaller than one of 2.
    for gradient, is_found in ((0.1, True), (1.0, False)):
        evidence = make_evidence(make_run(l2=0.05), make_look(weight=4.0, gradients=(gradient,) * 4))
        assert bool(found(rates.penalty, evidence)) == is_found


def test_few_steps() -> None:
    run = epochs(make_run(batch_size=64), (1.05,), 0.35)
    run.steps_per_epoch, run.step = 2, 20
    evidence = make_evidence(run, make_look(), ended=True)
    assert found(rates.few_steps, evidence) == [("batch-too-large", "warning")]
    run.history[-1]["accuracy"] = 0.95  # smoothed targets: the loss is high, the answers are right
    assert found(rates.few_steps, evidence) == []
    run.history[-1] |= {"accuracy": 0.35, "loss": 0.3}
    assert found(rates.few_steps, evidence) == []
    run.history[-1]["loss"] = 1.05
    assert found(rates.few_steps, evidence) != []
    run.step = 50  # which is enough to learn something
    assert found(rates.few_steps, evidence) == []


def relu(*silent: bool) -> Units:
    """Return what is seen of a rectifier of eight units, of which these are silent, or all alike."""
    return Units("body.1", "relu", torch.tensor(silent if len(silent) > 1 else silent * 8), 0.0)


def test_a_rate_that_kills_a_rectifier() -> None:
    alive, dead = relu(False), relu(True)
    for seen, is_found in (
        ((alive, dead, dead), True),
        ((alive, alive, dead), False),  # one look might be chance
        ((dead, dead, dead), False),  # so it began
        ((relu(*[True] * 4, *[False] * 4), dead, dead), False),
        ((alive, relu(False, *[True] * 7), dead), False),
    ):
        looks = [make_look(10 * k, units=(one,)) for k, one in enumerate(seen)]
        assert bool(found(rates.rate_too_high, make_evidence(None, *looks))) == is_found
    resumed = [make_look(10 * k, units=(one,)) for k, one in enumerate((alive, dead, dead), start=1)]
    assert found(rates.rate_too_high, make_evidence(None, *resumed)) == []


@pytest.mark.parametrize(
    ("shares", "is_found"),
    [
        ((1.0, 0.5, 1e-4, 0.0), True),  # at steps 0, 10, 74 and 99 of 100
        ((1.0, 0.5, 5e-3, 0.0), False),  # exponential, as it is by itself
        ((1e-4, 1.0, 0.5, 0.0), False),  # a warm-up, and the end of any schedule
        ((1e-4, 5e-3, 1e-4, 0.0), False),  # stopped before the top
    ],
)
def test_a_schedule_that_leaves_nothing_of_the_rate(shares: tuple[float, ...], is_found: bool) -> None:
    steps = (0, 10, 74, 99)
    looks = [make_look(step, learning_rate=0.01 * share) for step, share in zip(steps, shares, strict=True)]
    run = epochs(make_run(learning_rate=0.01, schedule="step"), (1.1, 1.09), 0.4)
    findings = list(rates.rate_too_low(make_evidence(run, *looks, ended=True)))
    assert [one.code for one in findings] == ["learning-rate-too-low"] * is_found
    assert all("by step 74 of 100" in one.message and "schedule" in one.fix for one in findings)
    waited = epochs(make_run(learning_rate=0.01, schedule="plateau"), (1.1, 1.09), 0.4)
    assert list(rates.rate_too_low(make_evidence(waited, *looks, ended=True))) == []  # it fell because nothing came


def test_a_layer_stands_still() -> None:
    still, moving = make_look(still=("layer1",)), make_look(10)
    assert found(rates.layer_stands_still, make_evidence(None, still, moving)) == []
    two = make_evidence(None, still, make_look(10, still=("layer1", "layer2")))
    assert found(rates.layer_stands_still, two) == [("layer-stands-still", "warning")]
    tiny = make_evidence(None, still, make_look(10, still=("layer1",), update=1e-8))
    assert found(rates.layer_stands_still, tiny) == []  # all of them may be too small to count


@pytest.mark.parametrize(("optimizer", "clip", "codes"), [
    ("sgd", 1e-3, [("clipping-too-low", "warning")]),
    ("sgd", 1.0, []),
    ("sgd", None, []),
    ("adamw", 1e-3, []),
])  # fmt: skip
def test_clipping(optimizer: str, clip: float | None, codes: list[tuple[str, str]]) -> None:
    run = make_run(optimizer=optimizer, clip_gradient_norm=clip)
    assert found(rates.clipping, make_evidence(run, make_look(), make_look(10))) == codes
