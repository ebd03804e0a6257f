from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.contract import Outputs
from striate.networks.zoo.googlenet import AuxiliaryClassifier, ConvReLU, GoogLeNet
from tests.networks.zoo.test_blocks import count, stage_shapes
from tests.networks.zoo.test_zoo import make_spec

BOTH = ("googlenet", "googlenet_paper")

# Table 1 of the paper: output size, and parameters in 1024s.
TABLE_1: dict[str, tuple[tuple[int, ...], float]] = {
    "conv1": ((64, 112, 112), 2.7),
    "maxpool1": ((64, 56, 56), 0),
    "conv3": ((192, 56, 56), 112),
    "maxpool2": ((192, 28, 28), 0),
    "inception3a": ((256, 28, 28), 159),
    "inception3b": ((480, 28, 28), 380),
    "maxpool3": ((480, 14, 14), 0),
    "inception4a": ((512, 14, 14), 364),
    "inception4b": ((512, 14, 14), 437),
    "inception4c": ((512, 14, 14), 463),
    "inception4d": ((528, 14, 14), 580),
    "inception4e": ((832, 14, 14), 840),
    "maxpool4": ((832, 7, 7), 0),
    "inception5a": ((832, 7, 7), 1072),
    "inception5b": ((1024, 7, 7), 1388),
    "avgpool": ((1024, 1, 1), 0),
    "fc": ((1000,), 1000),
}


def weights(network: nn.Module, stage: str) -> int:
    """Return the weights of a row of the table, without biases; conv2 is the reduction in the row of conv3."""
    modules = [network.get_submodule(name) for name in ([stage, "conv2"] if stage == "conv3" else [stage])]
    return sum(parameter.numel() for module in modules for parameter in module.parameters() if parameter.ndim > 1)


@pytest.mark.parametrize("name", BOTH)
def test_every_stage_has_the_size_of_table_1(name: str) -> None:
    shapes = stage_shapes(name, 224, 224)
    assert shapes.pop("conv2") == (64, 56, 56)
    assert shapes == {stage: size for stage, (size, _) in TABLE_1.items()}


def test_the_paper_has_7_million_parameters() -> None:
    network = build_on_meta("googlenet_paper", make_spec((3, 224, 224), 1000))
    in_heads = sum(count(network.get_submodule(head)) for head in ("aux1", "aux2"))
    assert in_heads == 6_379_728
    assert count(network) - in_heads == 6_998_552
    ours = {stage: weights(network, stage) for stage in TABLE_1}
    assert sum(ours.values()) == 6_990_272
    assert sum(thousands for _, thousands in TABLE_1.values()) == pytest.approx(6_797.7)
    exact = [stage for stage, (_, thousands) in TABLE_1.items() if ours[stage] // 1024 == thousands]
    assert {"conv3", "inception3a", "fc"} < set(exact)
    off = {stage: ours[stage] / 1024 / thousands - 1 for stage, (_, thousands) in TABLE_1.items() if thousands}
    assert off.pop("conv1") > 2  # 2.7K is no 7×7 convolution of three channels
    assert max(abs(part) for part in off.values()) < 0.08


def test_the_paper_has_no_batch_norm_but_response_normalisation_and_5x5_windows() -> None:
    def kinds(name: str) -> tuple[int, int, tuple[int, ...], int]:
        network = build_on_meta(name, make_spec((3, 224, 224), 10))
        modules = list(network.modules())
        branch = network.get_submodule("inception4c.branch3.1.conv")
        assert isinstance(branch, nn.Conv2d)
        pool = network.get_submodule("maxpool4")
        return (
            sum(isinstance(module, nn.BatchNorm2d) for module in modules),
            sum(isinstance(module, nn.LocalResponseNorm) for module in modules),
            branch.kernel_size,
            int(pool.kernel_size),  # type: ignore[arg-type]
        )

    assert kinds("googlenet") == (59, 0, (3, 3), 2)
    assert kinds("googlenet_paper") == (0, 2, (5, 5), 3)


@pytest.mark.parametrize("name", BOTH)
def test_auxiliary_classifiers_answer_in_training_only(name: str) -> None:
    network = st.build(name, make_spec((1, 32, 32), 4))
    images = torch.randn(3, 1, 32, 32)
    outputs = network.train()(images)
    assert isinstance(outputs, Outputs)
    assert {head: tuple(logits.shape) for head, logits in outputs.auxiliary.items()} == {"aux1": (3, 4), "aux2": (3, 4)}
    assert network.auxiliary == {"aux1": 0.3, "aux2": 0.3}
    assert not torch.equal(outputs.auxiliary["aux1"], outputs.auxiliary["aux2"])
    assert network.eval()(images).shape == (3, 4)


@pytest.mark.parametrize(("name", "least"), [("googlenet", 15), ("googlenet_paper", 31)])
def test_the_smallest_picture_trains_and_a_smaller_one_is_refused(name: str, least: int) -> None:
    network = st.build(name, make_spec((3, least, least), 4))
    outputs = network.train()(torch.randn(4, 3, least, least))
    (outputs.logits.sum() + sum(logits.sum() for logits in outputs.auxiliary.values())).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    message = rf"^{name} needs pictures of at least {least}×{least}, got 40×{least - 1}\. Enlarge"
    with pytest.raises(st.NetworkError, match=message):
        st.build(name, make_spec((3, 40, least - 1), 4))


@pytest.mark.parametrize(("published", "side", "windows"), [(True, 14, True), (True, 9, False), (False, 14, False)])
def test_auxiliary_classifiers_pool_as_described(published: bool, side: int, windows: bool) -> None:
    head = AuxiliaryClassifier(2, 3, ConvReLU, published).eval()
    maps = torch.randn(2, 2, side, side)
    if windows:
        corners = (0, 3, 6, 9)
        rows = [torch.stack([maps[..., r : r + 5, c : c + 5].mean((2, 3)) for c in corners], -1) for r in corners]
        pooled = torch.stack(rows, -2)  # (2, 2, 4, 4)
    else:
        pooled = F.adaptive_avg_pool2d(maps, 4)
    features = F.relu(F.conv2d(pooled, head.conv.conv.weight, head.conv.conv.bias)).flatten(1)
    torch.testing.assert_close(head(maps), head.fc2(F.relu(head.fc1(features))))


def test_dropout_is_an_option() -> None:
    network = st.build("googlenet(dropout=0.5)", make_spec((3, 32, 32), 4))
    assert isinstance(network, GoogLeNet)
    assert network.dropout.p == 0.5
    with pytest.raises(st.NetworkError, match=r"googlenet cannot be built with \(dropout=2\): dropout probability"):
        st.build("googlenet(dropout=2)", make_spec((3, 32, 32), 4))
