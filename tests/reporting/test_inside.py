"""Every section, for one network of each family and for other people's modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from striate.core.spec import Spec
from striate.data.imageset import ImageSet, Split
from striate.networks import saved
from striate.networks.build import blueprint_of
from striate.reporting.material import Material
from striate.reporting.report import SECTIONS
from tests.inspection import subjects
from tests.reporting.conftest import LEFT_OUT

QUICK = ("in place", "untraceable")


SLOW = [name for name in (*subjects.ZOO, *subjects.FOREIGN) if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_every_section_of_every_network(name: str, tmp_path: Path) -> None:
    network, images = subjects.build(name), subjects.pictures(name)
    with torch.no_grad():
        classes = network.eval()(images[:2].float()).shape[1]
    channels, height, width = images.shape[1:]
    spec = Spec.of((channels, height, width), classes)
    labels = torch.arange(len(images)) % classes
    split = Split(images, labels, spec, [f"test[{number}]" for number in range(len(images))])
    header = saved.Header(blueprint=blueprint_of(network), spec=spec)
    material = Material(tmp_path, network, header, ImageSet(split, split, split, name="made up"))
    for heading, make in SECTIONS.items():
        content = make(material)
        assert content or heading in LEFT_OUT, heading
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
