from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import striate as st
from striate.networks.zoo.lenet import C3_TABLE, LeNet5, LeNet5Paper, Subsampling, TableConvolution
from tests.networks.zoo.test_zoo import make_spec

TEXT = (
    "conv 6@5x5 pad 2 tanh | avgpool 2 | conv 16@5x5 tanh | avgpool 2 | "
    "conv 120@5x5 tanh | flatten | fc 84 tanh | fc 10"
)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(("text", "side"), [(TEXT, 28), (TEXT.replace(" pad 2", ""), 32)])
def test_the_text_and_the_zoo_are_one_network(text: str, side: int) -> None:
    spec = make_spec((1, side, side), 10)
    written, built = st.build(text, spec), st.build("lenet5", spec)
    assert count(written) == count(built) == 61_706

    weights = list(built.state_dict().values())
    written.load_state_dict(dict(zip(written.state_dict(), weights, strict=True)))
    images = torch.randn(4, 1, side, side)
    assert torch.equal(written(images), built(images))


def test_the_paper_has_60_000_trainable_parameters_and_fixed_codes() -> None:
    network = LeNet5Paper((1, 32, 32), 10)
    assert count(network) == 60_000
    by_layer = {name: count(stage) for name, stage in network.stages.items()}
    assert by_layer == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert network.codes.shape == (10, 84)
    assert set(network.codes.unique().tolist()) == {-1.0, 1.0}
    distances = torch.cdist(network.codes, network.codes, p=0) + 84 * torch.eye(10)
    assert distances.min() >= 6  # no two digits look alike


def test_any_number_of_classes_has_codes_of_its_own() -> None:
    codes = LeNet5Paper((1, 28, 28), 30).codes
    assert len(codes.unique(dim=0)) == 30
    assert torch.equal(codes, LeNet5Paper((1, 28, 28), 30).codes)


def test_the_c3_table_is_that_of_the_paper() -> None:
    assert [len(sources) for sources in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert [sum(source in sources for sources in C3_TABLE) for source in range(6)] == [10] * 6


def table_convolution(maps: NDArray[np.float64], layer: TableConvolution) -> NDArray[np.float64]:
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    size = weight.shape[-1]
    rows, columns = maps.shape[2] - size + 1, maps.shape[3] - size + 1
    result = np.zeros((len(maps), len(bias), rows, columns)) + bias[:, None, None]
    for number, (output, source) in enumerate(layer.pairs.T.tolist()):
        for y in range(rows):
            for x in range(columns):
                window = maps[:, source, y : y + size, x : x + size]
                result[:, output, y, x] += (window * weight[number]).sum((1, 2))
    return result


def test_the_table_convolution_equals_its_loops_forward_and_backward() -> None:
    layer = TableConvolution(3, ((0, 1), (1, 2), (0, 1, 2)), 3).double()
    nn.init.normal_(layer.bias)
    maps = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    np.testing.assert_allclose(
        layer(maps).detach().numpy(), table_convolution(maps.detach().numpy(), layer), rtol=1e-12
    )
    assert torch.autograd.gradcheck(layer, (maps,))
    assert torch.autograd.gradcheck(
        lambda weight: torch.func.functional_call(layer, {"weight": weight}, (maps,)), (layer.weight,)
    )


def test_subsampling_equals_its_loops_forward_and_backward() -> None:
    layer = Subsampling(2).double()
    nn.init.normal_(layer.coefficient)
    nn.init.normal_(layer.bias)
    maps = torch.randn(3, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    pixels, coefficient, bias = maps.detach().numpy(), layer.coefficient.tolist(), layer.bias.tolist()
    expected = np.zeros((3, 2, 2, 3))
    for c in range(2):
        for y in range(2):
            for x in range(3):
                total = pixels[:, c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum((1, 2))
                expected[:, c, y, x] = total * coefficient[c] + bias[c]
    np.testing.assert_allclose(layer(maps).detach().numpy(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(layer, (maps,))


def test_the_output_is_the_negative_squared_distance_to_each_code() -> None:
    network = LeNet5Paper((1, 28, 28), 10).double()
    seen: list[torch.Tensor] = []
    network.squash.register_forward_hook(lambda module, args, output: seen.append(output))
    logits = network(torch.randn(2, 1, 28, 28, dtype=torch.float64))
    features = seen[-1].detach().numpy()  # F6, after squashing
    expected = [[-((f - code) ** 2).sum() for code in network.codes.numpy()] for f in features]
    np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("network", [LeNet5, LeNet5Paper])
@pytest.mark.parametrize("side", [28, 30, 32, 40])
def test_larger_pictures_fit(network: type[nn.Module], side: int) -> None:
    assert network((3, side, side + 1), 7)(torch.zeros(2, 3, side, side + 1)).shape == (2, 7)


def test_smaller_pictures_are_refused_with_the_fix() -> None:
    with pytest.raises(st.NetworkError, match=r"lenet5 needs pictures of at least 28×28, got 8×8.*--size 28"):
        st.build("lenet5", make_spec((1, 8, 8), 10))
