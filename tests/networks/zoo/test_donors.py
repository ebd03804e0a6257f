"""Every network whose donor library is known has the donor's parameters, layout and, given equal weights, answers."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.zoo import ZOO
from tests.networks.zoo.donors import DONORS
from tests.networks.zoo.test_zoo import make_spec

SLOW = {"inception_v4", "vgg11_bn"}  # a forward pass in float64 takes many seconds


def donor_spec(name: str) -> st.Spec:
    side = DONORS[name].input
    return make_spec((3, side, side), ZOO.get(name).classes)


def state_digest(network: nn.Module, named: bool) -> str:
    state = network.state_dict()
    lines = [(f"{name} " if named else "") + "x".join(map(str, tensor.shape)) for name, tensor in state.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def donor_fill(network: nn.Module) -> None:
    """Fill entry i of the state dict with sines, scaled by what kind of entry it is."""
    filled = {}
    for number, (name, tensor) in enumerate(network.state_dict().items()):
        sines = torch.sin(0.7 * torch.arange(tensor.numel(), dtype=torch.float64) + number).view(tensor.shape)
        filled[name] = _scaled(name, sines).to(torch.float32)
    network.load_state_dict(filled)


def _scaled(name: str, sines: Tensor) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(sines)
    if name.endswith("running_var"):
        return 1 + 0.5 * sines.abs()
    if sines.ndim >= 2:
        return sines * (2 / sines[0].numel()) ** 0.5 * 2**0.5
    return 0.5 + 0.1 * sines if name.endswith("weight") else 0.1 * sines


def donor_images(channels: int, side: int) -> Tensor:
    return torch.sin(0.37 * torch.arange(2 * channels * side * side, dtype=torch.float64)).view(2, channels, side, side)


@pytest.mark.parametrize("name", DONORS)
def test_parameters_and_layout_are_the_donors(name: str) -> None:
    donor = DONORS[name]
    network = build_on_meta(name, donor_spec(name))
    assert sum(parameter.numel() for parameter in network.parameters()) == donor.parameters
    auxiliary = [network.get_submodule(head) for head in getattr(network, "auxiliary", {})]
    assert sum(p.numel() for head in auxiliary for p in head.parameters()) == donor.auxiliary_parameters
    assert state_digest(network, donor.donor != "pytorchcv") == donor.digest


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, donor in DONORS.items()
        if donor.logits
    ],
)
def test_answers_are_the_donors(name: str) -> None:
    donor = DONORS[name]
    assert donor.logits is not None
    network = st.build(name, donor_spec(name))
    donor_fill(network)
    with torch.no_grad():
        logits = network.double().eval()(donor_images(3, donor.input))  # (2, K)
    for ours, theirs in (
        (logits[:, :5], donor.logits.first5),
        (logits.mean(1), donor.logits.mean),
        (logits.std(1), donor.logits.std),
    ):
        torch.testing.assert_close(ours, torch.tensor(theirs, dtype=torch.float64), rtol=1e-6, atol=0)
    assert tuple(logits.argmax(1).tolist()) == donor.logits.argmax
