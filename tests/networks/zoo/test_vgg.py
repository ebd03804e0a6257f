from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.zoo import vgg
from striate.networks.zoo.vgg import VGG, VGG11, VGG13, VGG16, VGG19, deepen
from tests.networks.zoo.test_alexnet import sizes_of_stages
from tests.networks.zoo.test_zoo import make_spec


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the fully connected layers 8 units: thousands of weights to draw and copy instead of a hundred million."""
    monkeypatch.setattr(vgg, "_UNITS", 8)


def small(
    depths: tuple[int, ...], *, channels: int = 3, side: int = 32, classes: int = 10, norm: bool = False, seed: int = 0
) -> VGG:
    torch.manual_seed(seed)
    return VGG((channels, side, side), classes, depths=depths, norm=norm)


@pytest.mark.parametrize(
    ("name", "layers", "blocks"), [("vgg11", 11, 8), ("vgg13", 13, 10), ("vgg16", 16, 13), ("vgg19", 19, 16)]
)
@pytest.mark.parametrize("norm", ["", "_bn"])
def test_the_weight_layers_and_maps_are_those_of_table_1(name: str, layers: int, blocks: int, norm: str) -> None:
    network = build_on_meta(name + norm, make_spec((3, 224, 224), 1000))
    learning = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert (len(learning), len(norms)) == (layers, blocks if norm else 0)
    stages = sizes_of_stages(name + norm, (3, 224, 224))
    pools = [stages[key] for key, module in network.named_modules() if isinstance(module, nn.MaxPool2d)]
    assert pools == [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7)]
    assert list(stages.values())[-3:] == [(4096,), (4096,), (1000,)]


def test_vgg16_has_the_papers_138_million_parameters() -> None:
    network = build_on_meta("vgg16", make_spec((3, 224, 224), 1000))
    assert sum(parameter.numel() for parameter in network.parameters()) == 138_357_544


def test_the_least_picture_fits_and_a_smaller_one_is_refused_with_the_fix() -> None:
    assert sizes_of_stages("vgg11", (1, 32, 45), 7)["features.20"] == (512, 1, 1)
    with pytest.raises(st.NetworkError, match=r"needs at least 32×32, got 31×40\. Enlarge .*--size 224"):
        st.build("vgg11_bn", make_spec((3, 31, 40), 10))


@pytest.mark.usefixtures("narrow")
def test_nineteen_plain_layers_keep_the_size_of_what_passes_through_them_and_of_its_gradient() -> None:
    network = small(VGG19, side=64)
    deviations: list[float] = []
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda module, args, output: deviations.append(output.std().item()))
    network(torch.randn(4, 3, 64, 64)).square().mean().backward()
    assert len(deviations) == 16
    assert min(deviations) > 0.5
    assert max(deviations) < 5
    gradients = [layer.weight.grad for layer in network.features if isinstance(layer, nn.Conv2d)]
    sizes = [float(gradient.norm()) for gradient in gradients if gradient is not None]
    assert max(sizes) / min(sizes) < 60


# Where the convolutions 1_1, 2_1, 3_1 and 3_2 of net A are in its features, and in those of all deeper networks.
TAKEN = {"0": "0", "3": "5", "6": "10", "8": "12"}


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("depths", [VGG13, VGG16, VGG19])
def test_deepening_takes_the_first_four_convolutions_and_the_classifier_of_net_a(depths: tuple[int, ...]) -> None:
    shallow, deep, fresh = small(VGG11, seed=1), small(depths, seed=2), small(depths, seed=2)
    for parameter in shallow.parameters():
        nn.init.normal_(parameter)  # trained, biases included
    before = {name: tensor.clone() for name, tensor in shallow.state_dict().items()}
    assert deepen(shallow, deep) is deep

    source, untouched = shallow.state_dict(), fresh.state_dict()
    taken = {
        f"features.{to}.{kind}": f"features.{number}.{kind}"
        for number, to in TAKEN.items()
        for kind in ("weight", "bias")
    } | {name: name for name in source if name.startswith("classifier")}
    for name, tensor in deep.state_dict().items():
        assert torch.equal(tensor, source[taken[name]] if name in taken else untouched[name]), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.items())

    with torch.no_grad():
        deep.features[0].weight.add_(1)  # type: ignore[operator]
    assert torch.equal(shallow.state_dict()["features.0.weight"], before["features.0.weight"])  # a copy, not shared


@pytest.mark.usefixtures("narrow")
def test_deepening_takes_the_norms_and_their_statistics_along() -> None:
    shallow, deep = small(VGG11, norm=True), small(VGG16, norm=True, seed=1)
    shallow(torch.randn(4, 3, 32, 32))  # statistics of a batch
    with torch.no_grad():
        shallow.features[1].bias.fill_(3)  # type: ignore[operator]
    deepen(shallow, deep)
    for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(deep.state_dict()[f"features.1.{kind}"], shallow.state_dict()[f"features.1.{kind}"]), kind
    assert deep.state_dict()["features.1.bias"].eq(3).all()
    assert deep.state_dict()["features.4.num_batches_tracked"] == 0  # of 1_2, which net A has not


@pytest.mark.usefixtures("narrow")
def test_deepening_goes_on_from_any_shallower_network() -> None:
    shallow, deep = small(VGG13, seed=1), small(VGG19, seed=2)
    after = deepen(shallow, deep).state_dict()
    weights = {name: tensor for name, tensor in shallow.state_dict().items() if name.endswith("weight")}
    assert [name for name, tensor in weights.items() if name in after and torch.equal(tensor, after[name])] == [
        *(f"features.{number}.weight" for number in (0, 2, 5, 7)),
        *(f"classifier.{number}.weight" for number in (0, 3, 6)),
    ]


@pytest.mark.usefixtures("narrow")
def test_deepening_refuses_what_does_not_fit() -> None:
    shallow = small(VGG11)
    with pytest.raises(st.NetworkError, match=r"takes two VGG networks.*got VGG and Linear"):
        deepen(shallow, nn.Linear(1, 1))
    with pytest.raises(st.NetworkError, match=r"more convolutions than the first, got 13 and then 8\. Pass .* first\."):
        deepen(small(VGG16), shallow)
    with pytest.raises(st.NetworkError, match=r"more convolutions than the first, got 8 and then 8\."):
        deepen(shallow, small(VGG11))
    for other, got in (
        (small(VGG16, norm=True), "3 channels, 10 classes, batch norm"),
        (small(VGG16, classes=7), "3 channels, 7 classes, no norm"),
        (small(VGG16, channels=1), "1 channels, 10 classes, no norm"),
    ):
        untouched = {name: tensor.clone() for name, tensor in other.state_dict().items()}
        with pytest.raises(st.NetworkError, match=f"got 3 channels, 10 classes, no norm and then {got}. Build"):
            deepen(shallow, other)
        assert all(torch.equal(tensor, untouched[name]) for name, tensor in other.state_dict().items())
