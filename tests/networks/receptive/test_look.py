"""What units see, against the support of the gradient: of the zoo's twins, and of networks drawn at random."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as some
from torch import Tensor, nn
from torch.nn import functional as F

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.facts import read_facts
from striate.networks.geometry import Geometry, geometry
from striate.networks.receptive.sight import Unknown
from striate.networks.zoo import ZOO
from tests.networks.receptive.twin import box_around, run_twin, seen
from tests.networks.zoo.test_zoo import is_slow, make_spec, marked

LARGEST_FIELD = 700  # pixels: beyond it, the stages below it are compared
MARGIN = 40  # pixels by which the picture is larger than the field


def stages_of(name: str, side: int) -> tuple[nn.Module, Geometry, list[str]]:
    """Return the network, its geometry and the nodes where its stages end, as far as they are maps."""
    spec = make_spec((ZOO.get(name).shape[0], side, side), 10)
    network = build_on_meta(name, spec)
    known = geometry(network, spec)
    paths = [path for path in network.stages if any(node.module.startswith(path) for node in known.graph.nodes)]
    ends = [known.graph.last_of(path) for path in paths]
    return network, known, [node.name for node in ends if len(node.shape) == 4]


def in_and_at_the_border(known: Geometry, name: str) -> list[tuple[int, int]]:
    rows, columns = known.graph[name].shape[2:]
    return [(rows // 2, columns // 2), (0, columns - 1)]


@pytest.mark.parametrize("name", marked(ZOO.names(), is_slow))
def test_the_zoos_units_see_what_their_gradient_says(name: str) -> None:
    if not read_facts()[name].field:
        pytest.skip("it has no maps")
    side = min(max(read_facts()[name].field), LARGEST_FIELD) + MARGIN
    side = max(side, *ZOO.get(name).shape[1:]) | 1
    network, known, ends = stages_of(name, side)
    picture, values = run_twin(network, ZOO.get(name).shape[0], side)
    compared = whole = 0
    for end in ends:
        field = known.receptive_field(end)
        assert field is not None
        if max(field.size) > LARGEST_FIELD:
            break
        for unit in in_and_at_the_border(known, end):
            box = known.sees(end, unit)
            assert box == seen(picture, values[end], unit), (end, unit)
            compared += 1
        box = known.sees(end, in_and_at_the_border(known, end)[0])
        if box and all(first > 0 and last < side - 1 for first, last in box):  # nothing is cut off
            assert tuple(last - first + 1 for first, last in box) == field.size, end
            whole += 1
    assert compared >= 2
    assert whole >= 1


class Drawn(nn.Module):
    """A network with branches, drawn at random; all weights positive, so that no two paths cancel."""

    def __init__(self, draw: Callable[[some.SearchStrategy[int]], int]) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        self.plan: list[str] = []
        for _ in range(draw(some.integers(1, 6))):
            self._add(draw)
        for parameter in self.parameters():
            parameter.data.fill_(0.5)

    def _add(self, draw: Callable[[some.SearchStrategy[int]], int]) -> None:
        kind = draw(some.integers(0, 9))
        kernel, dilation = draw(some.integers(1, 4)), draw(some.integers(1, 3))
        stride, padding = draw(some.integers(1, 3)), draw(some.integers(0, 3))
        reach = dilation * (kernel - 1)
        wide = min(dilation, 2)
        modes = ("zeros", "reflect", "replicate", "circular")
        layer: nn.Module
        if kind <= 2:
            layer = nn.Conv2d(4, 4, kernel, stride, min(padding, reach + 1), dilation, groups=(1, 2, 4)[kind])
        elif kind == 3:
            layer = nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1, padding_mode=modes[padding]), nn.AvgPool2d(kernel, stride, kernel // 2)
            )
        elif kind == 4:
            layer = nn.ConvTranspose2d(4, 4, kernel + 1, min(stride, kernel + 1), min(padding, 1))
        elif kind == 5:
            layer = nn.AdaptiveAvgPool2d((kernel + 1, stride + 2))
        elif kind == 6:
            layer = nn.Upsample(scale_factor=stride + (padding == 1) * 0.5, mode=("nearest", "bilinear")[dilation % 2])
        elif kind == 7:
            layer = nn.AvgPool2d(kernel, stride, kernel // 2, ceil_mode=True)
        else:
            layer = nn.ModuleList(
                nn.Conv2d(4, 4, sides, padding="same", dilation=wide) for sides in ((kernel, 3), (1, kernel))
            )
        self.steps.append(layer)
        self.plan.append((("one",) * 8 + ("sum", "halves"))[kind])

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.cat([images, images, images, images], 1)
        for how, step in zip(self.plan, self.steps, strict=True):
            if how == "one":
                maps = step(maps)
            elif how == "sum":
                maps = maps + step[1](step[0](maps))
            else:  # half of the channels through one branch, half through another, and on as one or apart
                left, right = step[0](maps)[:, :2], step[1](maps)[:, 2:]
                maps = torch.cat([right, left * left.mean((2, 3), keepdim=True)], 1)
        return maps


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(some.data())
def test_networks_drawn_at_random(data: some.DataObject) -> None:
    network = Drawn(data.draw).double().eval()
    rows, columns = data.draw(some.integers(9, 40)), data.draw(some.integers(9, 40))
    spec = make_spec((1, rows, columns), 2)
    try:
        with torch.no_grad():
            network(torch.zeros(1, 1, rows, columns, dtype=torch.float64))
        known = geometry(network, spec)
    except (RuntimeError, st.NetworkError):
        reject()  # a kernel larger than its map
    assert known.graph.traced
    picture = torch.ones(1, 1, rows, columns, dtype=torch.float64, requires_grad=True)
    output = network(picture)
    height, width = output.shape[2:]
    for unit in {(0, 0), (height - 1, 0), (height // 2, width // 2), (height - 1, width - 1), (0, width // 2)}:
        (gradient,) = torch.autograd.grad(output[0, :, unit[0], unit[1]].sum(), picture, retain_graph=True)
        assert known.sees(known.graph.outputs[0], unit) == box_around(gradient), (network, unit)


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.own = nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images * self.own)


def shuffle_channels(x: Tensor) -> Tensor:
    return x.view(len(x), 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


LAYERS = (
    "conv 4 padmode constant 0.5 pad 1 | maxpool 2 | sumpool 2 stride 1 | l2pool 2 | medianpool 2 | conv 3",
    "conv 4 bn lrn dropout 0.5 relu | blurpool 2 ceil | adaptive avg 5x4 | adaptive max 3",
    "conv 6 maxout 2 prelu | conv 4 padmode wrap pad 1 stride 3 | conv 3 padmode nearest pad 1 | medianpool 3 stride 2",
    "fixed kirsch | fixed sharpen | 2x(conv 8 leaky 0.1) | add(conv 8 pad 1 ; conv 8@1x1) | concat(gmp ; gap)",
)


@pytest.mark.parametrize("text", LAYERS)
def test_every_layer_of_a_network_text_is_known(text: str) -> None:
    spec = make_spec((1, 29, 31), 2)
    known = geometry(st.build(text, spec), spec)
    assert known.notes == ()
    assert known.receptive_field(known.graph.outputs[0]) is not None


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "interpolated to a size": lambda x: F.interpolate(x, size=(7, 29)),
    "bilinear": lambda x: F.interpolate(x, size=(7, 29), mode="bilinear"),
    "bilinear with corners": lambda x: F.interpolate(x, size=(5, 31), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, scale_factor=2.0, mode="bicubic"),
    "pixels shuffled": lambda x: F.pixel_shuffle(x, 2),
    "pixels unshuffled": lambda x: F.pixel_unshuffle(x[:, :, :16, :20], 2),
    "channels last and back": lambda x: F.avg_pool2d(torch.relu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), 3, 2),
    "channels shuffled": lambda x: F.avg_pool2d(shuffle_channels(x), 2),
    "narrowed": lambda x: F.avg_pool2d(x.narrow(2, 3, 9), 2),
    "every second row": lambda x: x[:, :, 1::2, -6:],
    "the edges repeated": lambda x: F.avg_pool2d(F.pad(x, (2, 1, 3, 0), mode="replicate"), 3),
    "padding by its own name": lambda x: F.avg_pool2d(torch.ops.aten.replication_pad2d(x, (4, 1, 3, 0)), 3),
    "cropped": lambda x: F.pad(x, (-2, 1, -3, 0)),
    "rows summed": lambda x: x.mean(2, keepdim=True) + x,
    "squeezed and excited": lambda x: F.avg_pool2d(x * torch.sigmoid(x.mean((2, 3), keepdim=True)), 3),
    "neighbouring channels": lambda x: F.local_response_norm(F.avg_pool2d(x, 2), 3),
    "group norm": lambda x: F.group_norm(F.avg_pool2d(x, 2), 2),
    "largest of channels": lambda x: F.avg_pool2d(x.view(len(x), 2, 2, *x.shape[2:]).amax(2), 2),
    "halves stacked": lambda x: torch.cat(F.avg_pool2d(x, 3).chunk(2, 1)[::-1], 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_beyond_layers(name: str) -> None:
    torch.manual_seed(0)
    network = Function(FUNCTIONS[name]).double()
    known = geometry(network, make_spec((4, 17, 21), 2))
    picture = torch.rand(1, 4, 17, 21, dtype=torch.float64).add(1).requires_grad_()
    output = network(picture)
    height, width = output.shape[2:]
    for unit in {(0, 0), (height - 1, width // 3), (height // 2, width - 1)}:
        (gradient,) = torch.autograd.grad(output[0, :, unit[0], unit[1]].pow(2).sum(), picture, retain_graph=True)
        assert known.sees(known.graph.outputs[0], unit) == box_around(gradient), unit


def test_the_larger_of_two_sees_both_though_its_gradient_takes_one() -> None:
    known = geometry(Function(lambda x: torch.max(x, F.avg_pool2d(x, 3, 1, 1))), make_spec((4, 17, 21), 2))
    field = known.receptive_field(known.graph.outputs[0])
    assert field is not None
    assert (field.size, field.offset) == ((3, 3), (-1, -1))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: torch.flip(x, [2]), "the operation 'flip' is not known"),
        (lambda x: x.flatten(1)[:, 5:9], "it takes some of several features"),
        (lambda x: x.flatten(1).view(len(x), 4, 17, 21), "it divides features that see different parts"),
        (lambda x: x @ x.transpose(2, 3), "both of its factors are computed from the picture"),
        (lambda x: F.conv2d(x, x.mean((2, 3), keepdim=True)), "its filters are computed from the picture"),
    ],
)
def test_what_is_not_known_is_said_and_never_guessed(function: Callable[[Tensor], Tensor], reason: str) -> None:
    known = geometry(Function(function), make_spec((4, 17, 21), 2))
    last = known.graph.outputs[0]
    assert known.receptive_field(last) is None
    assert any(reason in note for note in known.notes)
    with pytest.raises(st.NetworkError, match=reason):
        known.sees(last, (0, 0))
    assert isinstance(known._sights[last], Unknown)


@functools.cache
def lenet() -> Geometry:
    spec = make_spec((1, 28, 28), 10)
    return geometry(build_on_meta("lenet5", spec), spec)


def test_size_jump_and_offset_of_lenet() -> None:
    c1, s2, c3, s4 = (lenet().receptive_field(layer) for layer in ("c1", "s2", "c3", "s4"))
    assert [field.size for field in (c1, s2, c3, s4)] == [(5, 5), (6, 6), (14, 14), (16, 16)]
    assert [field.jump for field in (c1, s2, c3, s4)] == [(1, 1), (2, 2), (2, 2), (4, 4)]
    assert [field.offset for field in (c1, s2, c3, s4)] == [(-2, -2)] * 4
    assert all(field.regular for field in (c1, s2, c3, s4))


def test_a_unit_at_the_border_sees_less() -> None:
    assert lenet().sees("c1", (0, 14)) == ((0, 2), (12, 16))
    assert lenet().sees("s4", (4, 4)) == ((14, 27), (14, 27))
    assert lenet().sees("head", (0, 0)) == ((0, 27), (0, 27))
    with pytest.raises(st.NetworkError, match="The map of c1 is 28×28 units, so there is no unit \\(28, 0\\)"):
        lenet().sees("c1", (28, 0))
    with pytest.raises(st.NetworkError, match="No operation of the network belongs to a module 'c9'"):
        lenet().sees("c9", (0, 0))


def test_a_unit_that_sees_padding_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1, padding=2))
    known = geometry(network, make_spec((1, 6, 6), 2))
    assert known.sees("0", (1, 3)) is None
    assert known.sees("0", (2, 3)) == ((0, 0), (1, 1))
