from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import striate as st
from striate.core.errors import NetworkError
from striate.networks.zoo.speednet import SpeedNet
from tests.networks.zoo.test_zoo import make_spec


def make(shape: tuple[int, int, int], classes: int = 10, patch: int = 2, logit_scale: float = 1.0) -> SpeedNet:
    return SpeedNet(
        shape,
        classes,
        widths=(32, 64),
        depths=(1, 2),
        strides=(2, 1),
        pool=False,
        patch=patch,
        directions=shape[0] * patch**2,
        whitening_stride=1,
        head="flatten",
        logit_scale=logit_scale,
    )


def make_unpadded(shape: tuple[int, int, int], depth: int, unpadded: int, pool: bool) -> SpeedNet:
    return SpeedNet(
        shape,
        3,
        widths=(4, 4),
        depths=(depth, 1),
        strides=(2, 1),
        pool=pool,
        patch=3,
        directions=9,
        whitening_stride=1,
        head="flatten",
        logit_scale=1.0,
        unpadded=unpadded,
    )


def smooth_pictures(count: int = 200, channels: int = 3, side: int = 16) -> torch.Tensor:
    """Return pictures whose neighbouring pixels resemble each other, as those of photographs do."""
    noise = torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(F.pad(noise, (1, 1, 1, 1), mode="reflect"), 3, 1) * 3


@pytest.mark.parametrize("patch", [2, 3])
def test_whitened_patches_vary_as_much_in_every_direction(patch: int) -> None:
    network = make((3, 16, 16), patch=patch)
    pictures = smooth_pictures()
    network.prepare(pictures)
    weight = network.whitening.weight
    directions = 3 * patch**2
    assert torch.equal(weight[:directions], -weight[directions:])
    whitened = F.conv2d(pictures, weight[:directions]).transpose(0, 1).flatten(1).double()  # (directions, places)
    covariance = whitened @ whitened.T / whitened.shape[1]
    off_diagonal = covariance - torch.diag(covariance.diag())
    assert off_diagonal.abs().max() < 1e-3
    assert covariance.diag().max() < 1 + 1e-3
    assert covariance.diag().min() > 0.9  # below 1 only by what is added to each variance


def test_the_whitening_is_not_learned_and_is_saved() -> None:
    network = make((1, 8, 8))
    assert not network.whitening.weight.requires_grad
    assert "whitening.weight" in network.state_dict()


def test_prepare_draws_nothing_and_takes_what_it_needs() -> None:
    network = make((3, 16, 16))
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    network.prepare(smooth_pictures())
    assert torch.equal(torch.rand(2), expected)
    other = make((3, 16, 16))
    other.prepare(torch.cat([smooth_pictures(1600), 100 * torch.ones(10, 3, 16, 16)]))
    assert torch.isfinite(other.whitening.weight).all()
    assert not torch.equal(other.whitening.weight, network.whitening.weight)
    again = make((3, 16, 16))
    again.prepare(smooth_pictures())
    assert torch.equal(again.whitening.weight, network.whitening.weight)
    again.prepare(smooth_pictures(100))  # what was prepared stays
    assert torch.equal(again.whitening.weight, network.whitening.weight)


def test_convolutions_begin_as_the_identity_as_far_as_channels_reach() -> None:
    network = make((3, 16, 16))
    convolution = network.groups[0][0]  # type: ignore[index]
    maps = torch.randn(2, 24, 8, 8)
    passed_on = F.conv2d(maps, convolution.weight, padding=1)
    assert torch.equal(passed_on[:, :24], maps)


@pytest.mark.parametrize("name", ["speednet", "speednet_small"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 14), (3, 32, 32), (1, 28, 28), (3, 50, 40)])
def test_any_picture_of_8_pixels_and_more(name: str, shape: tuple[int, int, int]) -> None:
    network = st.build(name, make_spec(shape, 7))
    assert network(torch.randn(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(("name", "parameters"), [("speednet", 1_972_768), ("speednet_small", 71_202)])
def test_parameters_at_the_papers_size(name: str, parameters: int) -> None:
    shape = (3, 32, 32) if name == "speednet" else (1, 28, 28)
    network = st.build(name, make_spec(shape, 10))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("unpadded", "sides", "multiply_adds"),
    [(0, (14, 7, 4, 4), 1_180_744), (1, (13, 7, 4, 4), None), (2, (13, 6, 3, 3), 717_426)],
)
def test_layers_without_zeros_around_their_maps(
    unpadded: int, sides: tuple[int, ...], multiply_adds: int | None
) -> None:
    spec = make_spec((1, 28, 28), 10)
    network = st.build(f"speednet_small(unpadded={unpadded})", spec)
    maps = [network.whitening(torch.randn(2, 1, 28, 28))]
    for group in network.groups:
        maps.append(group(maps[-1]))
    assert tuple(one.shape[-1] for one in maps) == sides
    assert network.head.in_features == 64 * sides[-1] ** 2
    assert multiply_adds in (None, st.summary(network, spec).multiply_adds)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("unpadded", range(6))
def test_the_head_takes_what_unpadded_groups_leave(pool: bool, unpadded: int) -> None:
    for side, depth in itertools.product(range(20, 34), (1, 2, 3)):
        network = make_unpadded((1, side, side + 1), depth, unpadded, pool)
        assert network(torch.randn(2, 1, side, side + 1)).shape == (2, 3)


def test_unpadded_layers_need_larger_pictures() -> None:
    make_unpadded((1, 13, 13), 2, 5, pool=False)
    with pytest.raises(
        st.NetworkError, match="larger pictures for 5 unpadded layers, got 12×12: leave more layers pad"
    ):
        make_unpadded((1, 12, 12), 2, 5, pool=False)


def test_the_logits_are_scaled() -> None:
    network = make((1, 8, 8)).eval()
    scaled = make((1, 8, 8), logit_scale=0.25).eval()
    scaled.load_state_dict(network.state_dict())
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(scaled(images), network(images) * 0.25)


def test_its_activation_is_an_option() -> None:
    plain, smooth = (st.build("speednet", make_spec((3, 16, 16), 10), **more) for more in ({}, {"activation": "gelu"}))
    kinds = [{type(leaf) for leaf in network.groups.modules()} for network in (plain, smooth)]
    assert kinds[0] - kinds[1] == {nn.ReLU}
    assert kinds[1] - kinds[0] == {nn.GELU}
    assert [*plain.state_dict()] == [*smooth.state_dict()]
    with pytest.raises(NetworkError, match="activation must be relu or gelu, got 'tanh'"):
        st.build("speednet(activation='tanh')", make_spec((3, 16, 16), 10))


def test_groups_must_be_described_alike() -> None:
    with pytest.raises(st.NetworkError, match=r"one number per group, got \(8,\), \(1, 1, 1\), \(2, 2, 1\)"):
        st.build("speednet_small(widths=(8,))", make_spec((1, 28, 28), 10))
