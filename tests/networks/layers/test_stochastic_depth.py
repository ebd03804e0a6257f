from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.graph import trace
from striate.networks.layers import StochasticDepth, drop_blocks
from striate.networks.summary import summary
from striate.networks.zoo import ZOO
from striate.networks.zoo.preresnet import Bottleneck as PreBottleneck
from striate.networks.zoo.preresnet import SimpleBlock as PreSimpleBlock
from striate.networks.zoo.resnet import Bottleneck, SimpleBlock
from tests.networks.zoo.test_zoo import make_spec

RESIDUAL = [name for name in ZOO.names() if name.startswith(("resnet", "preresnet")) and "1001" not in name]


def test_each_picture_is_dropped_or_scaled_as_a_whole() -> None:
    residual = torch.rand(4000, 2, 3, 3) + 0.5
    torch.manual_seed(0)
    dropped = StochasticDepth(0.25).train()(residual)
    factors = (dropped / residual).flatten(1)  # (N, 18)
    assert torch.allclose(factors, factors[:, :1].expand_as(factors))
    kept = factors[:, 0] > 0
    assert torch.allclose(factors[kept], torch.tensor(1 / 0.75))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)  # 4 standard deviations
    assert factors.mean().item() == pytest.approx(1, abs=0.04)


def test_evaluation_and_a_rate_of_0_hand_the_tensor_on() -> None:
    residual = torch.rand(3, 4)
    assert StochasticDepth(0.5).eval()(residual) is residual
    assert StochasticDepth(0.0).train()(residual) is residual


def test_draws_come_from_the_global_generator() -> None:
    layer, residual = StochasticDepth(0.5).train(), torch.ones(64, 1)

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        result: Tensor = layer(residual)
        return result

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_the_gradient_is_that_of_the_kept_pictures() -> None:
    residual = torch.rand(32, 3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    result = StochasticDepth(0.5).train()(residual)
    result.sum().backward()
    assert torch.equal(residual.grad, (result.detach() > 0) / 0.5)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    message = f"stochastic_depth must be at least 0 and less than 1, got {rate}"
    with pytest.raises(st.NetworkError, match=message):
        StochasticDepth(rate)
    with pytest.raises(st.NetworkError, match=message):
        st.build("resnet20_cifar10", make_spec((3, 32, 32), 10), stochastic_depth=rate)


def test_rates_rise_linearly_to_the_last_block() -> None:
    blocks = [nn.Identity() for _ in range(4)]
    drop_blocks(blocks, 0.2)
    assert [block.stochastic_depth.rate for block in blocks] == pytest.approx([0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize("name", RESIDUAL)
def test_every_residual_network_takes_the_option(name: str) -> None:
    entry = ZOO.get(name)
    spec = make_spec(entry.shape, entry.classes)
    network = build_on_meta(f"{name}(stochastic_depth=0.2)", spec)
    kinds = (SimpleBlock, Bottleneck, PreSimpleBlock, PreBottleneck)
    blocks = [module for module in network.modules() if isinstance(module, kinds)]
    rates = [block.stochastic_depth.rate for block in blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.2 * number / len(blocks) for number in range(1, len(blocks) + 1)])
    without = build_on_meta(name, spec)
    assert not any(isinstance(module, StochasticDepth) for module in without.modules())
    assert without.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", ["resnet50", "resnet20_cifar10", "preresnet18"])
def test_evaluation_geometry_and_trace_see_nothing_of_it(name: str) -> None:
    spec = make_spec((3, 32, 32), 10)
    plain, dropping = (build_on_meta(model, spec) for model in (name, f"{name}(stochastic_depth=0.5)"))
    assert trace(plain, spec).nodes == trace(dropping, spec).nodes
    assert str(summary(plain, spec)) == str(summary(dropping, spec))
    network, same = (st.build(name, spec), st.build(name, spec, stochastic_depth=0.5))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(network.eval()(images), same.eval()(images))


@pytest.mark.parametrize("name", ["resnet18", "preresnet18", "preresnet164bn_cifar10"])
def test_a_dropped_residual_leaves_the_shortcut_alone(name: str) -> None:
    spec = make_spec((3, 32, 32), 10)
    network = st.build(name, spec, stochastic_depth=0.5)
    block = next(m for m in network.modules() if isinstance(m, SimpleBlock | PreSimpleBlock | PreBottleneck))
    block.stochastic_depth = StochasticDepth(0.999)
    channels = next(m for m in block.modules() if isinstance(m, nn.Conv2d)).in_channels
    maps = torch.rand(8, channels, 8, 8)
    torch.manual_seed(0)  # none of eight pictures is kept
    shortcut = getattr(block, "projection", None)
    expected = maps if shortcut is None else shortcut(torch.relu(block.train().bn1(maps)))
    torch.testing.assert_close(block.train()(maps), expected)


def test_a_saved_network_keeps_it(image_set: st.ImageSet) -> None:
    network = st.build("resnet20_cifar10", image_set.spec, stochastic_depth=0.3)
    run = st.fit(network, image_set, epochs=0.5, progress=False)
    again = st.load(run.model_path).network
    rates = [module.rate for module in again.modules() if isinstance(module, StochasticDepth)]
    assert len(rates) == 9
    assert rates[-1] == pytest.approx(0.3)
