"""What a look measures, against slow obvious references."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.training.doctor.look import Look, measured_layers, take_look
from striate.training.losses import compute_loss
from striate.training.run import Run, Seen
from tests.conftest import make_image_set
from tests.training.doctor.conftest import Draws


def run_of(network: nn.Module, images: st.ImageSet, pictures: Tensor, targets: Tensor) -> Run:
    """Return a run in the middle of its first step: forward and backward are done."""
    recipe = st.Recipe(precision="fp32", memory_format="contiguous", batch_size=len(pictures), loss="cross_entropy")
    run = Run(network, images.spec, recipe, {"name": "x"}, 1, images.train)
    run.seen = Seen(torch.arange(len(pictures)), pictures, targets, network(pictures).detach())
    loss = compute_loss(network(pictures), targets, network, recipe)
    loss.backward()  # type: ignore[no-untyped-call]
    run.loss = loss.item()
    return run


@pytest.fixture
def looked(image_set: st.ImageSet) -> tuple[nn.Sequential, Tensor, Tensor, Look]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5), nn.Sigmoid(),
        nn.Linear(5, 3),
    )  # fmt: skip
    nn.init.constant_(network[0].bias[:2], -100.0)  # type: ignore[index, arg-type]
    pictures, targets = 3 * torch.randn(16, 1, 8, 8) + 1, torch.arange(16) % 3
    return network, pictures, targets, take_look(run_of(network, image_set, pictures, targets), evaluate=True)


@torch.no_grad()
def test_units_are_counted_as_by_hand(looked: tuple[nn.Sequential, Tensor, Tensor, Look]) -> None:
    network, pictures, _, look = looked
    relu = network[:2](pictures)
    tanh = network[:4](pictures)
    sigmoid = network[:7](pictures)
    assert [(one.where, one.kind) for one in look.units] == [("1", "relu"), ("3", "tanh"), ("6", "sigmoid")]
    dead = [all(float(value) <= 0 for value in relu[:, k].flatten()) for k in range(6)]
    assert look.units[0].silent.tolist() == dead
    assert sum(dead) == 2
    slope = 1 - tanh**2
    assert look.units[1].saturated == pytest.approx(float((slope < 1 - 0.97**2).double().mean()))
    assert look.units[2].saturated == pytest.approx(float(((sigmoid > 0.985) | (sigmoid < 0.015)).double().mean()))
    assert look.units[0].saturated == len(look.units[1].silent) == 0


def test_the_first_layer_s_inputs_and_the_gradients(looked: tuple[nn.Sequential, Tensor, Tensor, Look]) -> None:
    network, pictures, targets, look = looked
    ((mean, deviation),) = look.first_inputs
    assert mean == pytest.approx(float(pictures.double().mean()), rel=1e-4)
    assert deviation == pytest.approx(float(pictures.double().std(correction=0)), rel=1e-4)
    precise = copy.deepcopy(network).double()
    loss = nn.functional.cross_entropy(precise(pictures.double()), targets)
    gradients = torch.autograd.grad(loss, [p for p in precise.parameters() if p.dim() >= 2])
    for layer, weight, gradient in zip(
        look.layers, [p for p in precise.parameters() if p.dim() >= 2], gradients, strict=True
    ):
        assert layer.weight == pytest.approx(float(weight.detach().norm()), rel=1e-4)
        assert layer.gradient == pytest.approx(float(gradient.norm()), rel=1e-3)
        assert layer.typical_gradient == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-3)
    assert look.compared is not None
    assert look.compared.gap == pytest.approx(0.0, abs=1e-6)
    assert look.compared.by_chance == 0


def test_what_has_no_gradient_says_so(image_set: st.ImageSet) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 3))
    network[1].weight.requires_grad_(False)  # type: ignore[union-attr, operator]
    assert [one.name for one in measured_layers(network)] == ["2.weight"]
    assert measured_layers(network)[0].gradient is None


def test_the_gap_between_training_and_evaluation_is_of_the_same_pictures() -> None:
    images = make_image_set()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    nn.init.constant_(network[1].running_mean, 50.0)  # type: ignore[arg-type]
    pictures, targets = torch.randn(12, 1, 8, 8), torch.arange(12) % 3
    trained = nn.functional.cross_entropy(copy.deepcopy(network).train()(pictures), targets).item()
    evaluated = nn.functional.cross_entropy(copy.deepcopy(network).eval()(pictures), targets).item()
    run = run_of(network, images, pictures, targets)
    network[1].reset_running_stats()  # type: ignore[operator]
    nn.init.constant_(network[1].running_mean, 50.0)  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    look = take_look(run, evaluate=True)
    assert look.compared is not None
    assert look.compared.gap == pytest.approx(evaluated - trained, rel=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert math.isnan(look.update)


class TimesTen(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        logits *= 10
        return logits


@pytest.mark.parametrize(("last", "name"), [
    (nn.Identity(), "linear"),
    (nn.Sigmoid(), "sigmoid"),
    (nn.ReLU(inplace=True), "relu"),
    (nn.Softmax(dim=1), "softmax"),
    (nn.Sequential(nn.Tanh(), nn.Flatten()), "tanh"),
    (nn.Sequential(nn.Hardtanh(), TimesTen()), "mul"),
])  # fmt: skip
def test_what_made_the_logits(last: nn.Module, name: str, image_set: st.ImageSet) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3), last)
    run = run_of(network, image_set, torch.randn(6, 1, 8, 8), torch.arange(6) % 3)
    assert take_look(run).last == name


def test_one_relu_in_several_places_is_several(image_set: st.ImageSet) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 3)
            nn.init.constant_(self.first.bias, -100.0)

        def forward(self, pictures: Tensor) -> Tensor:
            hidden = torch.relu(self.first(pictures.flatten(1)))
            return self.head(torch.relu(self.second(hidden) + 1))  # type: ignore[no-any-return]

    run = run_of(Functional(), image_set, torch.randn(6, 1, 8, 8), torch.arange(6) % 3)
    dead, alive = take_look(run).units
    assert (dead.where, alive.where) == ("the network", "the network, operation number 2")
    assert bool(dead.silent.all())
    assert not bool(alive.silent.all())


def test_a_relu6_is_a_rectifier(image_set: st.ImageSet) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU6(), nn.Hardtanh(), nn.Linear(8, 3))
    nn.init.constant_(network[1].bias, -100.0)
    run = run_of(network, image_set, torch.randn(6, 1, 8, 8), torch.arange(6) % 3)
    assert bool(take_look(run).units[0].silent.all())


def test_a_norm_of_the_batch_alone_is_not_chance(image_set: st.ImageSet) -> None:
    network = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 3))
    run = run_of(network, image_set, torch.randn(24, 1, 8, 8), torch.arange(24) % 3)
    compared = take_look(run, evaluate=True).compared
    assert compared is not None
    assert compared.by_chance == 0


def test_pictures_that_are_mixed_and_norms_in_evaluation_are_seen(image_set: st.ImageSet) -> None:
    class Mixed(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.head, self.norm, self.dim = nn.Linear(64, 3), nn.BatchNorm2d(1), dim
            self.norm.eval()

        def forward(self, pictures: Tensor) -> Tensor:
            return 5 * self.head(self.norm(pictures).flatten(1)).softmax(self.dim)  # type: ignore[no-any-return]

    for dim, mixed in ((0, 1.0), (1, 0.0)):
        look = take_look(run_of(Mixed(dim), image_set, torch.randn(24, 1, 8, 8), torch.arange(24) % 3), evaluate=True)
        assert look.compared is not None
        assert look.compared.mixed == mixed
        assert look.evaluating == ("norm",)
        assert [(one.name, one.turn) for one in look.layers] == [("head.weight", 0)]


def test_modules_are_numbered_as_they_run(image_set: st.ImageSet) -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.unused, self.body = nn.Linear(8, 3), nn.Linear(8, 8), nn.Linear(64, 8)

        def forward(self, pictures: Tensor) -> Tensor:
            return self.head(self.body(pictures.flatten(1)).relu())  # type: ignore[no-any-return]

    look = take_look(run_of(Turned(), image_set, torch.randn(4, 1, 8, 8), torch.arange(4) % 3))
    assert {one.name: one.turn for one in look.layers} == {"head.weight": 1, "unused.weight": 1, "body.weight": 0}


def test_dropout_in_evaluation_is_seen(image_set: st.ImageSet) -> None:
    run = run_of(Draws(), image_set, torch.randn(6, 1, 8, 8), torch.arange(6) % 3)
    before = torch.get_rng_state()
    compared = take_look(run, evaluate=True).compared
    assert compared is not None
    assert compared.by_chance == 1
    assert torch.equal(before, torch.get_rng_state())
