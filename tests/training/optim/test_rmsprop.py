from __future__ import annotations

import pytest
import torch

import striate as st
from tests.training.optim.steps import assert_same, updated, updated_by


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_equals_pytorchs_with_the_decay_apart(momentum: float, decay: float) -> None:
    ours = updated(st.Recipe(optimizer="rmsprop", momentum=momentum, alpha=0.9, weight_decay=decay))
    theirs = updated_by(lambda p: torch.optim.RMSprop(p, lr=1.0, momentum=momentum, alpha=0.9), decay)
    assert_same(ours, theirs)
