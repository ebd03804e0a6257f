from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.audit.classes import classes
from striate.data.audit.examine import Record
from striate.data.audit.giveaway import FEWEST, giveaways
from striate.data.audit.material import Material


def material(
    records: list[Record] | None, labels: list[int], split: list[int] | None = None, groups: list[int] | None = None
) -> Material:
    count = len(labels)
    return Material(
        [f"{number}.jpg" for number in range(count)],
        ("train", "val", "test"),
        np.array(split or [0] * count),
        torch.tensor(labels),
        tuple(f"class {k}" for k in range(max(labels) + 1)),
        None if groups is None else torch.tensor(groups),
        records,
        torch.zeros(count, 1, 8, 8, dtype=torch.uint8),
    )


def record(**known: object) -> Record:
    usual = {"format": "JPEG", "mode": "RGB", "height": 400, "width": 300, "size_bytes": 40_000}
    return Record(**({"digest": b""} | usual | known))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("mode", [{"mode": "RGB"}, {"mode": "L"}]),
        ("file format", [{"format": "JPEG"}, {"format": "PNG"}]),
        ("camera", [{"camera": ""}, {"camera": "Pentax K10"}]),
        ("EXIF orientation", [{"orientation": 1}, {"orientation": 6}]),
        ("bytes per pixel", [{"size_bytes": 40_000}, {"size_bytes": 90_000}]),
    ],
)
def test_a_property_that_tells_the_class_is_named_alone(name, known):
    labels = [number % 2 for number in range(100)]
    found = giveaways(material([record(**known[label]) for label in labels], labels))
    assert [one.finding.where for one in found] == [name]
    assert found[0].finding.numbers["accuracy"] == 1
    assert found[0].finding.severity == "warning"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(FEWEST, 300),
    classes=st.integers(2, 12),
    uneven=st.floats(0.2, 5),
    kinds=st.integers(1, 40),
)
def test_chance_is_not_reported(seed, count, classes, uneven, kinds):
    """Properties drawn without regard to the class, of many values or few, for even and uneven classes."""
    draws = np.random.default_rng(seed)
    labels = draws.choice(classes, count, p=draws.dirichlet(np.full(classes, uneven))).tolist()
    records = [
        record(
            height=200 + 7 * int(draws.integers(kinds)),
            size_bytes=int(draws.integers(20_000, 90_000)),
            mode=str(draws.choice(["RGB", "L"])),
            format=str(draws.choice(["JPEG", "PNG", "WEBP"])),
            camera=f"camera {draws.integers(kinds)}",
            orientation=int(draws.integers(1, 9)),
        )
        for _ in labels
    ]
    assert giveaways(material(records, labels)) == []


def test_of_a_handful_nothing_is_said():
    labels = [0, 1] * 10
    assert giveaways(material([record(mode="RGB" if label else "L") for label in labels], labels)) == []


def test_imbalance_few_pictures_and_missing_classes_are_found():
    labels = [0] * 300 + [1] * 15 + [0] * 5 + [0, 1]
    found = {one.finding.code: one.finding for one in classes(material(None, labels, [0] * 315 + [1] * 5 + [2] * 2))}
    assert found["imbalance"].numbers["ratio"] == 20
    assert "class 1 (15)" in found["few-pictures"].message
    assert found["missing-class"].message.startswith("val has no picture of 1 class: class 1")
    assert [one.finding.where for one in classes(material(None, [0, 1] * 60))] == ["val", "test"]


def test_a_group_on_both_sides_is_a_leak():
    found = classes(
        material(None, [0, 1] * 30, [0] * 40 + [1] * 10 + [2] * 10, [0] * 30 + [1] * 15 + [2] * 5 + [3] * 10)
    )
    assert [one.finding.code for one in found if one.finding.severity == "error"] == ["group-leak"]
    leak = next(one for one in found if one.finding.code == "group-leak")
    assert leak.pictures == [tuple(range(30, 45))]
