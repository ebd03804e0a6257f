from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam

import striate as st
from striate.inspection.saliency.grad_cam import class_activation, find_layer, grad_cam
from striate.networks.graph import trace
from tests.inspection import subjects
from tests.inspection.saliency.references import TARGETS, inputs, small

# The module whose maps are read, and their size, at the sizes of pictures of `subjects`.
READ = {
    "lenet5": ("c3", 10),
    "lenet5_paper": ("s4", 5),
    "speednet_small": ("groups.2.2", 4),
    "nin_cifar10": ("activation", 8),
    "googlenet": ("inception5b", 2),
    "inception_v3": ("Mixed_6e", 3),  # behind it are the branches of a module whose joint output is 1×1
    "resnet20_cifar10": ("layer3.2.relu2", 8),
    "preresnet18": ("relu2", 2),
    "densenet121": ("features.relu5", 2),
    "in place": ("second", 32),
    "wrapped": ("network.act", 30),
    "untraceable": ("act", 32),
}


@pytest.mark.parametrize("path", ["0", "1", "3", "4"])
def test_it_agrees_with_captum(path: str) -> None:
    network, pictures = small(), inputs()
    theirs = LayerGradCam(network, network[int(path)]).attribute(pictures, target=TARGETS, relu_attributions=True)
    torch.testing.assert_close(class_activation(network, pictures, TARGETS, path), theirs[:, 0])


def test_by_hand() -> None:
    network, pictures = small(), inputs(1)
    maps = network[:5](pictures).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(network[5:](maps)[0, 1], maps)
    expected = np.zeros((3, 3))
    for channel in range(4):
        expected += slopes[0, channel].mean().item() * maps[0, channel].detach().numpy()
    found = class_activation(network, pictures, torch.tensor([1]), "4")[0].numpy()
    np.testing.assert_allclose(found, np.maximum(expected, 0), rtol=1e-12)


@pytest.mark.parametrize("name", READ)
def test_the_layer_is_found(name: str) -> None:
    network = subjects.build(name)
    shape = subjects.ZOO.get(name, (3, 32, 32))
    layer = find_layer(network, trace(network, st.Spec.of(shape, 10)))
    assert (layer.path, layer.size[0]) == READ[name]
    assert layer.placed == (name != "untraceable")


def test_units_are_laid_where_they_look() -> None:
    class Lone(torch.nn.Module):
        """Its one map is the picture itself, three pixels in from the border, every fifth pixel."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 7, stride=5, bias=False)
            with torch.no_grad():
                self.conv.weight.zero_()[0, 0, 3, 3] = 1

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.conv(images).sum((2, 3))

    network = Lone()
    picture = torch.zeros(1, 1, 22, 27)
    picture[0, 0, 13, 8] = 1
    layer = find_layer(network, trace(network, st.Spec.of((1, 22, 27), 1)))
    assert layer.rows == (3, 8, 13, 18)
    assert layer.columns == (3, 8, 13, 18, 23)
    map_ = grad_cam(network, picture, torch.tensor([0]), layer=layer)[0]
    assert (map_ == map_.max()).nonzero().tolist() == [[13, 8]]
    assert map_[13, 3:14].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 0.8, 0.6, 0.4, 0.2, 0])
    torch.testing.assert_close(map_, grad_cam(network, picture, torch.tensor([0]))[0])


def test_units_at_no_known_place_are_spread_evenly() -> None:
    network = subjects.build("untraceable")
    layer = find_layer(network, trace(network, st.Spec.of((3, 32, 32), 5)))
    assert layer.rows == tuple(range(32))


def test_a_network_without_maps() -> None:
    network = subjects.build("feedforward1")
    with pytest.raises(st.NetworkError, match="the network has none at this size of pictures"):
        grad_cam(network, torch.zeros(1, 1, 28, 28), torch.tensor([0]))


def test_a_layer_of_ones_own() -> None:
    network = subjects.build("lenet5")
    graph = trace(network, st.Spec.of((1, 28, 28), 10))
    assert find_layer(network, graph, "c1").path == "c1"
    with pytest.raises(st.NetworkError, match=r"'f6' returns \(N, 84\)"):
        find_layer(network, graph, "f6")
    with pytest.raises(st.NetworkError, match="Did you mean 'c3'"):
        find_layer(network, graph, "c33")
