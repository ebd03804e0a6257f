from __future__ import annotations

import pytest
import torch

import striate as st
from tests.training.optim.steps import assert_same, updated, updated_by


@pytest.mark.parametrize("momentum", [0.0, 0.85])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_equals_pytorchs_with_nesterov_and_the_decay_apart(momentum: float, decay: float) -> None:
    ours = updated(st.Recipe(optimizer="sgd", momentum=momentum, weight_decay=decay))
    theirs = updated_by(lambda p: torch.optim.SGD(p, lr=1.0, momentum=momentum, nesterov=momentum > 0), decay)
    assert_same(ours, theirs)
