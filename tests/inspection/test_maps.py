from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import striate as st
from striate.inspection.maps import feature_maps
from striate.inspection.subject import subject_of
from striate.networks import contract
from tests.inspection import subjects

SMALL = ["feedforward1", "lenet5", "lenet5_paper", "speednet_small", "resnet20_cifar10", "resnet18"]


def _check(name: str) -> None:
    network = subjects.build(name).train()
    images = subjects.pictures(name, 1)
    random = torch.get_rng_state()
    maps = feature_maps(network, images, gradients=True)
    assert network.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    names = [layer.name for layer in maps.layers]
    assert len(set(names)) == len(names)
    for layer in maps.layers:
        assert layer.gradient is not None
        assert layer.gradient.shape == layer.maps.shape
    with torch.no_grad():
        assert torch.equal(maps.logits, network.eval()(subject_of(network, images).inputs))
    assert any(layer.kind.lower().startswith(("relu", "tanh", "scaledtanh")) for layer in maps.layers)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert sum(layer.kind == "Conv2d" for layer in maps.layers) >= len(convolutions) - 3  # but auxiliary heads
    assert maps.draw(most=2).image.height > 300


@pytest.mark.parametrize("name", [*SMALL, *subjects.FOREIGN])
def test_maps_and_gradients_of_every_layer(name: str) -> None:
    _check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in subjects.ZOO if name not in SMALL])
def test_maps_and_gradients_of_every_layer_of_large_networks(name: str) -> None:
    _check(name)


@pytest.mark.parametrize("name", ["speednet_small", "resnet20_cifar10", "lenet5_paper", "preresnet18"])
def test_every_stage_has_its_output_among_the_maps(name: str) -> None:
    network = subjects.build(name)
    images = subjects.pictures(name, 1)
    maps = feature_maps(network, images)
    inputs = subject_of(network, images).inputs
    outputs: list[Tensor] = []
    hooks = [
        stage.register_forward_hook(lambda module, inputs, output: outputs.append(output.clone()))
        for stage in contract.stages_of(network).values()
    ]
    with torch.no_grad():
        network(inputs)
    for hook in hooks:
        hook.remove()
    assert outputs
    for output in outputs:
        assert any(layer.maps.shape == output.shape and torch.equal(layer.maps, output) for layer in maps.layers)


def test_before_and_after_what_is_done_in_place_by_module_and_by_function() -> None:
    network = subjects.build("in place")
    assert isinstance(network, subjects.InPlace)
    images = subjects.pictures("in place")
    maps = feature_maps(network, images, gradients=True, target=2)
    names = [layer.name for layer in maps.layers]
    assert names == ["first", "norm", "act", "second", "relu", "max_pool2d", "mean", "head"]
    with torch.no_grad():
        first = network.first(subject_of(network, images).inputs)
        norm = network.norm(first)
        act = norm.relu()
        second = network.second(act)
    probe = second.clone().requires_grad_()
    relu = (probe + 1).relu()
    pooled = F.max_pool2d(relu, 2)
    logits = network.head(pooled.mean((2, 3)))
    of_second, of_relu, of_pooled = torch.autograd.grad(logits[:, 2].sum(), [probe, relu, pooled])
    expected = [first, norm, act, second, relu, pooled, pooled.mean((2, 3)), logits]
    for layer, map in zip(maps.layers, expected, strict=True):
        torch.testing.assert_close(layer.maps, map.detach())
    for name, gradient in {"second": of_second, "relu": of_relu, "max_pool2d": of_pooled}.items():
        torch.testing.assert_close(maps[name].gradient, gradient)
        norm_of = maps[name].gradient_norm
        assert norm_of is not None
        np.testing.assert_allclose(norm_of.numpy(), [np.sqrt((g.double().numpy() ** 2).sum()) for g in gradient], 1e-5)
    assert maps.targets.tolist() == [2, 2]


class Reuses(nn.Module):
    """Uses one rectification twice, as many networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.act = nn.ReLU(inplace=True)
        self.unused = nn.Conv2d(1, 1, 1)
        self.head = nn.Linear(16, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.act(self.act(self.conv(images)) - 0.25).flatten(1))
        return logits


def test_what_runs_twice_is_kept_twice() -> None:
    images = torch.arange(0, 160, 10, dtype=torch.uint8).view(1, 1, 4, 4)
    maps = feature_maps(Reuses(), images)
    assert [layer.name for layer in maps.layers] == ["conv", "act", "act#2", "head"]
    torch.testing.assert_close(maps["act#2"].maps, (maps["act"].maps - 0.25).relu())
    assert [layer.name for layer in feature_maps(Reuses(), images, "act").layers] == ["act", "act#2"]
    assert [layer.name for layer in feature_maps(Reuses(), images, ["act#2"]).layers] == ["act#2"]


def test_where_narrows() -> None:
    network = subjects.build("resnet20_cifar10")
    images = subjects.pictures("resnet20_cifar10")
    assert [layer.name for layer in feature_maps(network, images, "layer2").layers] == ["layer2"]
    both = feature_maps(network, images, ["fc", "layer1.0.conv1"])
    assert [layer.name for layer in both.layers] == ["layer1.0.conv1", "fc"]
    assert both["fc"].gradient is None
    assert not both["fc"].maps.requires_grad
    with pytest.raises(st.NetworkError, match=r"no layer 'layer1\.0\.konv1'\. Did you mean 'layer1\.0\.conv1'\?"):
        feature_maps(network, images, ["layer1.0.konv1"])
    with pytest.raises(st.NetworkError, match=r"'unused' returned no tensor"):
        feature_maps(Reuses(), torch.zeros(1, 1, 4, 4, dtype=torch.uint8), ["unused"])
    with pytest.raises(
        st.NetworkError, match=r"no maps of a layer 'layer1.0.conv2'\. Did you mean 'layer1.0.conv1'\? There are"
    ):
        both["layer1.0.conv2"]


def test_hooks_go_when_the_network_raises() -> None:
    network = Reuses().train()
    network.head.register_forward_pre_hook(_raise)
    with pytest.raises(ValueError, match="wont"):
        feature_maps(network, _four())
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert [len(module._forward_pre_hooks) for module in network.modules()].count(1) == 1  # the test's own


def _raise(module: nn.Module, inputs: object) -> None:
    raise ValueError("as it is wont to")


def _four() -> Tensor:
    return torch.zeros(1, 1, 4, 4, dtype=torch.uint8)


def test_the_sheet_has_the_maps_the_right_way_round() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    with torch.no_grad():
        network[0].weight.fill_(1.0)  # type: ignore[operator]
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    images[0, 0, 1, 6] = 255  # one bright point, upper right
    image = np.asarray(feature_maps(network, images, "1").draw().image)
    yellow = (image == [0xFD, 0xE7, 0x25]).all(2)
    violet = (image == [0x44, 0x01, 0x54]).all(2)
    rows, columns = np.nonzero(violet)
    top, left = rows.min(), columns.min()
    assert yellow[top + 8 : top + 16, left + 48 : left + 56].all()  # 64 px for 8 values
    assert yellow[top : top + 64, left : left + 64].sum() == 64


def test_what_cannot_be_looked_at() -> None:
    network = subjects.build("lenet5")
    images = subjects.pictures("lenet5")
    with pytest.raises(st.DataError, match="at most 64 pictures at once, got 65"):
        feature_maps(network, images[:1].repeat(65, 1, 1, 1))
    with pytest.raises(st.DataError, match="There is no class 'cat'"):
        feature_maps(network, images, gradients=True, target="cat")
    maps = feature_maps(network, images)
    with pytest.raises(st.DataError, match=r"no picture 2: the 2 are numbered from 0"):
        maps.draw(2)
    with pytest.raises(st.DataError, match="most must be at least 1, got 0"):
        maps.draw(most=0)


def test_the_answer_is_asked_about_where_no_class_is() -> None:
    network = subjects.build("lenet5")
    images = subjects.pictures("lenet5")
    maps = feature_maps(network, images, "head", gradients=True)
    assert torch.equal(maps.targets, maps.logits.argmax(1))
    assert torch.equal(maps["head"].gradient, F.one_hot(maps.targets, 10).float())  # type: ignore[arg-type]
