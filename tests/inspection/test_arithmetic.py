from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.inspection.arithmetic import UnitArithmetic, explain_unit, explain_units, explainable_layers
from striate.inspection.patches import view
from striate.inspection.record import record
from striate.inspection.subject import subject_of
from striate.networks.layers import BlurPool, FixedConv, GlobalAveragePool, GlobalMaxPool, L2Pool, MedianPool, SumPool
from striate.networks.zoo import ZOO
from striate.networks.zoo.bninception import HalvingPool
from striate.networks.zoo.lenet import Subsampling, TableConvolution
from tests.inspection import subjects
from tests.networks.zoo.test_zoo import smallest_spec


def agrees(unit: UnitArithmetic) -> bool:
    """Whether a unit's value is what the network returned, to the error of adding so many float32 products."""
    amount = abs(unit.bias) + float((unit.patch.abs() if unit.products is None else unit.products.abs()).sum())
    if unit.rule == "norm":
        amount = unit.value
    return math.isclose(unit.value, unit.activation, rel_tol=0, abs_tol=4e-6 * amount + 1e-12)


DEEP = ("inception_v3", "inception_v4", "inception_resnet_v2", "densenet121")  # seconds each; the slow test has them


@pytest.mark.parametrize("name", [*(name for name in subjects.ZOO if name not in DEEP), *subjects.FOREIGN])
def test_a_unit_of_each_kind_of_layer_is_what_the_network_returned(name: str) -> None:
    network = subjects.build(name)
    kinds = {type(layer): path for path, layer in explainable_layers(network).items() if not path.startswith("aux")}
    assert kinds
    for unit in explain_units(network, subjects.pictures(name, 1), [(path, 1) for path in kinds.values()]):
        assert agrees(unit), unit
        assert unit.unit[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO.names())
def test_every_layer_of_the_zoo(name: str) -> None:
    spec = smallest_spec(name)
    network = subjects.settle(st.build(name, spec, seed=0), spec.input.shape)
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (1, *spec.input.shape), generator=generator, dtype=torch.uint8)
    paths = [path for path in explainable_layers(network) if not path.lower().startswith("aux")]
    shapes = {unit.layer: unit.output_shape for unit in explain_units(network, picture, [(path, 0) for path in paths])}
    wanted = [
        (path, unit)
        for path, shape in shapes.items()
        for unit in dict.fromkeys(
            [tuple(size // 2 for size in shape), tuple(size - 1 for size in shape), (0,) * len(shape)]
        )
    ]
    for unit in explain_units(network, picture, wanted):
        assert agrees(unit), unit


class One(nn.Module):
    """A network of one layer between two others, which takes maps (2 channels) of as many axes as it wants."""

    def __init__(self, layer: nn.Module, axes: int = 2) -> None:
        super().__init__()
        self.axes = axes
        self.first = nn.Conv2d(1, 2, 1)
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)  # (N, 2, 12, 12)
        if self.axes == 1:
            maps = maps.flatten(2)  # (N, 2, 144)
        if self.axes == 3:
            maps = maps.reshape(len(maps), 2, 4, 6, 6)
        maps = self.layer(maps)
        return maps.flatten(2).mean(2) if maps.ndim > 2 else maps


def a_picture() -> Tensor:
    return torch.randint(0, 256, (1, 1, 12, 12), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


CONV = {
    "strided, dilated, in groups": lambda: nn.Conv2d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2),
    "reflect": lambda: nn.Conv2d(2, 3, 5, padding=(2, 4), padding_mode="reflect"),
    "replicate": lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="replicate"),
    "circular": lambda: nn.Conv2d(2, 3, (3, 5), padding=2, padding_mode="circular", bias=False),
    "same, even": lambda: nn.Conv2d(2, 3, (4, 2), padding="same"),
    "valid": lambda: nn.Conv2d(2, 3, 4, padding="valid"),
    "depthwise": lambda: nn.Conv2d(2, 6, 3, padding=1, groups=2),
    "fixed": lambda: FixedConv("kirsch", 2),
}
POOLS = {
    "max": lambda: nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True),
    "average, padding counts": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "average, padding does not count": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "average by another divisor": lambda: nn.AvgPool2d((3, 2), divisor_override=5),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d((5, None)),
    "adaptive max": lambda: nn.AdaptiveMaxPool2d((5, 7)),
    "sum": lambda: SumPool((3, 3), (2, 2), (1, 1), True),
    "L2": lambda: L2Pool((3, 3), (2, 2), (1, 1), True),
    "median": lambda: MedianPool((3, 3), (2, 2), (1, 1), True),
    "blur": lambda: BlurPool((3, 3), (2, 2), (1, 1), True),
    "global average": GlobalAveragePool,
    "global max": GlobalMaxPool,
}
OTHER_AXES = {
    "conv 1d": (lambda: nn.Conv1d(2, 3, 5, stride=3, padding=2, padding_mode="reflect"), 1),
    "max 1d": (lambda: nn.MaxPool1d(5, 3, 2, ceil_mode=True), 1),
    "average 1d": (lambda: nn.AvgPool1d(5, 3, 2, ceil_mode=True), 1),
    "adaptive 1d": (lambda: nn.AdaptiveAvgPool1d(5), 1),
    "sum 1d": (lambda: SumPool((5,), (3,), (2,), True), 1),
    "conv 3d": (lambda: nn.Conv3d(2, 3, 3, stride=(1, 2, 2), padding=1), 3),
    "max 3d": (lambda: nn.MaxPool3d(2, ceil_mode=True), 3),
    "average 3d": (lambda: nn.AvgPool3d(3, 2, 1), 3),
    "adaptive 3d": (lambda: nn.AdaptiveMaxPool3d((2, 5, 3)), 3),
    "blur 3d": (lambda: BlurPool((3, 3, 3), (2, 2, 2), (1, 1, 1)), 3),
}
KINDS = {name: (make, 2) for name, make in (CONV | POOLS).items()} | OTHER_AXES


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # PyTorch copies; the numbers are right
@pytest.mark.parametrize("name", KINDS)
def test_units_inside_and_at_each_border_of_every_kind_of_layer(name: str) -> None:
    make, axes = KINDS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = One(make(), axes)
    picture = a_picture()
    shape = explain_unit(network, picture, "layer", 0).output_shape
    first, last = (0,) * len(shape), tuple(size - 1 for size in shape)
    middle, mixed = tuple(size // 2 for size in shape), (*shape[:1], *(0 if odd % 2 else 1 for odd in shape[1:]))
    places = dict.fromkeys([first, last, middle, tuple(min(one, end) for one, end in zip(mixed, last, strict=True))])
    for unit in explain_units(network, picture, [("layer", place) for place in places]):
        assert agrees(unit), unit


def test_every_kind_that_is_known_is_tried() -> None:
    known = set(view.registry) - {object, nn.Module}
    tried = {type(make()) for make, _ in KINDS.values()}
    tried |= {nn.Linear, HalvingPool, Subsampling, TableConvolution}  # in networks of `subjects.ZOO`
    twins = {nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d}  # as their neighbours of other dimensions
    assert known - tried <= twins


def test_the_numbers_of_a_unit_written_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 2), nn.ReLU(), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[[[1.0, -2.0], [0.0, 3.0]]]]))
        network[0].bias.fill_(0.5)
    picture = torch.tensor([[[[255, 0], [51, 255]]]], dtype=torch.uint8)
    unit = explain_unit(network, picture, "0", (0, 0, 0))
    assert unit.products is not None
    assert unit.patch.flatten().tolist() == pytest.approx([1, 0, 0.2, 1])
    assert unit.products.flatten().tolist() == pytest.approx([1, 0, 0, 3])
    assert unit.value == pytest.approx(4.5)
    assert unit.weight_length * unit.patch_length * unit.cosine == pytest.approx(4)
    assert unit.weight_length == pytest.approx(math.sqrt(14))
    assert unit.following == (("ReLU", pytest.approx(4.5)),)
    assert str(unit).splitlines() == [
        "0 (convolution 2×2): channel 0, row 0, column 0 of 1×1×1",
        "  It sees channel 0, rows 0–1, columns 0–1 of the layer's input of 1×2×2.",
        "  Σ weight · input = 3 · 1 + 1 · 1 + (−2 · 0) + 0 · 0.2 = 4.",
        "  The same as |w| · |x| · cos θ = 3.742 · 1.428 · 0.7485, with θ = 42°.",
        "  With the bias: 4 + 0.5 = 4.5.",
        "  Then ReLU: 4.5.",
    ]


@pytest.mark.parametrize(
    ("name", "layer", "after"),
    [
        ("resnet18", "layer1.0.conv1", ["layer1.0.bn1", "layer1.0.relu"]),
        ("in place", "first", ["norm", "act"]),
    ],
)
def test_what_follows_is_what_the_layers_after_it_returned(name: str, layer: str, after: list[str]) -> None:
    network, picture = subjects.build(name), subjects.pictures(name, 1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.add_(0.1)
                module.running_var.mul_(2)
                module.bias.sub_(0.03)
    unit = explain_unit(network, picture, layer, (3, 2, 5))
    stages = [path for path in after if path in dict(network.named_modules())]
    recording = record(network, subject_of(network, picture).inputs, stages[:1])
    assert unit.following[0] == (
        "batch normalisation",
        pytest.approx(float(recording.activations[after[0]][0][unit.unit]), rel=1e-5),
    )
    assert unit.following[1] == ("ReLU", pytest.approx(max(0.0, unit.following[0][1])))


def test_what_follows_is_not_known_where_nothing_can_be_traced() -> None:
    unit = explain_unit(subjects.build("untraceable"), subjects.pictures("untraceable", 1), "conv", 0)
    assert not unit.following
    assert "What follows is not known" in str(unit)


def test_a_channel_alone_is_taken_where_it_answers_most() -> None:
    network, picture = subjects.build("lenet5"), subjects.pictures("lenet5", 1)
    unit = explain_unit(network, picture, "c1", 2)
    maps = record(network, subject_of(network, picture).inputs, ["c1"]).activations["c1"]
    assert unit.activation == float(maps[0, 2].max())


def test_the_weights_of_a_fully_connected_layer_are_a_picture_again() -> None:
    network = subjects.build("feedforward1")
    layer = next(iter(explainable_layers(network)))
    assert explain_unit(network, subjects.pictures("feedforward1", 1), layer, 0).patch.shape == (1, 28, 28)


def test_the_network_is_left_as_it_was() -> None:
    network = subjects.build("in place").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    explain_unit(network, subjects.pictures("in place", 1), "second", 0)
    assert network.training
    assert network.norm.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("kind", ["conv 3d", "conv 1d", "max", "L2", "median", "global average", "reflect"])
def test_every_kind_is_drawn_the_same_each_time(kind: str) -> None:
    make, axes = KINDS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = One(make(), axes)
    unit = explain_unit(network, a_picture(), "layer", 0)
    first, second = unit.draw(), unit.draw()
    assert first.png() == second.png()
    colours = first.image.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 20


def test_what_cannot_be_explained_is_said() -> None:
    network, picture = subjects.build("lenet5"), subjects.pictures("lenet5", 1)
    with pytest.raises(st.NetworkError, match=r"no layer 'c11'\. Did you mean 'c1'\?"):
        explain_unit(network, picture, "c11", 0)
    foreign = subjects.build("in place")
    shown = subjects.pictures("in place", 1)
    with pytest.raises(st.NetworkError, match=r"'norm' is a BatchNorm2d: only .* Here they are first, second, head\."):
        explain_unit(foreign, shown, "norm", 0)
    with pytest.raises(st.NetworkError, match=r"\(channel, row, column\) .* output of 8×32×32; got \(8, 0, 0\)"):
        explain_unit(foreign, shown, "first", (8, 0, 0))
    with pytest.raises(st.NetworkError, match=r"output of 8×32×32; got \(1, 0\)"):
        explain_unit(foreign, shown, "first", (1, 0))
    with pytest.raises(st.NetworkError, match=r"\(feature\) .* output of 5; got 5"):
        explain_unit(foreign, shown, "head", 5)
    with pytest.raises(st.NetworkError, match=r"'layer1' holds several layers\. Name one of them: layer1\.0\.conv1"):
        explain_unit(subjects.build("resnet18"), subjects.pictures("resnet18", 1), "layer1", 0)
    with pytest.raises(st.NetworkError, match="does not use the layer"):
        explain_unit(subjects.build("googlenet"), subjects.pictures("googlenet", 1), "aux2.fc1", 0)
    with pytest.raises(st.DataError, match="One picture is explained at a time, got 2"):
        explain_unit(network, subjects.pictures("lenet5", 2), "c1", 0)
    with pytest.raises(st.DataError, match="must be uint8"):
        explain_unit(network, torch.zeros(1, 28, 28), "c1", 0)
