from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.core.errors import NetworkError, StriateError
from striate.networks.text import NetworkTextError, build_text, parse, underlined_finding
from striate.networks.text.tree import Flatten, FullyConnected, Item, NetworkText

LENET = (
    "conv 6@5x5 pad 2 tanh | avgpool 2 | conv 16@5x5 tanh | avgpool 2 | "
    "conv 120@5x5 tanh | flatten | fc 84 tanh | fc 10"
)
RESIDUAL = """
stem: conv 16@3x3 pad 1 nobias bn relu
2x( add( conv 16 pad 1 nobias bn relu | conv 16 pad 1 nobias bn ) relu )
add( conv 32 stride 2 pad 1 bn relu | conv 32 pad 1 bn ) relu
concat( conv 8@1x1 relu ; conv 8@3x3 pad 1 relu ; maxpool 3 stride 1 pad 1 | conv 8@1x1 )
gap
head: fc 10
"""


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_lenet_has_61706_parameters_on_28_pixels_and_on_32() -> None:
    network = build_text(LENET, (1, 28, 28))
    assert parameters(network) == 61_706
    assert parameters(build_text(LENET.replace(" pad 2", ""), (1, 32, 32))) == 61_706
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert network.findings == ()
    assert list(network.stages) == [
        "conv1",
        "avgpool1",
        "conv2",
        "avgpool2",
        "conv3",
        "flatten1",
        "fc1",
        "fc2",
    ]
    assert network.text == LENET


def test_worked_numbers() -> None:
    ten = build_text("conv 10@5x5 pad 2", (3, 32, 32))
    assert parameters(ten) == 760
    assert ten(torch.zeros(1, 3, 32, 32)).shape == (1, 10, 32, 32)
    assert parameters(build_text("conv 1@5x5 nobias", (3, 5, 5))) == 75
    assert build_text("conv 6@5x5", (3, 32, 32))(torch.zeros(1, 3, 32, 32)).shape == (1, 6, 28, 28)
    assert parameters(build_text("fc 1 nobias", (1, 28, 28))) == 784
    assert parameters(build_text("conv 1@5x5 nobias", (1, 28, 28))) == 25


def test_a_residual_network_runs_and_names_its_parts() -> None:
    network = build_text(RESIDUAL, (3, 9, 9))
    assert list(network.stages) == ["stem", "repeat1", "add1", "concat1", "gap1", "head"]
    assert network.head is network.get_submodule("body.head.fc")
    assert network(torch.zeros(2, 3, 9, 9)).shape == (2, 10)
    names = list(network.state_dict())
    assert "body.stem.conv.weight" in names
    assert "body.repeat1.1.add1.add.body.conv2.bn.running_mean" in names
    assert network.get_submodule("body.add1.add.shortcut").stride == (2, 2)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in names)


def test_the_text_of_a_network_builds_it_again() -> None:
    torch.manual_seed(0)
    first = build_text(RESIDUAL, (3, 9, 9))
    torch.manual_seed(0)
    second = build_text(first.text, first.input_shape)
    for (name, one), (other_name, other) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert name == other_name
        assert torch.equal(one, other)


def test_copies_of_a_repeat_are_independent() -> None:
    network = build_text("2x(conv 4 pad 1)", (4, 5, 5))
    one, other = (network.get_parameter(f"body.repeat1.{copy}.conv1.conv.weight") for copy in (0, 1))
    assert not torch.equal(one, other)


def test_meta_builds_without_memory() -> None:
    with torch.device("meta"):
        network = build_text("fixed sobel | blurpool 3 stride 2 | fc 1000000 relu | fc 1000000 selu", (3, 64, 64))
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert parameters(network) > 10**12


def test_maxout_leaves_a_share_of_the_filters() -> None:
    network = build_text("conv 16@3x3 maxout 2 bn prelu", (1, 8, 8))
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 8, 6, 6)


def test_fc_flattens_maps_by_itself() -> None:
    assert build_text("fc 10", (3, 4, 4))(torch.zeros(2, 3, 4, 4)).shape == (2, 10)


def test_sequences_and_volumes() -> None:
    text = "conv1d 8@5 pad same relu | maxpool 2 | add(conv1d 16 stride 2 pad 1) | gap | fc 3"
    assert build_text(text, (4, 50))(torch.zeros(2, 4, 50)).shape == (2, 3)
    text = "conv3d 8 pad same bn relu | l2pool 2 | gmp | fc 3"
    assert build_text(text, (1, 6, 8, 8))(torch.zeros(2, 1, 6, 8, 8)).shape == (2, 3)


def test_a_flat_residual_is_projected() -> None:
    assert build_text("add(fc 8 relu) | fc 3", (5,))(torch.zeros(2, 5)).shape == (2, 3)


def test_a_tree_made_by_hand_builds() -> None:
    network = NetworkText((Item(Flatten()), Item(FullyConnected(5), "head")))
    assert build_text(network, (1, 2, 2)).text == "flatten | head: fc 5"


@pytest.mark.parametrize(
    ("text", "deviation"),
    [
        ("conv 64@3x3 relu", (2 / 144) ** 0.5),
        ("conv 64@3x3 | bn | maxpool 2 | relu", (2 / 144) ** 0.5),
        ("conv 64@3x3 leaky 0.5", (2 / 1.25 / 144) ** 0.5),
        ("conv 64@3x3 selu", (1 / 144) ** 0.5),
        ("conv 64@3x3 tanh", (2 / (144 + 576)) ** 0.5),
        ("conv 64@3x3", (2 / (144 + 576)) ** 0.5),
        ("add(conv 64@3x3 pad 1) relu", (2 / 144) ** 0.5),
    ],
)
def test_weights_are_drawn_for_the_activation_that_follows(text: str, deviation: float) -> None:
    torch.manual_seed(0)
    network = build_text(text, (16, 8, 8))
    (conv, *_) = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert float(conv.weight.detach().std()) == pytest.approx(deviation, rel=0.05)
    assert conv.bias is not None
    assert not conv.bias.any()


def test_rows_that_no_filter_sees_are_warned_of() -> None:
    text = "conv 16@5x5 stride 3 | gap | fc 10"
    (finding,) = build_text(text, (1, 28, 28)).findings
    assert (finding.code, finding.severity, finding.where) == ("lost-rows", "warning", "conv1")
    assert finding.numbers["lost_rows"] == finding.numbers["lost_columns"] == 2
    assert underlined_finding(text, finding) == (
        "conv 16@5x5 stride 3 | gap | fc 10\n"
        "            ^^^^^^^^ a 5×5 filter moved by 3 over 28×28 stops at (28 − 5)/3 + 1 = 8.67: "
        "the last 2 rows and columns are never seen.\n"
        '                     Try "pad 2" (10×10), or "stride 1" (24×24).'
    )


@pytest.mark.parametrize(
    ("text", "shape", "sentence", "fix"),
    [
        ("maxpool 2 | gap", (1, 7, 8), "the last row is never", 'Try "ceil" (4×4), or "stride 1" (6×7).'),
        (
            "conv 8@4 stride 4 | gap",
            (1, 9, 11),
            "the last row and the last 3 columns are",
            'Try "pad 3" (3×4), or "stride 1" (6×8).',
        ),
        (
            "conv1d 8@3 stride 3 | gap",
            (1, 11),
            "the last 2 positions are",
            'Try "pad 2" (5), or "stride 2" (5).',
        ),
    ],
)
def test_each_warning_has_its_numbers(text: str, shape: tuple[int, ...], sentence: str, fix: str) -> None:
    (finding,) = build_text(text, shape).findings
    assert sentence in finding.message
    assert finding.fix == fix


@pytest.mark.parametrize(
    ("text", "size"),
    [("conv 8@1 stride 2", 56), ("maxpool 3 stride 2 pad 1", 112), ("conv 8@7 stride 2 pad 3", 224)],
)
def test_residual_networks_get_no_warning(text: str, size: int) -> None:
    assert build_text(f"{text} | gap", (3, size, size)).findings == ()


def test_a_network_that_ends_in_maps_is_warned_of() -> None:
    (finding,) = build_text("conv 8", (1, 8, 8)).findings
    assert finding.code == "ends-in-maps"
    assert "8×6×6" in finding.message


@pytest.mark.parametrize(
    ("text", "shape", "pointed_at", "sentence"),
    [
        ("conv 8@7x7", (1, 5, 5), "7x7", "a 7×7 filter must fit into its input, which is 5×5."),
        ("conv 8@9 pad 1", (1, 5, 5), "9", "which is 5×5 (7×7 with its padding)."),
        ("conv 8 dilation 4", (1, 5, 5), "conv 8 dilation 4", "a 9×9 filter must fit"),
        ("relu | maxpool 6", (1, 5, 5), "6", "a 6×6 window must fit into its input, which is 5×5."),
        ("conv 8 groups 3", (2, 5, 5), "groups 3", "3 groups must divide the 2 input channels."),
        ("conv 8 groups depthwise", (3, 5, 5), "groups depthwise", "3 groups must divide the 8 filters."),
        (
            "conv 8 pad 5 padmode mirror",
            (1, 5, 5),
            "pad 5",
            '"mirror" can pad 5 pixels by at most 4, not by 5.',
        ),
        ("conv 15 maxout 4", (1, 5, 5), "maxout 4", "maxout 4 must divide the 15 channels"),
        ("fc 10 | conv 8", (1, 5, 5), "conv 8", "this layer must follow maps, not 10 flat features."),
        ("conv1d 8", (1, 5, 5), "conv1d 8", "slides over 1 axis, and what arrives has 2 axes: 1×5×5."),
        ("maxpool 2 stride 2x1x1", (1, 5, 5), "maxpool 2 stride 2x1x1", "slides over 3 axes"),
        (
            "maxpool 2 pad 2",
            (1, 5, 5),
            "pad 2",
            "the padding must be at most half of the window of 2, not 2.",
        ),
        (
            "concat(conv 8; conv 8 pad 1)",
            (1, 5, 5),
            "conv 8 pad 1",
            "branch 2 leaves 8×5×5 and branch 1 leaves 8×3×3.",
        ),
        ("add(conv 8; conv 9)", (1, 5, 5), "conv 9", "must leave the same shape, not 8×3×3 and 9×3×3."),
        ("add(conv 8@2)", (1, 5, 5), "add", "from 1×5×5 to 8×4×4, and no stride does."),
        ("a: relu | a: relu", (5,), "a", "the label 'a' is already used."),
        (
            "type: relu",
            (5,),
            "type",
            "must not be a name that PyTorch's modules use themselves, such as 'type'.",
        ),
        ("lrn", (5,), "lrn", '"lrn" must follow maps'),
        ("blurpool 99", (1, 200, 200), "99", "a blur must be at most 63 wide."),
        ("fc 1000000 | fc 1000000 | conv 9", (9, 999, 999), "1000000", "a layer must have at most"),
    ],
)
def test_what_does_not_fit_is_pointed_at(text: str, shape: tuple[int, ...], pointed_at: str, sentence: str) -> None:
    with pytest.raises(NetworkTextError) as caught:
        build_text(text, shape)
    error = caught.value
    assert sentence in error.sentence
    assert error.fix
    assert text[error.span.start : error.span.end] == pointed_at


@pytest.mark.parametrize("shape", [(), (1, 0, 3), (1, 2, 3, 4, 5), (1.5, 2, 2)])
def test_a_shape_that_is_none_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(NetworkError, match="1 to 4 positive integers"):
        build_text("relu", shape)


PIECES = st.sampled_from([
    "conv 8@3", "conv 8@3x3 stride 2", "maxpool 2", "relu", "bn", "add(conv 8 pad 1)",
    "2x(conv 4 pad same relu)", "gap", "fc 9", "flatten", "concat(relu; bn)", "conv 1000000@1000000",
    "conv 4 groups depthwise", "adaptive avg 1000000", "blurpool 3 stride 999999",
    "conv 9 pad 1000000 stride 999999", "conv 6 maxout 3", "fixed curve", "lrn", "conv1d 8",
    "medianpool 3 pad 1 ceil", "leaky 0", "conv 8 padmode wrap pad 4", "conv 8 padmode mirror pad same",
    "9999x(relu)", "sumpool 1000000", "a: tanh",
])  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    items=st.lists(PIECES, min_size=1, max_size=6),
    shape=st.sampled_from([(1, 28, 28), (3, 7, 9), (4, 20), (2, 5, 6, 7), (16,)]),
    cut=st.integers(0, 60),
    slip=st.sampled_from(["", " ", "|", "9", "x", "(", "@", "stride", "."]),
)
def test_any_text_is_built_or_refused_cleanly(items: list[str], shape: tuple[int, ...], cut: int, slip: str) -> None:
    text = " | ".join(items)
    for attempt in (text, text[:cut] + slip + text[cut:]):
        try:
            with torch.device("meta"):
                network = build_text(attempt, shape)
        except StriateError:
            continue
        assert parse(network.text) == parse(attempt)


@settings(deadline=None, max_examples=60)
@given(
    items=st.lists(PIECES.filter(lambda piece: "999" not in piece and "000" not in piece), min_size=1, max_size=5),
    shape=st.sampled_from([(1, 12, 12), (4, 7, 9), (4, 20), (2, 5, 6, 7)]),
)
def test_what_is_built_runs_and_leaves_the_planned_shape(items: list[str], shape: tuple[int, ...]) -> None:
    text = " | ".join(items)
    try:
        network = build_text(f"{text} | fc 7", shape).eval()
    except StriateError:
        return
    assert network(torch.zeros(2, *shape)).shape == (2, 7)
