from __future__ import annotations

import pytest

from striate.core.errors import DataError
from striate.data.sources.builtin import BUILTIN


def test_the_registry_is_full_without_any_other_import():
    expected = {
        "digits",
        "mnist",
        "fashion_mnist",
        "kmnist",
        "emnist_balanced",
        "emnist_letters",
        "cifar10",
        "cifar100",
    }
    assert expected <= set(BUILTIN)
    for name in BUILTIN:
        one = BUILTIN.get(name)
        assert one.description
        assert one.licence
        assert one.train > one.test >= 0


def test_a_misspelt_name_is_suggested():
    with pytest.raises(
        DataError, match=r"No data set named 'mnits'\. Did you mean 'mnist'\? `striate datasets` lists all"
    ):
        BUILTIN.get("mnits")
