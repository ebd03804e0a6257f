from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.inspection.units.maximise import maximise
from striate.inspection.units.top import top_pictures
from tests.conftest import make_image_set
from tests.inspection import subjects

BLANK = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)


def planted(filter: Tensor) -> st.Classifier:
    """A network whose unit conv:1 is a filter, for grey pictures of 28×28 whose mean is mid-grey."""
    side = len(filter)
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(1, 2, side))
    network.add_module("flat", nn.Flatten())
    network.add_module("head", nn.Linear(2 * (29 - side) ** 2, 3))
    with torch.no_grad():
        network.conv.weight[1, 0] = filter
    return st.Classifier(network, centred(1, 28, 3))


def centred(channels: int, side: int, classes: int) -> st.Spec:
    pictures = st.InputSpec(channels=channels, height=side, width=side, mean=(0.5,) * channels, std=(0.25,) * channels)
    return st.Spec(input=pictures, task=st.Spec.of((channels, side, side), classes).task)


def gabor(side: int) -> Tensor:
    y, x = torch.meshgrid(*[torch.arange(side) - side // 2] * 2, indexing="ij")
    wave = torch.cos(2 * torch.pi * (0.8 * x + 0.6 * y) / (0.6 * side))
    filter = torch.exp(-(x**2 + y**2) / (2 * (side / 5) ** 2)) * wave
    return filter - filter.mean()


@pytest.mark.parametrize("side", [7, 11])
def test_a_filter_gets_its_own_pattern(side: int) -> None:
    filter = gabor(side)
    found = maximise(planted(filter), BLANK, "conv:1")
    top, bottom, left, right = found.window
    assert (bottom - top + 1, right - left + 1) == (side, side)
    pattern = found.picture[0, top : bottom + 1, left : right + 1].float() / 255 - 0.5
    cosine = (pattern * filter).sum() / (pattern.norm() * filter.norm())
    assert cosine >= 0.9
    assert found.value > 0.9 * found.history.max()


def test_a_unit_that_is_silent_at_first_is_woken() -> None:
    """A stage that ends with ReLU, whose unit answers to nothing near grey: no gradient says where to go."""
    conv = nn.Conv2d(1, 2, 7)
    with torch.no_grad():
        conv.weight[1, 0] = gabor(7)
        conv.bias[1] = -0.5
    network = nn.Sequential()
    network.add_module("block", nn.Sequential(conv, nn.ReLU()))
    network.add_module("flat", nn.Flatten())
    network.add_module("head", nn.Linear(2 * 22**2, 3))
    found = maximise(st.Classifier(network, centred(1, 28, 3)), BLANK, "block:1")
    assert found.history[0] == 0
    assert found.value > 1


def test_the_picture_says_what_it_excites() -> None:
    """The value is that of the picture as it is returned: rounded, not shifted, after rectification."""
    network = subjects.build("in place")
    pictures = subjects.pictures("in place", 3)
    found = maximise(network, pictures, "first:3", steps=6)
    assert isinstance(network, subjects.InPlace)
    with torch.no_grad():
        maps = network.norm(network.first(found.picture[None] / 255)).relu()
    assert found.value == pytest.approx(float(maps[0, 3, 16, 16]), rel=1e-4)


def test_the_same_seed_makes_the_same_picture_and_nothing_else_changes() -> None:
    network = subjects.build("in place").train()
    pictures = subjects.pictures("in place", 3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.random.get_rng_state()
    first, again, other = (maximise(network, pictures, "second:1", steps=5, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.picture, again.picture)
    assert torch.equal(first.history, again.history)
    assert not torch.equal(first.picture, other.picture)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_more_than_the_best_of_the_set_after_training() -> None:
    data = make_image_set(pictures=240, size=12)
    network = st.build("conv 8@5x5 relu | maxpool 2 | conv 8@3x3 relu | fc 3", data.spec)
    st.fit(network, data, epochs=2, batch_size=32, progress=False)
    pictures = data.train[:200]
    top = top_pictures(network, pictures)
    won = [
        maximise(network, pictures, f"{layer}:{unit}", contrast=0.4).value >= float(best.values[unit, 0])
        for layer, best in top.layers.items()
        for unit in range(len(best.values))
        if best.values[unit, 0] > 0
    ]
    assert len(won) >= 10
    assert sum(won) >= 0.9 * len(won)


def test_colours_of_the_set() -> None:
    """A unit that answers to red alone gets a picture as grey as the pictures of a set without colours."""
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 1, 5, padding=2))
    network.add_module("flat", nn.Flatten())
    network.add_module("head", nn.Linear(256, 2))
    with torch.no_grad():
        network.conv.weight.zero_()[0, 0] = gabor(5)
    classifier = st.Classifier(network, centred(3, 16, 2))
    coloured = torch.randint(256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    grey = coloured[:, :1].expand(-1, 3, -1, -1)
    red, mixed = (maximise(classifier, images, "conv:0").picture[:, 6:11, 6:11].float() for images in (coloured, grey))
    assert (mixed[0] - mixed[1]).abs().mean() < 0.2 * (mixed[0] - 127.5).abs().mean()
    assert (red[0] - red[1]).abs().mean() > 0.5 * (red[0] - 127.5).abs().mean()


def test_bad_steps() -> None:
    with pytest.raises(st.DataError, match="steps must be at least 1, got 0"):
        maximise(planted(gabor(7)), BLANK, "conv:1", steps=0)


def test_drawn() -> None:
    assert maximise(planted(gabor(7)), BLANK, "conv:1", steps=1).draw().image.height > 300
