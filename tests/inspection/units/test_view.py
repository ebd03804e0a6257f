from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.inspection.subject import subject_of
from striate.inspection.units.site import sites_of
from striate.inspection.units.view import view_layer, view_unit
from tests.conftest import make_image_set
from tests.inspection import subjects

FAST = ("feedforward1", "lenet5", "speednet_small", "resnet20_cifar10", *subjects.FOREIGN)


def look(name: str) -> None:
    """View a unit of the first and one of the last layer, with no argument but the pictures and the unit."""
    network, pictures = subjects.build(name), subjects.pictures(name, 3)
    layers = list(sites_of(subject_of(network, pictures)))
    for layer in {layers[0], layers[-1]}:
        view = view_unit(network, pictures, f"{layer}:1", steps=2)
        assert view.deconvolution.shape == view.guided.shape == view.images.shape
        assert view.guided.isfinite().all()
        assert len(view.crops) == len(view.values) == 3
        assert view.draw().image.width > 300
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", FAST)
def test_a_unit_of_any_network(name: str) -> None:
    look(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in subjects.ZOO if name not in FAST])
def test_a_unit_of_any_other_network(name: str) -> None:
    look(name)


def test_what_comes_back_to_the_pictures() -> None:
    """By hand: of conv → ReLU → conv, from one place of the second."""
    network = nn.Sequential()
    network.add_module("one", nn.Conv2d(3, 6, 3))
    network.add_module("relu", nn.ReLU(inplace=True))
    network.add_module("two", nn.Conv2d(6, 2, 3))
    network.add_module("flat", nn.Flatten())
    network.add_module("head", nn.Linear(2 * 28 * 28, 5))
    with torch.no_grad():
        network.one.weight.copy_(torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0)))
    pictures = subjects.pictures("in place", 4)
    view = view_unit(network, pictures, "two:1", steps=1)
    one, two = network.one.weight.detach(), network.two.weight.detach()
    for row, (image, window) in enumerate(zip(view.images, view.windows, strict=True)):
        y, x = window[0], window[2]  # fields start where their unit is: there is no padding
        with torch.no_grad():
            before = network.one(image[None] / 255)[0, :, y : y + 3, x : x + 3]
        arriving = two[1].clamp(min=0)  # (6, 3, 3)
        for rule, kept in {"deconvolution": arriving, "guided": arriving * (before > 0)}.items():
            expected = nn.functional.conv_transpose2d(kept[None], one)[0]
            found = getattr(view, rule)[row]
            torch.testing.assert_close(found[:, y : y + 5, x : x + 5], expected, rtol=1e-4, atol=1e-5)
            assert found.abs().sum() == pytest.approx(float(expected.abs().sum()), rel=1e-4)


def test_classes_and_numbers_of_a_split() -> None:
    data = make_image_set(pictures=60, size=12)
    network = st.build("conv 4@3x3 relu | fc 3", data.spec)
    split = data.train
    layer = next(iter(sites_of(subject_of(network, split))))
    view = view_unit(network, split, f"{layer}:2", steps=2)
    assert view.labels is not None
    names = data.spec.task.class_names
    assert list(view.labels) == [names[int(split.labels[number])] for number in view.pictures]
    assert torch.equal(view.images, split.images[view.pictures])
    assert len(view.values) == 9


def test_what_a_unit_sees_is_not_known() -> None:
    network, pictures = subjects.build("untraceable"), subjects.pictures("untraceable", 2)
    view = view_unit(network, pictures, "conv:0", steps=1)
    assert any("cannot be traced" in note and "Whole pictures" in note for note in view.notes)
    assert all(crop.shape == (3, 32, 32) for crop in view.crops)


def test_a_layer() -> None:
    network, pictures = subjects.build("in place"), subjects.pictures("in place", 10)
    view = view_layer(network, pictures, "first", units=3, steps=2)
    assert [one.unit for one in view.views] == ["first:0", "first:1", "first:2"]
    alone = view_unit(network, pictures, "first:2", steps=2)
    assert torch.equal(alone.guided, view.views[2].guided)
    assert torch.equal(alone.maximum.picture, view.views[2].maximum.picture)
    assert view.draw().image.width <= 1440
    assert len(view_layer(network, pictures, "first", units=99, steps=1).views) == 8


def test_bad_input() -> None:
    network, pictures = subjects.build("in place"), subjects.pictures("in place")
    with pytest.raises(st.NetworkError, match=r"'first' has units 0 to 7, so there is no 'first:8'"):
        view_unit(network, pictures, "first:8")
    with pytest.raises(st.DataError, match="units must be at least 1, got 0"):
        view_layer(network, pictures, "first", units=0)
    with pytest.raises(st.DataError, match="at least one picture"):
        view_unit(network, pictures[:0], "first:1")


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            maps = self.conv(images)
        return self.head(maps.mean((2, 3)))


def test_no_gradient_comes_back() -> None:
    with pytest.raises(st.NetworkError, match=r"No gradient comes back from layer 'conv'.*top_pictures"):
        view_unit(Detached().eval(), subjects.pictures("in place"), "conv:1")
