from __future__ import annotations

import pytest
import torch

import striate as st
from tests.training.optim.steps import assert_same, updated, updated_by


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_equals_pytorchs_adam_with_the_decay_apart(decay: float) -> None:
    ours = updated(st.Recipe(optimizer="adamw", momentum=0.8, beta2=0.95, weight_decay=decay))
    theirs = updated_by(lambda p: torch.optim.Adam(p, lr=1.0, betas=(0.8, 0.95)), decay)
    assert_same(ours, theirs)
