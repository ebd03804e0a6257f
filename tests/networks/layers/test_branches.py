from __future__ import annotations

import torch
from torch import nn

from striate.networks.layers import Concat, Residual


def test_residual_adds_its_input_or_its_shortcut() -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(Residual(nn.Tanh())(x), torch.tanh(x) + x)
    assert torch.equal(Residual(nn.Tanh(), nn.Sigmoid())(x), torch.tanh(x) + torch.sigmoid(x))

    Residual(nn.Tanh())(x).sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 - torch.tanh(x) ** 2)


def test_concat_puts_branches_side_by_side() -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    joined = Concat([nn.Identity(), nn.Tanh()])(x)
    assert joined.shape == (2, 6, 4, 4)
    assert torch.equal(joined[:, :3], x)
    assert torch.equal(joined[:, 3:], torch.tanh(x))


def test_the_branches_of_concat_have_names() -> None:
    names = list(Concat([nn.Linear(1, 1), nn.Linear(1, 1)]).state_dict())
    assert names == ["branch1.weight", "branch1.bias", "branch2.weight", "branch2.bias"]
