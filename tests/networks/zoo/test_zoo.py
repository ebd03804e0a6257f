"""Every network of the zoo, through the registry: a new one is tested by existing."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from _pytest.mark import ParameterSet
from torch import Tensor, nn

import striate as st
from striate.networks import contract
from striate.networks.build import build_on_meta
from striate.networks.facts import read_facts
from striate.networks.zoo import ZOO
from striate.training.losses import compute_loss

ALL = ZOO.names()
SIDES = (29, 33, 65, 81)  # odd; the smallest that a network takes is the cheapest to learn at
LARGE = 100_000_000  # parameters: minutes, if all of them were trained
FAST_ALTHOUGH_DEEP = ("resnet101", "densenet121", "resnet110_cifar10")  # one of each kind


def make_spec(shape: tuple[int, int, int], classes: int) -> st.Spec:
    channels, height, width = shape
    pictures = st.InputSpec(
        channels=channels, height=height, width=width, mean=(0.5,) * channels, std=(0.25,) * channels
    )
    return st.Spec(input=pictures, task=st.TaskSpec(class_names=tuple(map(str, range(classes)))))


@dataclass(frozen=True)
class Made:
    """A network with two classes, for the smallest odd pictures that it takes."""

    name: str
    network: nn.Module
    spec: st.Spec

    @functools.cached_property
    def images(self) -> Tensor:
        images = torch.randn(4, *self.spec.input.shape, generator=torch.Generator().manual_seed(0))
        return images.to(next(self.network.parameters(), images).dtype)


def smallest_spec(name: str) -> st.Spec:
    channels = ZOO.get(name).shape[0]
    for side in SIDES:
        spec = make_spec((channels, side, side), 2)
        try:
            contract.check(build_on_meta(name, spec), spec)
        except st.NetworkError:
            continue
        return spec
    raise AssertionError(f"{name} takes none of {SIDES}")


def is_deep(name: str) -> bool:
    """Whether tracing takes long; of each kind of deep network, one is fast enough."""
    depths = [int(number) for number in re.findall(r"\d{3,}", name)]
    return name == "inception_resnet_v2" or (bool(depths) and name not in FAST_ALTHOUGH_DEEP)


def is_slow(name: str) -> bool:
    facts = read_facts().get(name)
    return is_deep(name) or (facts is not None and facts.parameters > LARGE and name != "vgg11_bn")


def marked(names: list[str], slow: Callable[[str], bool]) -> list[ParameterSet]:
    return [pytest.param(name, marks=[pytest.mark.slow] if slow(name) else []) for name in names]


@pytest.fixture(scope="module", params=marked(ALL, is_slow))
def made(request: pytest.FixtureRequest) -> Made:
    spec = smallest_spec(request.param)
    return Made(request.param, st.build(request.param, spec), spec)


def step_loss(made: Made) -> Tensor:
    """Return the loss of the fixed batch in training mode, with dropout as it was the last time."""
    labels = torch.arange(len(made.images)) % 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return compute_loss(made.network.train()(made.images), labels, made.network, st.Recipe())


def test_one_step_lowers_the_loss_and_every_weight_takes_part(made: Made) -> None:
    # In float64: norms over few values make gradients so steep that rounding would decide (Inception v4).
    made = Made(made.name, copy.deepcopy(made.network).double(), made.spec)
    if callable(prepare := getattr(made.network, "prepare", None)):
        prepare(torch.randn(512, *made.spec.input.shape, generator=torch.Generator().manual_seed(1)).double())
    before = step_loss(made)
    before.backward()
    learning = {name: p for name, p in made.network.named_parameters() if p.requires_grad}
    for name, parameter in learning.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    slope = sum(float(parameter.grad.square().sum()) for parameter in learning.values())
    with torch.no_grad():
        for parameter in learning.values():
            parameter -= 0.01 * float(before) / slope * parameter.grad  # by the tangent, one per cent of the loss
    assert step_loss(made) < before


def test_survives_its_file(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    st.save(path, made.network, made.spec)
    loaded = st.load(path)
    path.unlink()
    assert loaded.spec == made.spec
    with torch.no_grad():
        assert torch.equal(loaded.network(made.images), made.network.eval()(made.images))


def test_stages_and_head_are_modules_of_the_network(made: Made) -> None:
    stages = contract.stages_of(made.network)
    assert stages
    assert all(made.network.get_submodule(stage) is module for stage, module in stages.items())
    head = getattr(made.network, "head", None)
    if head is not None:
        assert head in set(made.network.modules())
        assert next(iter(head.parameters()), torch.empty(2)).shape[0] == 2


def test_the_seed_is_the_only_source_of_chance(made: Made) -> None:
    torch.manual_seed(1)
    first = st.build(made.name, made.spec)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    for seed, same in ((0, True), (1, False)):
        other = st.build(made.name, made.spec, seed=seed)
        pairs = zip(first.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) is same


def test_can_be_laid_out_without_memory(made: Made) -> None:
    laid_out = build_on_meta(made.name, made.spec)
    assert {parameter.device.type for parameter in laid_out.parameters()} == {"meta"}
    assert [p.shape for p in laid_out.parameters()] == [p.shape for p in made.network.parameters()]


@pytest.mark.parametrize("name", marked(ALL, is_deep))
@pytest.mark.parametrize(("channels", "classes"), [(1, 1000), (3, 2)])
def test_any_number_of_channels_and_classes(name: str, channels: int, classes: int) -> None:
    spec = make_spec((channels, *ZOO.get(name).shape[1:]), classes)
    network = build_on_meta(name, spec)
    contract.check(network, spec)


@pytest.mark.parametrize("name", marked(ALL, is_deep))
@pytest.mark.parametrize("side", [3, 101])
def test_an_odd_size_is_taken_or_refused_in_words(name: str, side: int) -> None:
    spec = make_spec((3, side, side + 2), 10)
    try:
        network = build_on_meta(name, spec)
        contract.check(network, spec)
    except st.NetworkError as error:
        words = str(error)
        assert f"{side}" in words
        assert "\n" not in words
        assert words.endswith(".")
