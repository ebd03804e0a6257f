from __future__ import annotations

from pathlib import Path

import pytest
import torch

from striate.core.errors import DataError
from striate.data.sources.groups import grouped_by, numbered_groups
from striate.data.sources.listing import Listing

ROOT = Path("/patient9_data")  # what is above the root names no group


def listing_of(**files: list[str]) -> Listing:
    labels = {split: torch.arange(len(own)) % 2 for split, own in files.items()}
    return Listing({split: [str(ROOT / file) for file in own] for split, own in files.items()}, labels, ("a", "b"))


@pytest.mark.parametrize("pattern", [r"(patient\d+)_", r"patient\d+", r"(?<=patient)\d+", r"/([^/_]+)_\d\.png$"])
def test_a_path_names_the_group_by_the_first_group_of_the_expression_or_all_of_it(pattern):
    listing = listing_of(
        train=["a/patient2_0.png", "b/patient10_0.png", "b/patient2_1.png"], test=["a/patient10_7.png"]
    )
    groups = grouped_by(listing, pattern, ROOT).groups
    first, second, third = groups["train"].tolist()
    assert first == third != second == groups["test"].item()


def test_a_path_without_a_group_is_named():
    listing = listing_of(train=["a/patient2_0.png", "a/other.png", "b/patient_.png"])
    with pytest.raises(
        DataError, match=r"in the path of every picture, got none by .* in 2 of 3: 'a/other.png', 'b/pa"
    ):
        grouped_by(listing, r"patient(\d*)", ROOT)  # an empty name is none


def test_what_is_no_expression_and_groups_twice_are_refused():
    listing = listing_of(train=["a/1.png", "a/2.png"])
    with pytest.raises(DataError, match=r"group_by must be a regular expression, got '\(': missing \)"):
        grouped_by(listing, "(", ROOT)
    with pytest.raises(DataError, match="group_by must be left out where the table has a column of groups"):
        grouped_by(grouped_by(listing, ".", ROOT), ".", ROOT)


def test_one_name_has_one_number_and_no_name_is_a_group_of_its_own():
    groups = numbered_groups({"train": ["b", "", "a", ""], "test": ["a", "", "c"]})
    assert groups["train"].tolist() == [1, 3, 0, 4]
    assert groups["test"].tolist() == [0, 5, 2]
    assert groups["test"].dtype == torch.int64
