from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import striate as st
from striate.inspection.saliency import sanity
from striate.inspection.saliency.gradient import gradient
from tests.inspection import subjects
from tests.inspection.saliency.references import TARGETS, inputs, small


def test_the_correlation_is_that_of_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 5, (3, 6, 7), generator=generator).double()  # many equal values
    others = maps + torch.randn(3, 6, 7, generator=generator, dtype=torch.float64) * 3
    expected = [spearmanr(one.flatten(), two.flatten()).statistic for one, two in zip(maps, others, strict=True)]
    torch.testing.assert_close(sanity.correlate(maps, others), torch.tensor(expected, dtype=torch.float64))


def test_what_constant_maps_correlate_with() -> None:
    varied, constant = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((1, 4, 4), 0.3)
    assert sanity.correlate(constant, varied).item() == 1
    assert sanity.correlate(constant + 1e-8 * varied, varied).item() == 1
    assert sanity.correlate(varied, constant).item() == 0
    assert sanity.correlate(varied, -varied).item() == pytest.approx(-1)


def test_layers_become_random_from_the_last_to_the_first() -> None:
    network, pictures = small(), inputs()
    assert sanity.layers_from_the_last(network, pictures[:1]) == ["8", "6", "3", "0"]
    seen = []

    def explain(spoilt: nn.Module, given: Tensor, _: Tensor) -> Tensor:
        assert spoilt is not network
        own, other = dict(network.named_parameters()), dict(spoilt.named_parameters())
        seen.append(
            {path for path in ("0", "3", "6", "8") if not torch.equal(own[f"{path}.weight"], other[f"{path}.weight"])}
        )
        return given[:, 0]

    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = sanity.compare_with_random_weights(explain, network, pictures, TARGETS, pictures[:, 1])
    assert seen[:4] == [{"8"}, {"6", "8"}, {"3", "6", "8"}, {"0", "3", "6", "8"}]
    assert len(seen) == len(sanity.SHARES) + sanity.DRAWS - 1
    assert result.curve.shape == (4, 3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", ["in place", "wrapped", "untraceable", "lenet5_paper", "resnet20_cifar10"])
def test_every_weight_becomes_random(name: str) -> None:
    network = subjects.build(name).requires_grad_(False)  # frozen ones too
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.fill_(3)
    before = {path: value.clone() for path, value in network.named_parameters()}
    picture = subjects.pictures(name, 1).float() / 255
    layers = sanity.layers_from_the_last(network, picture)
    sanity.randomise(network, layers, torch.Generator().manual_seed(0))
    for path, value in network.named_parameters():
        changed = not torch.equal(value, before[path])
        assert changed or not value.any() or bool((value == value[0]).all()), path  # biases; scales that are all equal
    assert all(not buffer.any() for path, buffer in network.named_buffers() if path.endswith("running_mean"))
    with torch.no_grad():
        assert network(picture).isfinite().all()


def test_a_network_that_cannot_be_copied() -> None:
    network, pictures = small(), inputs()
    network.lines = (line for line in "")  # type: ignore[assignment]
    with pytest.raises(st.NetworkError, match=r"cannot be \(.*\)\. Pass check=False to do without"):
        sanity.compare_with_random_weights(gradient, network, pictures, TARGETS, pictures[:, 0])
