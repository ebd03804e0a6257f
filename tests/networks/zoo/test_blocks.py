from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import striate as st
from striate.networks import contract
from striate.networks.build import build_on_meta
from striate.networks.zoo.blocks import ConvNormReLU, along_columns, along_rows, concat, initialise, refuse_below
from tests.networks.zoo.test_zoo import make_spec

Maps = tuple[int, ...]


def stage_shapes(name: str, height: int, width: int) -> dict[str, Maps]:
    """Return the shape of each stage's output for one picture, without N."""
    network = build_on_meta(name, make_spec((3, height, width), 1000)).eval()
    shapes: dict[str, Maps] = {}

    def note(stage: str, output: Tensor) -> None:
        shapes[stage] = tuple(output.shape[1:])

    for stage, module in contract.stages_of(network).items():
        module.register_forward_hook(lambda _, __, output, stage=stage: note(stage, output))
    network(torch.empty(1, 3, height, width, device="meta"))
    return shapes


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_block_is_convolution_norm_and_relu() -> None:
    block = ConvNormReLU(3, 5, 3, stride=2, padding=1, eps=0.5)
    block.bn.running_var = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])
    images = torch.randn(2, 3, 7, 9)
    convolved = F.conv2d(images, block.conv.weight, None, 2, 1)
    expected = (convolved / (block.bn.running_var[:, None, None] + 0.5).sqrt()).clamp(min=0)
    torch.testing.assert_close(block.eval()(images), expected)
    assert list(block.state_dict())[:3] == ["conv.weight", "bn.weight", "bn.bias"]


@pytest.mark.parametrize(("block", "reach"), [(along_rows(1, 1, 7), (1, 7)), (along_columns(1, 1, 7), (7, 1))])
def test_windows_along_one_side_reach_along_it_alone(block: ConvNormReLU, reach: Maps) -> None:
    nn.init.ones_(block.conv.weight)
    point = torch.zeros(1, 1, 15, 15)
    point[0, 0, 7, 7] = 1
    lit = block.eval()(point)[0, 0] > 0
    assert lit.shape == (15, 15)
    assert (int(lit.any(1).sum()), int(lit.any(0).sum())) == reach


def test_branches_stand_side_by_side_under_their_names() -> None:
    block = concat({"pool": nn.MaxPool2d(1), "negated": nn.Conv2d(1, 1, 1, bias=False)})
    nn.init.constant_(block.get_submodule("negated").weight, -1.0)  # type: ignore[arg-type]
    images = torch.randn(2, 1, 3, 3)
    assert torch.equal(block(images), torch.cat([images, -images], dim=1))


def test_first_weights_have_the_variance_that_the_papers_say() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(64, 128, 3), nn.Linear(300, 500))
    initialise(layers)
    assert layers[0].weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert layers[1].weight.std().item() == pytest.approx((2 / 800) ** 0.5, rel=0.02)
    assert all(not layer.bias.any() for layer in layers)


def test_too_small_a_picture_is_refused_in_one_sentence() -> None:
    refuse_below(75, "inception_v4", (3, 75, 75))
    message = r"inception_v4 needs pictures of at least 75×75, got 80×74\. Enlarge them with --size 75 \(size=75\)\."
    with pytest.raises(st.NetworkError, match=message):
        refuse_below(75, "inception_v4", (3, 80, 74))
