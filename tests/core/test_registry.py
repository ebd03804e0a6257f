from __future__ import annotations

import pytest

from striate.core.errors import NetworkError
from striate.core.registry import Registry


@pytest.fixture
def networks() -> Registry[int]:
    registry: Registry[int] = Registry("network", "striate models", NetworkError)
    registry.add("resnet18")(18)
    registry.add("lenet5")(5)
    return registry


def test_entries_come_back_in_order(networks: Registry[int]) -> None:
    assert networks.get("resnet18") == 18
    assert networks.names() == list(networks) == ["resnet18", "lenet5"]
    assert "lenet5" in networks
    assert "lenet" not in networks


def test_a_near_miss_is_suggested(networks: Registry[int]) -> None:
    with pytest.raises(NetworkError) as error:
        networks.get("resnet_18")
    assert str(error.value) == ("No network named 'resnet_18'. Did you mean 'resnet18'? `striate models` lists all.")


def test_a_duplicate_is_an_error(networks: Registry[int]) -> None:
    with pytest.raises(ValueError, match="already a network named 'lenet5'"):
        networks.add("lenet5")(6)
