from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.inspection.tuning_curves import PHASES, OrientationTuning, gratings, orientation_tuning
from tests.inspection import subjects

ANGLES = (0.0, 17.0, 45.0, 72.5, 90.0, 121.0, 178.0)
QUICK = ["feedforward1", "lenet5", "speednet_small", "resnet20_cifar10", *subjects.FOREIGN]


def gabor(angle: float, frequency: float, size: int = 11, phase: float = 0.0, width: float = 2.5) -> Tensor:
    """Return a filter for stripes at an angle: (size, size), a row at a time from the top."""
    kernel = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            right, up = column - size // 2, size // 2 - row
            across = -right * math.sin(math.radians(angle)) + up * math.cos(math.radians(angle))
            bell = math.exp(-(right**2 + up**2) / (2 * width**2))
            kernel[row, column] = bell * math.cos(2 * math.pi * frequency * across + phase)
    return torch.from_numpy(kernel - kernel.mean()).float()


def network_of(kernels: Tensor, channels: int = 1, bias: float = 0.0, size: int = 24) -> nn.Module:
    """Return a network whose first units have these weights (U, h, w) in every channel."""
    units, height, width = kernels.shape
    network = nn.Sequential(
        nn.Conv2d(channels, units, (height, width), padding="same"), nn.ReLU(), nn.Flatten(),
        nn.Linear(units * size * size, 2),
    )  # fmt: skip
    convolution = network[0]
    assert isinstance(convolution, nn.Conv2d)
    with torch.no_grad():
        convolution.weight.copy_(kernels[:, None].expand(-1, channels, -1, -1))
        nn.init.constant_(convolution.bias, bias)  # type: ignore[arg-type]
    return network


def tuning_of(kernels: Tensor, channels: int = 1, bias: float = 0.0) -> OrientationTuning:
    return orientation_tuning(network_of(kernels, channels, bias), torch.zeros(channels, 24, 24, dtype=torch.uint8))


def between(one: Tensor, two: Tensor) -> Tensor:
    """Return the angle between two lines, degrees."""
    return ((one - two + 90) % 180 - 90).abs()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("phase", [0.0, math.pi / 2])
@pytest.mark.parametrize("frequency", [0.15, 0.25])
def test_a_gabor_filter_gets_its_angle_and_frequency(channels: int, phase: float, frequency: float) -> None:
    tuning = tuning_of(torch.stack([gabor(angle, frequency, phase=phase) for angle in ANGLES]), channels)
    assert (between(tuning.preferred_angle, torch.tensor(ANGLES)) <= 2).all()
    step = float(tuning.frequencies[1] / tuning.frequencies[0])
    ratios = tuning.preferred_frequency / frequency
    assert ((ratios < step) & (ratios > 1 / step)).all()
    assert (tuning.selectivity > 0.5).all()
    assert not tuning.silent.any()


def test_a_filter_of_stripes_is_drawn_at_its_angle() -> None:
    """Rows go down and angles counter-clockwise: a bright line from the lower left to the upper right is at 45°."""
    kernels = torch.stack([torch.eye(5).flip(0), torch.eye(5), torch.zeros(5, 5), torch.zeros(5, 5)])
    kernels[2, 2] = kernels[3, :, 2] = 1
    kernels -= kernels.mean((1, 2), keepdim=True)
    expected = torch.tensor([45.0, 135.0, 0.0, 90.0])
    assert (between(tuning_of(kernels).preferred_angle, expected) < 1e-3).all()


def test_a_blob_has_no_preference() -> None:
    places = torch.arange(11) - 5.0
    squares = places.square() + places[:, None].square()
    blob = (-squares / 8).exp()
    rings = (-squares / 4).exp() - 0.5 * (-squares / 8).exp()
    tuning = tuning_of(torch.stack([blob, rings, gabor(30, 0.2)]))
    assert (tuning.selectivity[:2] < 0.03).all()
    assert tuning.selectivity[2] > 0.5


def test_a_dead_unit_prefers_nothing() -> None:
    tuning = tuning_of(torch.stack([torch.zeros(7, 7), gabor(60, 0.2, 7)]))
    assert tuning.silent.tolist() == [True, False]
    assert all(
        bool(value[0].isnan()) and not bool(value[1].isnan())
        for value in (tuning.preferred_angle, tuning.preferred_frequency, tuning.selectivity)
    )
    tuning.draw()
    dead = tuning_of(torch.stack([gabor(60, 0.2, 7)]), bias=-1000)
    assert dead.silent.all()
    assert dead.preferred_angle.isnan().all()
    dead.draw()


def test_a_threshold_narrows_the_curve() -> None:
    """The tip of an iceberg: the higher the threshold, the fewer the angles that reach it."""
    kernels = gabor(45, 0.2)[None]
    contrast = float(tuning_of(kernels).responses.max())
    assert tuning_of(kernels, bias=-0.5 * contrast).selectivity > tuning_of(kernels).selectivity + 0.05


def test_responses_are_those_of_the_network_to_the_pictures() -> None:
    """Every number, against stripes drawn pixel by pixel and shown to the whole network."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(4, 6, (5, 3), groups=2, dilation=(1, 2)), nn.BatchNorm2d(6), nn.LeakyReLU(0.2), nn.Flatten(),
        nn.Linear(6, 2),
    )  # fmt: skip
    norm = network[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean, norm.running_var = torch.randn(6) * 0.2, torch.rand(6) + 0.5
    mean, std = (0.4, 0.5, 0.3, 0.6), (0.2, 0.3, 0.25, 0.5)
    spec = st.Spec.of((4, 5, 5), 2)
    spec = spec.model_copy(update={"input": spec.input.model_copy(update={"mean": mean, "std": std})})
    network.eval()
    tuning = orientation_tuning(st.Classifier(network, spec))
    assert tuning.after == ("0", "batch normalisation", "rectification")

    def answer(pixels: list[list[int]]) -> Tensor:
        grey = torch.tensor(pixels, dtype=torch.float32) / 255
        inputs = torch.stack([(grey - m) / s for m, s in zip(mean, std, strict=True)])
        with torch.no_grad():
            first: Tensor = network[:3](inputs[None])[0, :, 0, 0]
        return first

    silence = answer([[128] * 5] * 5)
    for f, a in ((0, 0), (5, 7), (11, 20), (15, 33)):
        slope, frequency = math.radians(float(tuning.angles[a])), float(tuning.frequencies[f])
        answers = []
        for p in range(PHASES):
            turn = 2 * math.pi * p / PHASES
            wave = [
                [math.cos(2 * math.pi * frequency * (x * math.sin(slope) + y * math.cos(slope)) + turn)
                 for x in (-2, -1, 0, 1, 2)]
                for y in (-2, -1, 0, 1, 2)
            ]  # fmt: skip
            answers.append(answer([[round(127.5 + 127.5 * value) for value in row] for row in wave]))
        expected = (torch.stack(answers).amax(0) - silence).clamp(min=0)
        # Where a value lies between two bytes, float32 may round it to the other: a byte in the picture at most.
        torch.testing.assert_close(tuning.responses[:, f, a].float(), expected, atol=0.01, rtol=0.005)


def test_preference_is_the_vector_sum_of_the_curve() -> None:
    tuning = tuning_of(torch.stack([gabor(100, 0.2), gabor(10, 0.3)]))
    for unit in range(2):
        best = max(range(16), key=lambda f: float(tuning.responses[unit, f].max()))
        curve = tuning.responses[unit, best].tolist()
        cosine = sum(r * math.cos(2 * math.radians(5 * i)) for i, r in enumerate(curve))
        sine = sum(r * math.sin(2 * math.radians(5 * i)) for i, r in enumerate(curve))
        assert float(tuning.preferred_angle[unit]) == pytest.approx(math.degrees(math.atan2(sine, cosine)) / 2 % 180)
        assert float(tuning.selectivity[unit]) == pytest.approx(math.hypot(sine, cosine) / sum(curve))


def test_gratings_are_stripes_at_their_angle() -> None:
    stripes = gratings(torch.tensor([0.0, 90.0, 45.0]), 0.25, (9, 9))
    assert stripes.shape == (3, PHASES, 9, 9)
    assert stripes.dtype == torch.uint8
    assert (int(stripes.min()), int(stripes.max())) == (0, 255)
    assert stripes[0, 0, 4].tolist() == [255] * 9  # horizontal: rows of one value, white in the middle
    assert stripes[1, 0, :, 4].tolist() == [255] * 9
    assert stripes[2, 0].flip(0).diagonal().tolist() == [255] * 9  # from the lower left to the upper right


@pytest.mark.parametrize("name", QUICK)
def test_networks_and_how_they_are_left(name: str) -> None:
    network = subjects.build(name).train()
    weights = [value.clone() for value in network.state_dict().values()]
    state = torch.get_rng_state()
    tuning = orientation_tuning(network, subjects.pictures(name, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(one, two) for one, two in zip(weights, network.state_dict().values(), strict=True))
    assert not tuning.silent.all()
    assert ((tuning.selectivity >= 0) & (tuning.selectivity <= 1 + 1e-9) | tuning.silent).all()
    if name not in ("lenet5", "speednet_small"):
        assert tuning.after[-1] == "rectification"
    if name == "resnet20_cifar10":
        assert tuning.draw().image.width > 600


@pytest.mark.slow
@pytest.mark.parametrize("name", subjects.ZOO)
def test_every_network_of_the_zoo(name: str) -> None:
    tuning = orientation_tuning(subjects.build(name))
    assert tuning.preferred_angle.isfinite().any()
    assert tuning.draw().image.width > 600


def test_it_is_quick() -> None:
    network = network_of(torch.randn(64, 11, 11, generator=torch.Generator().manual_seed(0)), channels=3, size=64)
    start = time.perf_counter()
    orientation_tuning(network, torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert time.perf_counter() - start < 3


def test_what_the_experiment_cannot_be_made_on() -> None:
    pictures = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(st.NetworkError, match="does not say what size of pictures it takes"):
        orientation_tuning(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(72, 2)))
    with pytest.raises(st.NetworkError, match=r"must begin with a convolution \(nn\.Conv2d\)"):
        orientation_tuning(nn.Flatten(), pictures)
    squashed = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(st.NetworkError, match=r"first layer \(1\) must get the picture itself"):
        orientation_tuning(squashed, pictures)


def test_a_network_that_normalises_and_pads_for_itself() -> None:
    """Its first layer gets the picture up to scale, offset and a border: the units are the same."""

    class Prepares(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.network(nn.functional.pad((images - 0.5) / 0.1, (5, 5, 5, 5)))
            return logits

    network = network_of(torch.stack([gabor(30, 0.2), gabor(80, 0.15)]))
    pictures = torch.zeros(1, 1, 24, 24, dtype=torch.uint8)
    plain = orientation_tuning(network, pictures)
    network[0].padding = (0, 0)  # type: ignore[index, union-attr]
    prepared = orientation_tuning(Prepares(network), pictures)
    assert prepared.layer == "network.0"
    # On grey the first answers with little, because the filters have no mean: only the scale is left of it.
    torch.testing.assert_close(prepared.responses, 10 * plain.responses, rtol=1e-3, atol=1e-2)
