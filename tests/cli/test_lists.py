"""``models``, ``datasets`` and ``summary``."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.cli.app import VERBS
from striate.networks.zoo import ZOO
from tests.cli.conftest import Striate


def test_models_lists_the_zoo(striate: Striate) -> None:
    rows = {row["name"]: row for row in striate("models", "--json").json["models"]}
    assert list(rows) == ZOO.names()
    assert rows["lenet5"]["parameters"] == 61_706
    out = striate("models").out
    assert all(name in out for name in rows)


def test_datasets_lists_what_is_built_in(striate: Striate) -> None:
    rows = {row["name"]: row for row in striate("datasets", "--json").json["datasets"]}
    assert {"digits", "mnist", "fashion_mnist", "cifar10"} <= set(rows)
    assert (rows["mnist"]["train"], rows["mnist"]["test"], rows["mnist"]["classes"]) == (60_000, 10_000, 10)
    assert "handwritten" in striate("datasets").out


def test_summary_of_a_name_a_text_and_a_run(striate: Striate, trained: Path) -> None:
    assert striate("summary", "lenet5", "--json").json["parameters"] == 61_706
    assert striate("summary", "lenet5", "--input", "3x32x32", "--classes", "5", "--json").json["parameters"] == 61_581
    text = striate("summary", "conv 10@5x5 pad 2 | fc 10", "--input", "3x32x32", "--json").json
    assert text["layers"][0]["output"] == [10, 32, 32]
    assert text["layers"][0]["parameters"] == 760
    assert "122 parameters" in striate("summary", trained).out


def test_a_warning_of_the_text_is_shown_under_the_table(striate: Striate) -> None:
    done = striate("summary", "conv 16@5x5 stride 3 | fc 10")
    assert done.status == 0
    assert "the last 2 rows and columns are never seen" in done.err
    found = striate("summary", "conv 16@5x5 stride 3 | fc 10", "--json").json["findings"]
    assert found[0]["code"] == "lost-rows"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(striate: Striate, verb: str) -> None:
    done = striate(verb, "--help")
    assert done.status == 0
    assert f"striate {verb}" in done.out
    assert "--json" in done.out
    assert "Example" in done.out
