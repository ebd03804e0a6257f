"""The index of shards: what cannot be true of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import striate as st
from striate.data.stream.index import INDEX_FILE, parse_index


def test_no_class_has_more_pictures_than_its_shard(shards: Path) -> None:
    text = json.loads((shards / INDEX_FILE).read_text())
    samples = sum(block[2] for block in text["shards"][0]["blocks"])
    text["shards"][0]["pictures_per_class"][0] = samples
    parse_index(json.dumps(text), "x")
    text["shards"][0]["pictures_per_class"][0] = samples + 1
    name = text["shards"][0]["name"]
    with pytest.raises(
        st.DataError, match=f"shards.0 pictures_per_class of {name} must be at most its {samples} pictures"
    ):
        parse_index(json.dumps(text), "x")
