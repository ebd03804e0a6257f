"""Evidence made by hand, for rules to be asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import striate as st
from striate.core.finding import Finding
from striate.training.doctor.evidence import Evidence
from striate.training.doctor.look import Layer, Look, Units
from striate.training.run import Run
from tests.conftest import make_image_set


def make_run(network: nn.Module | None = None, images: st.ImageSet | None = None, **changes: Any) -> Run:
    """Return a run before its first step: 10 steps an epoch."""
    images = images or make_image_set(pictures=240)
    network = network or nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    recipe = st.Recipe(**{"epochs": 10, "precision": "fp32", "memory_format": "contiguous"} | changes)
    return Run(network, images.spec, recipe, {"name": "x"}, 10, images.train, folder=Path())


def make_look(
    step: int = 0,
    *,
    update: float = 1e-3,
    gradients: Iterable[float | None] = (1.0, 1.0, 1.0, 1.0),
    weight: float = 1.0,
    units: tuple[Units, ...] = (),
    logits: torch.Tensor | None = None,
    **fields: Any,
) -> Look:
    """Return a look at a step in which all is well, but for what is given."""
    layers = tuple(Layer(f"layer{k}", weight, one, 100, 10) for k, one in enumerate(gradients))
    logits = torch.randn(32, 3, generator=torch.Generator().manual_seed(0)) if logits is None else logits
    fields = {"learning_rate": 1e-3, "first_inputs": ((0.0, 1.0),)} | fields
    return Look(step, fields.pop("loss", 1.1), layers, logits, units, update=update, **fields)


def make_evidence(run: Run | None = None, *looks: Look, **fields: Any) -> Evidence:
    """Return evidence of a run: chance is ln 3."""
    run = run or make_run()
    return Evidence(run, run.class_shares, **{"chance": 1.0986, "first": 1.1, "looks": list(looks)} | fields)


def epochs(
    run: Run,
    losses: Iterable[float],
    accuracy: float,
    val_accuracy: float | None = None,
    val_loss: Iterable[float] = (),
) -> Run:
    """Give a run a history, and let it be over."""
    rest = iter(val_loss)
    for loss in losses:
        entry = {"epoch": len(run.history) + 1.0, "loss": loss, "accuracy": accuracy}
        if val_accuracy is not None:
            entry |= {"val_accuracy": val_accuracy, "val_loss": next(rest, loss)}
        run.history.append(entry)
    run.step = run.total_steps
    return run


class Draws(nn.Module):
    """Has dropout that evaluation does not switch off."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(64, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.body(nn.functional.dropout(pictures.flatten(1)))  # type: ignore[no-any-return]


Rule = Callable[[Evidence], Iterator[Finding]]


def found(rule: Rule, evidence: Evidence) -> list[tuple[str, str]]:
    """Return code and severity of what a rule finds; every finding has words, evidence and a fix."""
    findings = list(rule(evidence))
    for one in findings:
        assert one.where
        assert one.message.endswith(".")
        assert one.fix.endswith(".")
        assert "nan" not in one.message
    return [(one.code, one.severity) for one in findings]


@pytest.fixture
def healthy() -> Evidence:
    """Evidence of a run that went well."""
    run = epochs(make_run(), (1.0, 0.6, 0.3, 0.1), 0.97, 0.95, (1.0, 0.6, 0.35, 0.2))
    said = torch.tensor([72.0, 70.0, 74.0])
    evidence = make_evidence(run, *(make_look(step) for step in (0, 10, 30, 99)), said=said, asked=said, ended=True)
    evidence.highest = 1.2
    return evidence
