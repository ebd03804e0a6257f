"""``models``, ``datasets`` and ``summary``."""

from __future__ import annotations

from pathlib import Path

import pytest

from striate.cli.app import VERBS
from striate.networks.zoo import ZOO
from tests.cli.conftest import Striate
from tests.cli.test_bad_input import refused


def test_models_lists_the_zoo(striate: Striate) -> None:
    rows = {row["name"]: row for row in striate("models", "--json").json["models"]}
    assert set(rows) == set(ZOO)
    assert rows["lenet5"]["parameters"] == 61_706
    assert rows["resnet50"]["field"] == [427, 427]
    assert rows["resnet50"]["weights"]["licence"] == "BSD-3-Clause"
    assert rows["lenet5"]["weights"] is None
    out = striate("models").out
    assert all(name in out for name in rows)


def test_models_can_be_searched_and_sorted(striate: Striate) -> None:
    rows = striate("models", "resnet", "--pretrained", "--sort", "top1", "--json").json["models"]
    assert all("resnet" in f"{row['name']} {row['title']} {row['paper']}".lower() for row in rows)
    accuracies = [row["weights"]["top1"] for row in rows]
    assert len(accuracies) > 5
    assert accuracies == sorted(accuracies, reverse=True)
    refused(striate("models", "perceptron9"), "No network of the zoo is like 'perceptron9'")


def test_models_can_be_plotted(striate: Striate, tmp_path: Path) -> None:
    path = tmp_path / "accuracy.svg"
    assert striate("models", "resnet", "--plot", path).status == 0
    assert "resnet152" in path.read_text(encoding="utf-8")
    assert "resnet20_cifar10" not in path.read_text(encoding="utf-8")
    refused(striate("models", "lenet5", "--plot", path), "None of these networks has published weights of ImageNet")


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


def test_summary_tells_fields_costs_and_sharing(striate: Striate) -> None:
    result = striate("summary", "lenet5", "--json").json
    first = result["layers"][0]
    assert first["field"] == {"size": [5, 5], "jump": [1.0, 1.0], "offset": [-2, -2], "regular": True}
    assert first["multiply_adds"] == 117_600
    assert first["sharing"] == {"weights": 156, "connections": 122_304, "fully_connected": 784 * 4704 + 4704}
    assert result["multiply_adds"] == 416_520
    assert result["notes"] == []
    out = striate("summary", "lenet5").out
    assert "16×16" in out
    assert "50,692 shared weights serve 412,024 connections" in out


def test_summary_of_a_factory(striate: Striate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_net.py").write_text(
        "from torch import nn\n"
        "def make(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))\n"
        "def broken(): raise ValueError('no such thing')\n"
        "number = lambda: 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert striate("summary", "my_net:make", "--input", "3x8x8", "--json").json["parameters"] == 112 + 290
    refused(striate("summary", "my_net:make"), "cannot take a picture of 3×224×224")
    refused(striate("summary", "my_net:broken"), "my_net:broken cannot be made: ValueError: no such thing.")
    refused(striate("summary", "no.such:thing"), "There is no module 'no.such' to import from here.")
    refused(striate("summary", "my_net:number"), "my_net:number must make an nn.Module, got int.")
    refused(striate("summary", "my_net:nothing"), "my_net has no 'nothing'")


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
