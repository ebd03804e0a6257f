"""Every look, at every network of the zoo and at other people's modules, with no argument but the picture.

What costs many passes is asked for less of: checks of maps, steps of ascent, changed pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.inspection.arithmetic import explainable_layers
from striate.inspection.saliency.registry import METHODS
from striate.inspection.subject import subject_of
from striate.inspection.units.site import sites_of
from striate.networks.zoo import ZOO
from tests.inspection import subjects
from tests.networks.zoo.test_zoo import smallest_spec

Look = Callable[[nn.Module, Tensor], Any]


def first_layer(network: nn.Module, picture: Tensor) -> str:
    return next(iter(explainable_layers(network)))


def last_unit(network: nn.Module, picture: Tensor) -> str:
    name, site = list(sites_of(subject_of(network, picture)).items())[-1]
    return f"{name}:{site.units - 1}"


LOOKS: Mapping[str, Look] = {
    "filters": lambda network, picture: st.filters(network, pictures=picture),
    "feature maps": lambda network, picture: st.feature_maps(network, picture, gradients=True),
    "arithmetic": lambda network, picture: st.explain_unit(network, picture, first_layer(network, picture), 0),
    "receptive fields": st.receptive_fields,
    **{
        method: lambda network, picture, method=method: st.saliency(network, picture, method, check=False)
        for method in METHODS.names()
    },
    "top pictures": st.top_pictures,
    "a unit": lambda network, picture: st.view_unit(network, picture, last_unit(network, picture), steps=2),
    "orientation tuning": st.orientation_tuning,
    "invariance": lambda network, picture: st.invariance(network, picture, count=1),
    "equivariance": st.equivariance,
}
# What a network without maps, or one that cannot be traced, is told instead.
REFUSED = {
    "grad_cam": "maps",
    "receptive fields": "maps",
    "equivariance": "maps|traced",
}


def refusal(look: str, network: nn.Module, picture: Tensor) -> str:
    """Look and draw; return why it was refused, or nothing."""
    try:
        LOOKS[look](network, picture).draw()
    except st.StriateError as error:
        return str(error)
    return ""


def look_at(name: str, network: nn.Module, picture: Tensor, *, refusing: bool) -> None:
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    refused = {look: sentence for look in LOOKS if (sentence := refusal(look, network, picture))}
    assert not refused or refusing, refused
    for look, sentence in refused.items():
        assert re.search(REFUSED.get(look, "^$"), sentence), (look, sentence)
        assert "\n" not in sentence
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO.names())
def test_every_network_of_the_zoo(name: str) -> None:
    spec = smallest_spec(name)
    picture = torch.randint(0, 256, (1, *spec.input.shape), generator=torch.Generator().manual_seed(0))
    network = subjects.settle(st.build(name, spec), spec.input.shape)
    look_at(name, network, picture.to(torch.uint8), refusing=name.startswith("feedforward"))


@pytest.mark.parametrize("name", subjects.FOREIGN)
def test_other_peoples_modules(name: str) -> None:
    look_at(name, subjects.build(name), subjects.pictures(name, 1), refusing=name == "untraceable")
