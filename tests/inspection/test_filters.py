from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.inspection.filters import Filters, filters, parallel_from
from tests.inspection import subjects

SMALL = ["feedforward1", "lenet5", "lenet5_paper", "speednet_small", "resnet20_cifar10"]


@pytest.mark.parametrize("name", [*SMALL, *subjects.FOREIGN])
def test_the_first_filters_of_a_network(name: str) -> None:
    _check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in subjects.ZOO if name not in SMALL])
def test_the_first_filters_of_every_other_network(name: str) -> None:
    _check(name)


def _check(name: str) -> None:
    network = subjects.build(name).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = filters(network, pictures=subjects.pictures(name, 1))
    channels, height, width = subjects.ZOO.get(name, (3, 32, 32))
    assert found.weights.shape[1] == channels
    assert found.sees == "picture"
    if found.connected:
        assert found.weights.shape[2:] == (height, width)
    first = next(p for p in network.parameters() if p.ndim >= 2)
    assert torch.equal(found.weights.flatten(1), first.detach().flatten(1))
    assert found.draw(4).image.width > 300
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def _convolution(weights: Tensor) -> nn.Sequential:
    """A network whose first filters are these."""
    count, channels, height, width = weights.shape
    conv = nn.Conv2d(channels, count, (height, width))
    with torch.no_grad():
        conv.weight.copy_(weights)
    return nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(count, 3)).eval()


def _random(count: int = 8, channels: int = 1, side: int = 5) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(3))


def _of(found: Filters, code: str) -> list[list[int]]:
    numbers = [[int(name.split()[1]) for name in f.numbers if name.startswith("filter")]
               for f in found.findings if f.code == code]  # fmt: skip
    return [sorted(one) for one in numbers]


def test_random_filters_are_nothing_to_speak_of() -> None:
    assert filters(_convolution(_random(64))).findings == ()


def test_duplicates_are_found_and_named() -> None:
    weights = _random()
    weights[5] = weights[2]
    weights[7] = 3 * weights[1]
    weights[6] = weights[1] * 1.01 + 1e-3
    found = filters(_convolution(weights))
    assert _of(found, "duplicate-filters") == [[1, 6, 7], [2, 5]]
    scaled, equal = (f for f in found.findings if f.code == "duplicate-filters")
    assert equal.message == "Filters 2 and 5 are equal."
    assert scaled.message.startswith(
        "Filters 1, 6 and 7 are equal up to scale (|cosine| at least 0.999, norms 1 : 1 : 3"
    )
    assert scaled.numbers["filter 7"] == pytest.approx(3)
    assert not _of(found, "negated-filters")


def test_a_filter_and_its_negative_are_no_duplicates() -> None:
    weights = torch.cat([_random(4), -_random(4)])
    found = filters(_convolution(weights))
    assert _of(found, "negated-filters") == [list(range(8))]
    assert not _of(found, "duplicate-filters")
    (finding,) = found.findings
    assert finding.severity == "note"
    assert finding.message.startswith("Filters 0 and 4, 1 and 5, 2 and 6, 3 and 7 are each other's negatives")


def test_a_whitening_layer_has_each_filter_once_negated() -> None:
    network = st.build("speednet_small", st.Spec.of((1, 28, 28), 10), seed=0)
    network.prepare(torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)))  # type: ignore[operator]
    found = filters(network)
    assert [finding.code for finding in found.findings] == ["negated-filters"]
    assert _of(found, "negated-filters") == [list(range(18))]


def test_dead_filters_have_no_direction() -> None:
    weights = _random()
    weights[3] = 0
    weights[4] = weights[0] * 1e-5
    found = filters(_convolution(weights))
    assert _of(found, "dead-filters") == [[3, 4]]
    assert not _of(found, "duplicate-filters")
    assert "Filters 3 and 4 are dead" in found.findings[0].message


def test_filters_that_pictures_never_rouse() -> None:
    network = _convolution(_random(4))
    conv = network[0]
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    with torch.no_grad():
        conv.bias[1] = -1e3
    images = torch.randint(0, 256, (120, 1, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[0] = 0
    found = filters(network, pictures=images)
    with torch.no_grad():
        expected = [
            np.mean([bool((conv(image[None].float() / 255)[0, number] > 0).any()) for image in images])
            for number in range(4)
        ]
    assert found.active is not None
    np.testing.assert_allclose(found.active.numpy(), expected)
    assert 0 < expected[0] < 1 or 0 < expected[2] <= 1
    assert _of(found, "silent-filters") == [[1]]
    assert found.findings[0].severity == "warning"
    assert filters(network, pictures=images[:2]).findings[0].severity == "note"


def test_a_normalisation_before_the_rectification_counts() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 9, 3)
    ).eval()
    norm = network[1]
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1e3, -1e3]))  # type: ignore[operator]
    found = filters(network, pictures=torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert found.active is not None
    assert found.active.tolist() == [1, 0]


def test_no_share_is_claimed_where_no_rectification_follows() -> None:
    assert filters(subjects.build("lenet5"), pictures=subjects.pictures("lenet5")).active is None


@pytest.mark.parametrize(("count", "weights"), [(16, 3), (64, 9), (64, 147)])
def test_few_random_filters_would_be_called_parallel(count: int, weights: int) -> None:
    bound = parallel_from(count, weights)
    assert 0.99 <= bound < 1
    units = np.random.default_rng(0).normal(size=(200, count, weights))
    units /= np.linalg.norm(units, axis=2, keepdims=True)
    cosines = np.abs(units @ units.transpose(0, 2, 1))[:, *np.triu_indices(count, 1)]
    assert (cosines >= bound).sum() <= 8  # 2 are expected in 200 layers where it is the chance that sets the bound


def test_filters_of_one_weight_are_never_called_parallel() -> None:
    assert parallel_from(8, 1) == math.inf
    assert not filters(_convolution(torch.ones(4, 1, 1, 1))).findings


def test_weight_pictures_of_a_feed_forward_network_are_the_right_way_up() -> None:
    network = st.build("feedforward0", st.Spec.of((1, 28, 28), 10), seed=0)
    with torch.no_grad():
        network.head.weight.fill_(0.0)  # type: ignore[union-attr, operator]
        network.head.weight[0, 0] = 2.0  # type: ignore[operator]  # top left
        network.head.weight[0, 27] = -2.0  # type: ignore[operator]  # top right
    found = filters(network)
    assert found.connected
    assert found.weights[0, 0, 0, 0] == 2
    assert found.weights[0, 0, 0, 27] == -2
    image = np.asarray(found.draw(1).image).astype(int)
    greens = np.argwhere((image[..., 1] > image[..., 0] + 30) & (image[..., 1] > image[..., 2] + 10))[:, :2]
    reds = np.argwhere(image[..., 0] > image[..., 1] + 60)[:, :2]
    top = min(greens[:, 0].min(), reds[:, 0].min())
    green, red = greens[greens[:, 0] == top], reds[reds[:, 0] == top]
    assert len(green) == 5  # px per weight
    assert red[:, 1].min() - green[:, 1].min() == 27 * 5


def test_colours_of_a_filter_are_its_weights_upon_red_green_and_blue() -> None:
    weights = torch.zeros(2, 3, 2, 2)
    weights[0, 0, 0, 1] = 0.5  # red, upper right
    weights[1] = -1
    image = np.asarray(filters(_convolution(weights)).draw().image)
    side = 80
    mid, red, black = [128, 128, 128], [255, 128, 128], [0, 0, 0]
    rows, columns = np.nonzero((image == red).all(2))
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (side // 2, side // 2)
    top, left = rows.min(), columns.min() - side // 2
    assert image[top, left].tolist() == mid
    assert image[top + side - 1, left + side - 1].tolist() == mid
    assert image[top, left + side + 8].tolist() == black


def test_deeper_layers_are_drawn_by_channel_and_matrices_whole() -> None:
    network = subjects.build("resnet20_cifar10")
    deeper = filters(network, "layer1.0.conv2")
    assert deeper.sees == "features"
    assert deeper.weights.shape == (16, 16, 3, 3)
    assert deeper.draw().image.height > 12 * 60
    head = filters(network, "fc")
    assert head.connected
    assert head.weights.shape == (10, 64, 1, 1)
    head.draw()


def test_a_connected_layer_upon_maps_has_their_shape() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Sequential(nn.Linear(4 * 3 * 2, 5)))
    found = filters(st.Classifier(network, st.Spec.of((3, 8, 6), 5)), "3")
    assert (found.layer, found.sees) == ("3.0", "features")
    assert found.weights.shape == (5, 4, 3, 2)
    assert torch.equal(found.weights.flatten(1), network.get_submodule("3.0").weight.detach())  # type: ignore[operator]


def test_without_a_spec() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(12, 2)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(images.flatten(1))
            return logits

    assert filters(subjects.build("wrapped")).sees == "picture"
    with pytest.raises(st.NetworkError, match=r"does not say what size of pictures it takes\. Pass st\.Classifier"):
        filters(Flat())
    assert filters(Flat(), pictures=torch.zeros(1, 3, 2, 2, dtype=torch.uint8)).weights.shape == (2, 3, 2, 2)
    assert filters(st.Classifier(Flat(), st.Spec.of((3, 2, 2), 2))).sees == "picture"


def test_layers_without_filters() -> None:
    network = subjects.build("lenet5")
    with pytest.raises(st.NetworkError, match=r"no layer 'c33'\. Did you mean 'c3'\?"):
        filters(network, "c33")
    with pytest.raises(
        st.NetworkError, match=r"'s2' has no convolution .* Layers with weights are c1, c3, c5, f6, head"
    ):
        filters(network, "s2")
    with pytest.raises(st.NetworkError, match="The network has no convolution and no fully connected layer"):
        filters(nn.Sequential(nn.Flatten()))
