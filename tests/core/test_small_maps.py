"""Convolutions of small maps, as matrix products."""

from __future__ import annotations

import contextlib
import gc
import itertools
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import striate as st
from striate.core import machine, small_maps
from striate.core.machine import Execution

CHANNELS = (96, 128)  # enough of them


@pytest.fixture(autouse=True)
def on_the_processor() -> Iterator[None]:
    machine.use_device("cpu")
    yield
    machine.use_device(None)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what was computed as a product."""
    seen: list[tuple[int, ...]] = []
    apply = small_maps._Product.apply

    def counted(images: Tensor, *others: object) -> Tensor:
        seen.append(tuple(images.shape))
        done: Tensor = apply(images, *others)  # type: ignore[no-untyped-call]
        return done

    monkeypatch.setattr(small_maps._Product, "apply", counted)
    return seen


def both_ways(layer: nn.Conv2d, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return outputs and gradients without and with products."""
    network, ways = nn.Sequential(layer), []
    for context in (contextlib.nullcontext(), small_maps.written_out(network)):
        given = images.clone().requires_grad_()
        with context:
            outputs = network(given)
        of = [given, *layer.parameters()]
        weights = torch.linspace(-1, 1, outputs.numel(), dtype=outputs.dtype).view(outputs.shape)
        ways.append([outputs, *torch.autograd.grad((outputs * weights).sum(), of)])
    return ways[0], ways[1]


def all_see_all(layer: nn.Conv2d, height: int, width: int) -> bool:
    """Return whether every pixel of the output depends on every pixel of the map."""
    one = nn.Conv2d(1, 1, layer.kernel_size, layer.stride, layer.padding, bias=False)
    nn.init.ones_(one.weight)
    pixels = torch.eye(height * width).view(-1, 1, height, width)
    return bool((one(pixels) > 0).all())


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 3), (2, 2), (5, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_equal_to_convolution(kernel: tuple[int, int], bias: bool, products: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    for height, width, stride in itertools.product((1, 2, 3), (1, 2, 4), (1, 2, (2, 1))):
        for padding in {(0, 0), (1, 1), (kernel[0] // 2, kernel[1] // 2)}:
            if any(
                side + 2 * zeros < reach for side, zeros, reach in zip((height, width), padding, kernel, strict=True)
            ):
                continue
            layer = nn.Conv2d(*CHANNELS, kernel, stride, padding, bias=bias).double()
            before = len(products)
            expected, got = both_ways(layer, torch.randn(3, CHANNELS[0], height, width, dtype=torch.double))
            for one, other in zip(expected, got, strict=True):
                torch.testing.assert_close(other, one)
            blocks = expected[0].shape[2] * expected[0].shape[3] * height * width
            pays = any(padding) and blocks <= 2 * kernel[0] * kernel[1]
            assert len(products) - before == (pays and all_see_all(layer, height, width))
    assert products


@pytest.mark.parametrize(
    ("layer", "side"),
    [
        (nn.Conv2d(*CHANNELS, 3, padding=1), 3),  # the corners do not see each other
        (nn.Conv2d(*CHANNELS, 3), 3),  # no zeros
        (nn.Conv2d(*CHANNELS, 1), 1),  # is a product already
        (nn.Conv2d(256, 128, 3, padding=1, groups=2), 2),
        (nn.Conv2d(*CHANNELS, 3, padding=2, dilation=2), 2),
        (nn.Conv2d(*CHANNELS, 3, padding="same"), 2),
        (nn.Conv2d(*CHANNELS, 3, padding=1, padding_mode="circular"), 2),
        (nn.Conv2d(32, 32, 3, padding=1), 2),  # too few channels
        (nn.Conv2d(*CHANNELS, 9, padding=4), 5),  # 625 blocks of weights for 81 taps
    ],
)
def test_all_others_stay_as_they_are(layer: nn.Conv2d, side: int, products: list[tuple[int, ...]]) -> None:
    images = torch.randn(2, layer.in_channels, side, side)
    expected, got = both_ways(layer, images)
    assert all(torch.equal(one, other) for one, other in zip(expected, got, strict=True))
    assert not products


def small_layer() -> nn.Conv2d:
    return nn.Conv2d(*CHANNELS, 3, padding=1)


def test_what_a_convolution_takes_and_refuses(products: list[tuple[int, ...]]) -> None:
    network = nn.Sequential(small_layer())
    with small_maps.written_out(network):
        assert network(torch.randn(CHANNELS[0], 2, 2)).shape == (CHANNELS[1], 2, 2)
        assert network(torch.randn(0, CHANNELS[0], 2, 2)).shape == (0, CHANNELS[1], 2, 2)
        assert network[0](input=torch.randn(1, CHANNELS[0], 2, 2)).shape == (1, CHANNELS[1], 2, 2)
        with pytest.raises(RuntimeError, match="channels"):
            network(torch.randn(1, 5, 2, 2))
        with pytest.raises(RuntimeError, match="type"):
            network(torch.randn(1, CHANNELS[0], 2, 2).double())
    assert len(products) == 1


def test_in_a_contiguous_network_maps_can_be_viewed(products: list[tuple[int, ...]]) -> None:
    network = nn.Sequential(small_layer())
    with small_maps.written_out(network):
        assert network(torch.randn(3, CHANNELS[0], 2, 2)).view(3, -1).shape == (3, 4 * CHANNELS[1])
    assert products


def test_what_a_layer_does_by_itself_it_still_does(products: list[tuple[int, ...]]) -> None:
    class Own(nn.Conv2d):
        def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return super()._conv_forward(input, 2 * weight, bias)

    own, patched = Own(*CHANNELS, 3, padding=1), small_layer()
    patched.forward = lambda images: images  # type: ignore[method-assign,assignment]
    images = torch.randn(2, CHANNELS[0], 2, 2)
    expected, got = both_ways(own, images)
    assert torch.equal(expected[0], got[0])
    with small_maps.written_out(nn.Sequential(patched)):
        assert patched(images) is images
    assert patched(images) is images
    assert not products


def test_hooks_see_it_and_nothing_stays_behind(products: list[tuple[int, ...]]) -> None:
    network = nn.Sequential(small_layer())
    seen: list[tuple[int, ...]] = []
    network[0].register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    with contextlib.suppress(RuntimeError), small_maps.written_out(network), small_maps.written_out(network):
        network(torch.randn(2, CHANNELS[0], 1, 1))
        network(torch.randn(2, 1, 1, 1))  # breaks off
    assert seen == [(2, CHANNELS[1], 1, 1)]
    assert len(products) == 1
    assert "forward" not in vars(network[0])


def test_a_network_is_let_go() -> None:
    network = nn.Sequential(small_layer())
    with small_maps.written_out(network):
        network(torch.randn(2, CHANNELS[0], 1, 1))
    gone = weakref.ref(network[0])
    del network
    gc.collect()
    assert gone() is None


def test_only_what_learns_gets_a_gradient(products: list[tuple[int, ...]]) -> None:
    layer, images = small_layer(), torch.randn(2, CHANNELS[0], 2, 2)
    network = nn.Sequential(layer)
    with small_maps.written_out(network):
        network(images).sum().backward()
        assert layer.weight.grad is not None
        layer.requires_grad_(False)
        network(images.requires_grad_()).sum().backward()
    assert images.grad is not None
    assert len(products) == 2


def test_a_gradient_of_a_gradient_is_refused() -> None:
    network = nn.Sequential(small_layer())
    images = torch.randn(2, CHANNELS[0], 2, 2, requires_grad=True)
    with small_maps.written_out(network):
        (gradient,) = torch.autograd.grad(network(images).square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_maps_that_are_recomputed(products: list[tuple[int, ...]]) -> None:
    network = nn.Sequential(nn.Sequential(small_layer(), nn.ReLU()))
    images = torch.randn(2, CHANNELS[0], 2, 2, requires_grad=True)
    with small_maps.written_out(network):
        outputs = checkpoint(network[0], images, use_reentrant=False)
    outputs.sum().backward()
    assert images.grad is not None
    assert not products


def gradients(network: nn.Module, images: Tensor, execution: Execution, *, written_out: bool) -> dict[str, Tensor]:
    """Return the gradient of each parameter after a training pass."""
    arranged = execution.arrange(images)
    with execution.autocast():
        logits = execution.forward(network, arranged) if written_out else network(arranged)
    F.cross_entropy(logits.float(), torch.arange(len(images)) % 10).backward()
    found = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    network.zero_grad()
    return found


def test_a_network_trains_the_same(products: list[tuple[int, ...]]) -> None:
    """ResNet-18 at 32×32, whose last maps are one pixel: in fp32 up to rounding, in bf16 as near to that as before."""
    fp32, bf16 = Execution("fp32", "channels_last"), Execution("bf16", "channels_last")
    network = fp32.place(st.build("resnet18", st.Spec.of((3, 32, 32), 10), seed=0)).train()
    images = torch.randn(32, 3, 32, 32)
    exact = gradients(network, images, fp32, written_out=False)
    assert not products
    same = gradients(network, images, fp32, written_out=True)
    assert [shape[1:] for shape in products] == [(256, 2, 2)] * 4 + [(512, 1, 1)] * 3
    assert [*same] == [name for name, _ in network.named_parameters()]
    for name, parameter in network.named_parameters():
        assert (same[name].dtype, same[name].stride()) == (parameter.dtype, parameter.stride())
        torch.testing.assert_close(same[name], exact[name], rtol=1e-3, atol=1e-4)

    def error(of: dict[str, Tensor]) -> float:
        return sum(float((of[name] - exact[name]).square().sum()) for name in exact) ** 0.5

    products.clear()
    by_convolution, by_product = (gradients(network, images, bf16, written_out=way) for way in (False, True))
    assert len(products) == 7
    assert error(by_product) == pytest.approx(error(by_convolution), rel=0.2)
