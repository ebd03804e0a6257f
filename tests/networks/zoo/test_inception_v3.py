from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import striate as st
from striate.networks.build import build_on_meta
from striate.networks.contract import Outputs
from striate.networks.zoo.inception_v3 import AuxiliaryClassifier
from tests.networks.zoo.test_blocks import stage_shapes
from tests.networks.zoo.test_zoo import make_spec


def test_every_stage_has_the_size_of_the_table() -> None:
    assert stage_shapes("inception_v3", 299, 299) == {
        "Conv2d_1a_3x3": (32, 149, 149),
        "Conv2d_2a_3x3": (32, 147, 147),
        "Conv2d_2b_3x3": (64, 147, 147),
        "maxpool1": (64, 73, 73),
        "Conv2d_3b_1x1": (80, 73, 73),
        "Conv2d_4a_3x3": (192, 71, 71),
        "maxpool2": (192, 35, 35),
        "Mixed_5b": (256, 35, 35),
        "Mixed_5c": (288, 35, 35),
        "Mixed_5d": (288, 35, 35),
        "Mixed_6a": (768, 17, 17),
        "Mixed_6b": (768, 17, 17),
        "Mixed_6c": (768, 17, 17),
        "Mixed_6d": (768, 17, 17),
        "Mixed_6e": (768, 17, 17),
        "Mixed_7a": (1280, 8, 8),
        "Mixed_7b": (2048, 8, 8),
        "Mixed_7c": (2048, 8, 8),
        "avgpool": (2048, 1, 1),
        "fc": (1000,),
    }


@pytest.mark.parametrize("side", [75, 224, 299, 448])
def test_the_auxiliary_classifier_answers_in_training_only(side: int) -> None:
    network = build_on_meta("inception_v3", make_spec((3, side, side), 6))
    images = torch.empty(2, 3, side, side, device="meta")
    outputs = network.train()(images)
    assert isinstance(outputs, Outputs)
    assert outputs.logits.shape == outputs.auxiliary["AuxLogits"].shape == (2, 6)
    assert network.auxiliary == {"AuxLogits": 0.4}
    assert network.eval()(images).shape == (2, 6)


def auxiliary_logits(head: AuxiliaryClassifier, pooled: Tensor) -> Tensor:
    maps = head.conv1(head.conv0(pooled))
    logits: Tensor = head.fc(maps.flatten(2).mean(2))
    return logits


def test_the_auxiliary_classifier_pools_in_windows_where_they_fit() -> None:
    torch.manual_seed(0)
    head = AuxiliaryClassifier(3).eval()
    large, small = torch.randn(1, 768, 17, 20), torch.randn(1, 768, 16, 20)
    torch.testing.assert_close(head(large), auxiliary_logits(head, F.avg_pool2d(large, 5, 3)))
    torch.testing.assert_close(head(small), auxiliary_logits(head, F.adaptive_avg_pool2d(small, 5)))


def test_the_smallest_picture_trains_and_a_smaller_one_is_refused() -> None:
    network = st.build("inception_v3", make_spec((1, 75, 75), 4))
    outputs = network.train()(torch.randn(2, 1, 75, 75))
    (outputs.logits.sum() + outputs.auxiliary["AuxLogits"].sum()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    with pytest.raises(st.NetworkError, match=r"^inception_v3 needs pictures of at least 75×75, got 74×75\. Enlarge"):
        st.build("inception_v3", make_spec((3, 74, 75), 4))
