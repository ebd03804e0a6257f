from __future__ import annotations

import pytest

from striate.networks.facts import measure, read_facts
from striate.networks.zoo import ZOO
from tests.networks.zoo.donors import DONORS
from tests.networks.zoo.test_zoo import is_deep, marked


def test_every_network_is_there() -> None:
    assert set(read_facts()) == set(ZOO)


@pytest.mark.parametrize("name", marked(ZOO.names(), is_deep))
def test_what_is_written_down_is_what_is_measured(name: str) -> None:
    assert read_facts()[name] == measure(name), "run python -m striate.networks.facts"


@pytest.mark.parametrize("name", DONORS)
def test_multiply_adds_are_the_donors(name: str) -> None:
    facts, donor = read_facts()[name], DONORS[name]
    assert (facts.multiply_adds, facts.parameters) == (donor.multiply_adds, donor.parameters)
    assert facts.auxiliary == donor.auxiliary_parameters


# A. Araujo, W. Norris, J. Sim, Computing Receptive Fields of Convolutional Neural Networks, Distill 2019.
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("vgg16", 212),
        ("resnet50_v1", 483),
        ("resnet101_v1", 1027),
        ("resnet152_v1", 1507),
        ("bninception", 699),
        ("inception_v3", 1311),
        ("inception_v4", 2071),
        ("inception_resnet_v2", 3039),
    ],
)
def test_receptive_fields_are_the_published_ones(name: str, field: int) -> None:
    assert read_facts()[name].field == (field, field)
