"""Every network of the zoo, through the registry: a new one is tested by existing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.networks import contract
from striate.networks.build import build_on_meta
from striate.networks.zoo import ZOO

ALL = ZOO.names()


def make_spec(shape: tuple[int, int, int], classes: int) -> st.Spec:
    channels, height, width = shape
    pictures = st.InputSpec(
        channels=channels, height=height, width=width, mean=(0.5,) * channels, std=(0.25,) * channels
    )
    return st.Spec(input=pictures, task=st.TaskSpec(class_names=tuple(map(str, range(classes)))))


def build(name: str, **changes: int) -> tuple[nn.Module, st.Spec]:
    entry = ZOO.get(name)
    channels, height, width = entry.shape
    shape = (changes.get("channels", channels), height, width)
    spec = make_spec(shape, changes.get("classes", entry.classes))
    return st.build(name, spec, seed=changes.get("seed", 0)), spec


@pytest.mark.parametrize("name", ALL)
def test_keeps_the_contract_for_any_channels_and_classes(name: str) -> None:
    contract.check(*build(name))
    contract.check(*build(name, channels=4, classes=3))


@pytest.mark.parametrize("name", ALL)
def test_every_learning_parameter_gets_a_gradient(name: str) -> None:
    network, spec = build(name)
    prepare = getattr(network, "prepare", None)
    images = torch.randn(8, *spec.input.shape)
    if prepare is not None:
        prepare(torch.randn(512, *spec.input.shape))
    nn.functional.cross_entropy(network(images), torch.arange(8) % spec.task.classes).backward()
    for parameter_name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", ALL)
def test_the_seed_is_the_only_source_of_chance(name: str) -> None:
    torch.manual_seed(1)
    first, _ = build(name)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    second, _ = build(name)
    other, _ = build(name, seed=1)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    differs = zip(first.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in differs)


@pytest.mark.parametrize("name", ALL)
def test_the_stages_are_modules_of_the_network(name: str) -> None:
    network, _ = build(name)
    stages = contract.stages_of(network)
    assert stages
    assert all(network.get_submodule(stage) is module for stage, module in stages.items())


@pytest.mark.parametrize("name", ALL)
def test_can_be_laid_out_without_memory(name: str) -> None:
    entry = ZOO.get(name)
    laid_out = build_on_meta(name, make_spec(entry.shape, entry.classes))
    assert {parameter.device.type for parameter in laid_out.parameters()} == {"meta"}
    built, _ = build(name)
    assert [p.shape for p in laid_out.parameters()] == [p.shape for p in built.parameters()]
