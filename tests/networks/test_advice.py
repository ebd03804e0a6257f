"""Advice on networks: of every item a planted positive and a near miss, and what each network of the zoo deserves."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import striate as st
from striate.core.finding import Finding
from striate.networks.advice import advise
from striate.networks.advice.coverage import Coverage
from striate.networks.build import build_on_meta
from striate.networks.geometry import Geometry, geometry
from striate.networks.graph import PICTURE, trace
from striate.networks.layers import BlurPool, GlobalAveragePool
from striate.networks.text import build_text
from striate.networks.zoo import ZOO
from tests.networks.zoo.test_zoo import is_deep, make_spec, marked

Block = Callable[[Tensor], Tensor]


class Network(nn.Module):
    """Layers by name, and how they follow one another."""

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.how = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, images: Tensor) -> Tensor:
        return self.how(self, images)


# The networks here are small, and so are their pictures: these two are found in most, and tested by themselves.
BY_THE_WAY = ("one-heavy-layer", "small-field")


def all_found(network: nn.Module, side: int = 8, channels: int = 1, loss: str = "cross_entropy") -> tuple[Finding, ...]:
    return advise(network, make_spec((channels, side, side), 2), loss=loss)


def found(network: nn.Module, side: int = 8, channels: int = 1, loss: str = "cross_entropy") -> tuple[Finding, ...]:
    return tuple(one for one in all_found(network, side, channels, loss) if one.code not in BY_THE_WAY)


def codes(network: nn.Module, side: int = 8, channels: int = 1, loss: str = "cross_entropy") -> list[tuple[str, str]]:
    return [(one.code, one.where) for one in found(network, side, channels, loss)]


def all_codes(network: nn.Module, side: int = 8) -> list[tuple[str, str]]:
    return [(one.code, one.where) for one in all_found(network, side)]


def sequence(*layers: nn.Module) -> nn.Sequential:
    """Return layers and, behind them, what makes logits of their maps."""
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.LazyLinear(2))


def ready(network: nn.Module, side: int = 8, channels: int = 1) -> nn.Module:
    """Return a network whose lazy layers know their sizes."""
    network.eval()(torch.zeros(1, channels, side, side))
    return network


class TestLostRows:
    def test_a_window_that_stops_early(self) -> None:
        (finding,) = found(ready(sequence(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), 9), 9)
        assert (finding.code, finding.severity, finding.where) == ("lost-rows", "warning", "2")
        assert finding.numbers == {"lost_rows": 1, "lost_columns": 1}
        assert finding.message.startswith("A 2×2 window moved by 2 over 7×7 stops at (7 − 2)/2 + 1 = 3.50")
        assert finding.fix == 'Try "ceil" (4×4), or "stride 1" (6×6).'

    @pytest.mark.parametrize(
        "pool", [nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(3, 2), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(7)]
    )
    def test_ceil_padding_or_another_size_lose_nothing(self, pool: nn.Module) -> None:
        assert codes(ready(sequence(nn.Conv2d(1, 4, 3), nn.ReLU(), pool), 9), 9) == []

    def test_padding_that_is_left_over_absorbs(self) -> None:
        """(9 + 2 − 4) mod 3 = 1 row is not reached, and it is padding; without padding it is the picture's."""
        assert codes(ready(sequence(nn.Conv2d(1, 4, 4, 3, padding=1)), 9), 9) == []
        assert codes(ready(sequence(nn.Conv2d(1, 4, 4, 3)), 9), 9) == [("lost-rows", "0")]
        padded = nn.Sequential(nn.ZeroPad2d((1, 1, 1, 1)), nn.Conv2d(1, 4, 4, 3))
        assert codes(ready(sequence(padded), 9), 9) == []

    def test_what_is_lost_at_the_end_is_not_said_again_to_be_skipped(self) -> None:
        """Rows 3, 7, 11, 15, 19 lie between windows; 23 to 25 come after the last."""
        lost, skipped = found(ready(sequence(nn.MaxPool2d(3, 4)), 26), 26)
        assert (lost.code, lost.numbers) == ("lost-rows", {"lost_rows": 3, "lost_columns": 3})
        assert (skipped.code, skipped.numbers["unseen"]) == ("unseen-pixels", 23**2 - 18**2)
        assert skipped.numbers["pixels_of_the_picture"] == 26**2 - 18**2

    def test_only_the_axis_that_loses_is_named(self) -> None:
        (finding,) = found(ready(sequence(nn.Conv2d(1, 4, (3, 2), 2)), 8))
        assert finding.numbers == {"lost_rows": 1, "lost_columns": 0}
        assert "the last row is never seen" in finding.message

    def test_what_another_branch_sees_is_not_lost(self) -> None:
        def beside(self: Network, images: Tensor) -> Tensor:
            return self.head(torch.cat([self.left(images).flatten(2), self.right(images).flatten(2)], 2).amax(2))

        cut, whole = nn.Conv2d(1, 4, 2, 2), nn.Conv2d(1, 4, 3, 2)
        assert codes(Network(beside, left=cut, right=whole, head=nn.Linear(4, 2)), 9) == []
        cut_too = nn.Conv2d(1, 4, 2, 2)
        assert codes(Network(beside, left=cut, right=cut_too, head=nn.Linear(4, 2)), 9) == [("lost-rows", "left")]

    @pytest.mark.parametrize("text", ["conv 16@5x5 stride 3 | gap | fc 2", "conv 4 relu | maxpool 3 stride 4 | fc 2"])
    def test_the_same_as_the_text_says(self, text: str) -> None:
        network = build_text(text, (1, 28, 28))
        (said,) = network.findings
        (finding,) = [one for one in found(network, 28) if one.code == "lost-rows"]
        assert finding.message.lower() == said.message.lower()
        assert (finding.fix, finding.code) == (said.fix, said.code)
        assert finding.numbers.items() <= said.numbers.items()


class TestUnseenPixels:
    def test_a_kernel_smaller_than_its_stride(self) -> None:
        (finding,) = found(ready(sequence(nn.Conv2d(1, 4, 2, 4))))
        assert (finding.code, finding.severity, finding.where) == ("unseen-pixels", "warning", "0")
        assert finding.numbers == {"unseen": 48, "positions": 64, "pixels_of_the_picture": 48}
        assert finding.message == (
            "48 of the 64 pixels of the picture (8×8) reach no unit of the output: 0 (2×2, stride 4) skips them."
        )
        assert finding.fix == "Give it a stride of at most 2, or a kernel of at least 4."
        assert codes(ready(sequence(nn.Conv2d(1, 4, 4, 4)))) == []

    def test_a_picture_that_nothing_reads(self) -> None:
        (finding,) = found(
            Network(lambda self, images: self.same.weight.T.expand(len(images), 2), same=nn.Linear(2, 1))
        )
        assert (finding.code, finding.where) == ("unseen-pixels", "picture")
        assert finding.message.endswith("reach no unit of the output: nothing reads them.")

    def test_a_chain_of_strided_pointwise_convolutions(self) -> None:
        chain = sequence(nn.Conv2d(1, 4, 1, 2), nn.ReLU(), nn.Conv2d(4, 4, 1, 2))
        findings = found(ready(chain))
        assert [(one.code, one.where) for one in findings] == [("unseen-pixels", "0"), ("unseen-pixels", "2")]
        assert [one.numbers["pixels_of_the_picture"] for one in findings] == [60, 60]
        assert findings[1].message.startswith("12 of the 16 positions of the map (4×4)")

    def test_positions_of_a_map(self) -> None:
        skipping = sequence(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(1, 2))
        assert codes(ready(skipping)) == [("unseen-pixels", "2")]

    @pytest.mark.parametrize("main", [nn.Conv2d(4, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 1, 2)])
    def test_a_shortcut_beside_a_branch(self, main: nn.Module) -> None:
        """A 1×1 shortcut with stride 2 loses nothing where the main branch sees what it skips."""

        def block(self: Network, images: Tensor) -> Tensor:
            maps = F.relu(self.stem(images))
            return self.head(F.relu(self.main(maps) + self.shortcut(maps)).amax((2, 3)))

        stem, shortcut = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 1, 2)
        network = Network(block, stem=stem, main=main, shortcut=shortcut, head=nn.Linear(4, 2))
        assert codes(network) == ([] if main.kernel_size == (3, 3) else [("unseen-pixels", "main")])

    def test_a_place_counts_as_seen_where_its_shortcut_is(self) -> None:
        """What the two 1×1 convolutions skip in the sum has reached the 3×3 convolution of the block before."""

        def blocks(self: Network, images: Tensor) -> Tensor:
            maps = F.relu(self.stem(images))
            maps = F.relu(maps + self.inner(maps))
            return self.head(F.relu(self.main(maps) + self.shortcut(maps)).amax((2, 3)))

        layers = {
            "stem": nn.Conv2d(1, 4, 3, padding=1), "inner": nn.Conv2d(4, 4, 3, padding=1),
            "main": nn.Conv2d(4, 4, 1, 2), "shortcut": nn.Conv2d(4, 4, 1, 2), "head": nn.Linear(4, 2),
        }  # fmt: skip
        assert codes(Network(blocks, **layers)) == []
        layers["inner"] = nn.Conv2d(4, 4, 1)  # nobody has looked sideways
        assert ("unseen-pixels", "main") in codes(Network(blocks, **layers))

    def test_a_gate_does_not_see_for_the_map(self) -> None:
        """Squeeze and excitation sees the mean of all places, which does not carry any of them."""

        def gated(self: Network, images: Tensor) -> Tensor:
            maps = F.relu(self.stem(images))
            maps = maps * self.gate(maps.mean((2, 3), keepdim=True)).sigmoid()
            return self.head(F.relu(self.skip(maps)).amax((2, 3)))

        layers = {"stem": nn.Conv2d(1, 4, 3, padding=1), "gate": nn.Conv2d(4, 4, 1), "head": nn.Linear(4, 2)}
        gaps = found(Network(gated, skip=nn.Conv2d(4, 4, 1, 2), **layers))
        assert [one.code for one in gaps] == []  # the map before the gate is used whole, by the mean
        assert codes(Network(gated, skip=nn.Conv2d(4, 4, 3, 2, padding=1), **layers)) == []

    def test_dilation_that_meets_its_stride(self) -> None:
        (finding,) = found(ready(sequence(nn.Conv2d(1, 4, 3, 2, padding=2, dilation=2))))
        assert (finding.code, finding.numbers["unseen"]) == ("unseen-pixels", 48)
        assert "dilation" in finding.fix
        assert codes(ready(sequence(nn.Conv2d(1, 4, 3, 3, padding=2, dilation=2)), 7), 7) == []

    def test_slices(self) -> None:
        def sliced(self: Network, images: Tensor) -> Tensor:
            return self.head(F.relu(self.stem(images[:, :, ::2, ::2])).amax((2, 3)))

        network = Network(sliced, stem=nn.Conv2d(1, 4, 3, padding=1), head=nn.Linear(4, 2))
        (first, second) = found(network)
        assert {first.code, second.code} == {"unseen-pixels"}
        assert first.fix == "Pool, or convolve with a stride, instead of leaving pixels out."

    def test_nothing_is_said_of_what_is_not_known(self) -> None:
        def triangle(self: Network, images: Tensor) -> Tensor:
            return self.head(F.relu(self.stem(images.tril())).amax((2, 3)))

        network = Network(triangle, stem=nn.Conv2d(1, 4, 1, 2), head=nn.Linear(4, 2))
        (finding,) = found(network)
        assert (finding.code, finding.severity) == ("not-known", "note")
        assert "'tril' is not known" in finding.message


NETWORKS: dict[str, Callable[[Tensor], Tensor]] = {
    "stride": lambda x: F.conv2d(x, torch.ones(1, 1, 2, 2), stride=3),
    "pools": lambda x: F.avg_pool2d(F.avg_pool2d(x, 3, 2), 2, 3),
    "union": lambda x: F.pad(x[:, :, ::2, :], (0, 0, 0, 6)) + F.pad(x[:, :, :, 1::3], (0, 9)),
    "dilation": lambda x: F.conv2d(x, torch.ones(1, 1, 3, 2), stride=(2, 3), padding=(2, 0), dilation=2),
    "transposed": lambda x: F.conv_transpose2d(x, torch.ones(1, 1, 3, 3), stride=2)[:, :, 9:, ::4],
    "mirror": lambda x: F.pad(x[:, :, 3:, 3:], (2, 2, 2, 2), mode="reflect"),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (5, 3))[:, :, 1:4, :2],
    "flat": lambda x: F.avg_pool2d(x, 2, 3).flatten(1),
    "gate": lambda x: x[:, :, 2:9, 4:] * x[:, :, 0:7, 4:].mean((2, 3), keepdim=True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_used_pixels_are_those_with_a_gradient(name: str) -> None:
    """All weights and pixels are positive, so that nothing cancels."""
    operation = NETWORKS[name]
    network = Network(lambda _, images: operation(images))
    used = Coverage(trace(network, make_spec((1, 12, 13), 2))).used[PICTURE]
    images = torch.rand(1, 1, 12, 13, requires_grad=True)
    operation(images).sum().backward()
    assert images.grad is not None
    np.testing.assert_array_equal(used, images.grad[0, 0].numpy() != 0)
    assert used.any()


class TestKernelLargerThanInput:
    def test_weights_that_only_meet_padding(self) -> None:
        (finding,) = found(ready(sequence(nn.Conv2d(3, 4, 5, padding=2)), 2, 3), 2, 3)
        assert (finding.code, finding.where) == ("kernel-larger-than-input", "0")
        assert finding.numbers == {"weights": (25 - 9) * 3 * 4}
        assert "16 of its 25 weights per channel only ever meet padding, 192 of 300" in finding.message
        assert "at most 3×3" in finding.fix

    def test_larger_than_its_map_but_every_weight_meets_it(self) -> None:
        assert codes(ready(sequence(nn.Conv2d(1, 4, 3, padding=1)), 2), 2) == []

    def test_padding_put_there_before(self) -> None:
        network = ready(sequence(nn.ZeroPad2d(2), nn.Conv2d(1, 4, 5)), 2)
        assert codes(network, 2) == [("kernel-larger-than-input", "1")]
        assert codes(ready(sequence(nn.ReplicationPad2d(2), nn.Conv2d(1, 4, 5)), 2), 2) == []

    def test_dilation_and_groups(self) -> None:
        (finding,) = found(ready(sequence(nn.Conv2d(4, 4, 3, padding=4, dilation=4, groups=2)), 4, 4), 4, 4)
        assert finding.numbers == {"weights": 8 * 2 * 4}
        assert "(spread over 9×9)" in finding.message

    def test_only_one_axis(self) -> None:
        network = sequence(nn.Conv2d(1, 4, (1, 7), padding=(0, 3)))
        assert codes(ready(network, 4), 4) == []
        assert codes(ready(network, 3), 3) == [("kernel-larger-than-input", "0")]


class TestOneHeavyLayer:
    def flat(self, filters: int) -> nn.Module:
        convolution = nn.Conv2d(1, filters, 3, padding=1)
        return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(64 * filters, 10))

    def test_a_flattened_map(self) -> None:
        (finding,) = all_found(self.flat(4))
        assert (finding.code, finding.where) == ("one-heavy-layer", "3")
        assert finding.numbers == {"parameters": 2570, "total": 2610}
        assert "2,570 of the network's 2,610 parameters (98%)" in finding.message
        assert finding.fix.endswith("40 weights are left of 2,560.")

    def test_half_is_not_most(self) -> None:
        wide = nn.Conv2d(8, 2570, 1, bias=False)  # 20,560 weights against 64 · 8 · 40 + 40 = 20,520

        def both(self: Network, images: Tensor) -> Tensor:
            maps = self.first(images)
            return self.head(F.relu(maps).flatten(1)) + self.wide(F.relu(maps)).amax((1, 2, 3))[:, None]

        network = Network(both, first=nn.Conv2d(1, 8, 1), wide=wide, head=nn.Linear(512, 40))
        assert "one-heavy-layer" not in dict(all_codes(network))
        network.wide = nn.Conv2d(8, 2500, 1, bias=False)
        assert "one-heavy-layer" in dict(all_codes(network))

    def test_a_convolution_as_large_as_its_map(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 10, 8), nn.Flatten())
        (finding,) = all_found(network)
        assert (finding.code, finding.where) == ("one-heavy-layer", "2")
        assert "a convolution as large as its input" in finding.message

    def test_no_maps_to_average(self) -> None:
        pooled = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), GlobalAveragePool(), nn.Linear(4, 1000))
        assert all_codes(pooled) == []
        assert all_codes(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))) == []

    def test_a_network_that_cannot_be_traced(self) -> None:
        class Branching(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, images: Tensor) -> Tensor:
                return self.inner(images if images.sum() > 0 else -images)

        heavy, rest = all_found(Branching(self.flat(4)))
        assert (heavy.code, heavy.where, heavy.numbers["parameters"]) == ("one-heavy-layer", "inner.3", 2570)
        assert (rest.code, rest.severity) == ("not-known", "note")
        assert rest.message.startswith("The network cannot be traced")
        light = nn.Sequential(nn.Conv2d(1, 4, 1, 2), nn.ReLU(), GlobalAveragePool(), nn.Linear(4, 2))
        assert all_codes(Branching(light)) == [("not-known", "")]


class TestSmallField:
    @pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), GlobalAveragePool(), nn.AvgPool2d(6)])
    def test_a_global_pool(self, pool: nn.Module) -> None:
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(4, 2))
        (finding,) = all_found(network)
        assert (finding.code, finding.where) == ("small-field", "2")
        assert finding.numbers == {"field": 3, "side": 8, "share": 9 / 64}
        assert "a unit sees 3×3 pixels of pictures of 8×8, 14.1% of their area" in finding.message

    def test_half_of_the_side_is_enough(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.ReLU(), GlobalAveragePool())
        assert all_codes(network) == []
        assert all_codes(network, 9) == [("small-field", "4")]

    def test_a_fully_connected_layer_sees_everything(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 64, 1), nn.ReLU(), nn.Flatten())
        assert all_codes(nn.Sequential(*network, nn.Linear(64 * 36, 2))) == [("one-heavy-layer", "5")]

    def test_a_gate_is_no_head(self) -> None:
        def gated(self: Network, images: Tensor) -> Tensor:
            maps = F.relu(self.stem(images))
            maps = maps * self.gate(maps.mean((2, 3), keepdim=True)).sigmoid()
            return self.head(F.relu(self.body(maps)).mean((2, 3)))

        layers = {"stem": nn.Conv2d(1, 4, 2), "gate": nn.Conv2d(4, 4, 1), "head": nn.Linear(4, 2)}
        assert all_codes(Network(gated, body=nn.Conv2d(4, 4, 3), **layers)) == []


class TestDeepAndPlain:
    def plain(self, count: int, between: Callable[[], nn.Module] = nn.Identity) -> nn.Module:
        widths = [1, *[4] * count]
        pairs = pairwise(widths)
        layers = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), between(), nn.ReLU()) for a, b in pairs]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def test_more_than_a_dozen(self) -> None:
        (finding,) = found(self.plain(12))
        assert (finding.code, finding.where, finding.numbers) == ("deep-and-plain", "0.0", {"layers": 13})
        assert finding.message.startswith("From 0.0 to 14, 13 layers with weights follow one another")

    def test_a_dozen(self) -> None:
        assert codes(self.plain(11)) == []

    @pytest.mark.parametrize("norm", [lambda: nn.GroupNorm(2, 4), lambda: nn.LocalResponseNorm(3), nn.SELU])
    def test_norms(self, norm: Callable[[], nn.Module]) -> None:
        assert codes(self.plain(20, norm)) == []

    def test_what_an_activation_is_made_of_is_no_skip_connection(self) -> None:
        class Swish(nn.Module):
            def forward(self, maps: Tensor) -> Tensor:
                return maps * maps.sigmoid()

        assert codes(self.plain(12, Swish)) == [("deep-and-plain", "0.0")]

    def test_skip_connections(self) -> None:
        class Skip(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

            def forward(self, maps: Tensor) -> Tensor:
                return F.relu(maps + self.two(F.relu(self.one(maps))))

        blocks = [Skip() for _ in range(10)]
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *blocks, GlobalAveragePool(), nn.Linear(4, 2))
        assert codes(network) == []


class TestBiasBeforeNorm:
    def network(self, bias: bool, between: nn.Module) -> nn.Module:
        return ready(sequence(nn.Conv2d(1, 4, 3, bias=bias), between, nn.BatchNorm2d(4)))

    def test_directly(self) -> None:
        (finding,) = found(self.network(True, nn.Identity()))
        assert (finding.code, finding.where, finding.severity) == ("bias-before-norm", "0", "note")
        assert finding.numbers == {"layers": 1, "biases": 4}
        assert finding.message.startswith("0 has a bias right before batch norm")

    def test_no_bias_or_something_between(self) -> None:
        assert codes(self.network(False, nn.Identity())) == []
        assert codes(self.network(True, nn.ReLU())) == []

    def test_several_are_one_finding(self) -> None:
        layers = [nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4), nn.BatchNorm1d(4)]
        (finding,) = found(nn.Sequential(*layers))
        assert finding.numbers == {"layers": 2, "biases": 12}
        assert finding.message.startswith("1 and 1 more layer have a bias")


class TestNoNonLinearity:
    def between(self, *layers: nn.Module) -> list[tuple[str, str]]:
        last = nn.Conv2d(4, 4, 2)
        return codes(ready(sequence(nn.Conv2d(1, 4, 3), nn.Sequential(*layers), last)))

    @pytest.mark.parametrize(
        "linear", [nn.Identity(), nn.AvgPool2d(2), nn.Dropout(), nn.ZeroPad2d(1), BlurPool((3, 3), (1, 1), (1, 1))]
    )
    def test_linear_operations(self, linear: nn.Module) -> None:
        assert self.between(linear) == [("no-non-linearity", "2")]
        assert self.between(linear, nn.ReLU()) == []

    def test_norms_are_linear(self) -> None:
        assert self.between(nn.GroupNorm(2, 4)) == [("no-non-linearity", "2")]

    @pytest.mark.parametrize(
        "bent", [nn.MaxPool2d(2), nn.LayerNorm(6), nn.LocalResponseNorm(3), nn.Softmax(1), nn.Tanh()]
    )
    def test_non_linear_operations(self, bent: nn.Module) -> None:
        assert self.between(bent) == []

    def test_global_pooling_and_flattening(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 4, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        (finding,) = found(network)
        assert (finding.code, finding.where, finding.numbers) == ("no-non-linearity", "3", {"layers": 2})
        assert "Between 0 and 3 everything is linear" in finding.message

    def test_deliberate_factors(self) -> None:
        depthwise = nn.Conv2d(4, 4, 3, groups=4)
        assert codes(ready(sequence(depthwise, nn.Conv2d(4, 8, 1)), 8, 4), 8, 4) == []
        assert codes(ready(sequence(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 8, 1)), 8, 4), 8, 4) != []
        bottleneck = [nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Conv2d(8, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 8, 1)]
        bottleneck[2].bias = None
        assert codes(ready(sequence(*bottleneck))) == []
        bottleneck[2:5] = [nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)]
        assert codes(ready(sequence(*bottleneck))) == [("no-non-linearity", "3")]

    def test_sums(self) -> None:
        def after(self: Network, images: Tensor) -> Tensor:
            return self.head(self.squash(self.left(images) + self.right(images)).amax((2, 3)))

        layers = {"left": nn.Conv2d(1, 4, 3), "right": nn.Conv2d(1, 4, 3), "head": nn.Linear(4, 2)}
        assert codes(Network(after, squash=nn.ReLU(), **layers)) == []
        next_layer = nn.Conv2d(4, 4, 3)
        (finding,) = found(Network(after, squash=next_layer, **layers))
        assert (finding.code, finding.where, finding.numbers) == ("no-non-linearity", "squash", {"layers": 3})

    def test_a_residual_stream_is_not_linear(self) -> None:
        def stream(self: Network, images: Tensor) -> Tensor:
            maps = F.relu(self.stem(images))
            return self.head(F.relu(self.two(maps + self.one(maps))).amax((2, 3)))

        layers = {"stem": nn.Conv2d(1, 4, 3), "one": nn.Conv2d(4, 4, 3, padding=1), "two": nn.Conv2d(4, 4, 3)}
        assert codes(Network(stream, head=nn.Linear(4, 2), **layers)) == []


class TestSoftmaxBeforeLoss:
    def network(self, *last: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 2), *last)

    def test_twice(self) -> None:
        (finding,) = found(self.network(nn.Softmax(1)))
        assert (finding.code, finding.where) == ("softmax-before-loss", "2")
        assert finding.fix == "Let the network return what goes into 2."
        assert codes(self.network(nn.Softmax(1), nn.Flatten())) == [("softmax-before-loss", "2")]

    def test_the_softmax_of_its_logarithm_is_the_same(self) -> None:
        assert codes(self.network(nn.LogSoftmax(1))) == []
        images = torch.randn(4, 5)
        torch.testing.assert_close(images.softmax(1).log().softmax(1), images.softmax(1))

    def test_logits_or_a_loss_without_softmax(self) -> None:
        assert codes(self.network()) == []
        assert codes(self.network(nn.Softmax(1)), loss="hinge") == []
        assert codes(self.network(nn.Softmax(1), nn.Linear(2, 2))) == []


def deserved(name: str) -> set[str]:
    """Return what a network of the zoo deserves at its paper's size: all others deserve nothing."""
    flattened = {"alexnet", "alexnet_paper", "zfnet", "zfnet_paper", "lenet5", "lenet5_paper"}
    codes = {"one-heavy-layer"} if name in flattened or name.startswith("vgg") else set()
    if name in ("vgg13", "vgg16", "vgg19"):  # VGG-11 has 11 layers
        codes.add("deep-and-plain")
    if name.endswith("_bn") or name == "bninception":  # the weights in circulation have biases
        codes.add("bias-before-norm")
    if name in ("nin_imagenet", "speednet"):  # (224 − 11) mod 4 = 1; 31, 15 and 7 pixels are halved, as in the papers
        codes.add("lost-rows")
    return codes


@pytest.mark.parametrize("name", marked(ZOO.names(), is_deep))
def test_the_zoo_gets_what_it_deserves(name: str) -> None:
    spec = ZOO.get(name).spec
    findings = advise(build_on_meta(name, spec), spec)
    codes = list(dict.fromkeys(finding.code for finding in findings))  # of speednet, each of three pools loses rows
    assert codes == sorted(deserved(name), key=ORDER.index)


ORDER = ["lost-rows", "one-heavy-layer", "deep-and-plain", "bias-before-norm"]


@pytest.mark.parametrize(
    ("name", "code", "where", "numbers"),
    [
        ("vgg16", "one-heavy-layer", "classifier.0", {"parameters": 102_760_448 + 4096, "total": 138_357_544}),
        ("vgg16", "deep-and-plain", "features.0", {"layers": 16}),
        ("alexnet", "one-heavy-layer", "classifier.1", {"parameters": 37_752_832, "total": 61_100_840}),
        ("lenet5", "one-heavy-layer", "c5", {"parameters": 48_120, "total": 61_706}),
        ("nin_imagenet", "lost-rows", "blocks.0.0", {"lost_rows": 1, "lost_columns": 1}),
    ],
)
def test_the_numbers(name: str, code: str, where: str, numbers: dict[str, int]) -> None:
    spec = ZOO.get(name).spec
    (finding,) = [one for one in advise(build_on_meta(name, spec), spec) if one.code == code]
    assert (finding.where, finding.numbers) == (where, numbers)


def test_a_geometry_at_hand_is_not_traced_again_and_takes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ZOO.get("resnet101").spec
    network = build_on_meta("resnet101", spec)
    known: Geometry = geometry(network, spec)
    known.receptive_field("layer4")
    monkeypatch.setattr("striate.networks.advice.trace", None)
    start = time.process_time()
    assert st.advise(network, spec, geometry=known) == ()
    assert time.process_time() - start < 2  # 0.1 s, and some for a busy machine


def test_a_network_that_does_not_fit_is_refused() -> None:
    with pytest.raises(st.NetworkError, match="cannot take a picture of 1×8×8"):
        found(nn.Linear(9, 2))
