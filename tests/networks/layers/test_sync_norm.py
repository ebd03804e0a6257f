from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from striate.core import processes
from striate.networks.layers import sync_norm
from striate.networks.layers.sync_norm import batch_norm, synchronised

# What several processes exchange is tested for real in tests/core/test_processes.py.


@pytest.fixture
def images() -> Tensor:
    return 3 * torch.randn(7, 4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 100


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, 0.3, 1.0])
def test_is_batch_norm(images: Tensor, affine: bool, momentum: float) -> None:
    weight = torch.linspace(-1, 2, 4, dtype=torch.float64) if affine else None
    bias = torch.linspace(3, -1, 4, dtype=torch.float64) if affine else None
    found = []
    for function in (F.batch_norm, batch_norm):
        leaves = [images.clone().requires_grad_()]
        leaves += [one.clone().requires_grad_() for one in (weight, bias) if one is not None]
        statistics = [torch.full((4,), 0.5, dtype=torch.float64), torch.full((4,), 2.0, dtype=torch.float64)]
        answers = function(leaves[0], *statistics, *(leaves[1:] or (None, None)), True, momentum, 1e-3)
        (answers**3).mean().backward()
        found.append([answers.detach(), *statistics, *(leaf.grad for leaf in leaves)])
    for ours, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


def test_its_gradient_is_the_slope(images: Tensor) -> None:
    def loss(pictures: Tensor) -> Tensor:
        return batch_norm(pictures, None, None, None, None, True)

    assert torch.autograd.gradcheck(loss, images.requires_grad_())


def test_evaluation_is_by_the_running_statistics(images: Tensor) -> None:
    mean, var = torch.rand(4, dtype=torch.float64), torch.rand(4, dtype=torch.float64)
    assert torch.equal(batch_norm(images, mean, var), F.batch_norm(images, mean, var))


def test_half_precision_is_summed_in_full(images: Tensor) -> None:
    half = images.bfloat16().requires_grad_()
    ours = batch_norm(half, None, None, training=True)
    ours.sum().backward()
    assert ours.dtype == half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(ours, F.batch_norm(half.double(), None, None, training=True).bfloat16())


def test_takes_the_place_of_the_norms_in_a_network(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def noted(*args: object, **options: object) -> Tensor:
        calls.append(args)
        return batch_norm(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sync_norm, "batch_norm", noted)
    network = nn.Sequential(nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(24, momentum=None)).double()
    with synchronised():
        network(images)
    assert not calls  # one process needs nothing else
    monkeypatch.setattr(processes, "world", lambda: 2)
    with synchronised(False):
        network(images)
    assert not calls
    monkeypatch.setattr(processes, "side_by_side", lambda tensor: tensor[None])
    with synchronised():
        network(images)
    assert len(calls) == 2
    assert network[0].num_batches_tracked == 3
