from __future__ import annotations

from pathlib import Path

import pytest
import torch

import striate as st
from striate.data.cache.entry import Entry
from striate.data.cache.limit import cached_sets, pictures_folder
from striate.data.stream import whole as module


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The blocks that were read to be decoded."""
    read: list[object] = []
    reading = module.read_block
    monkeypatch.setattr(module, "read_block", lambda place, block: read.append(block) or reading(place, block))
    return read


def same(one: st.Split, other: st.Split) -> bool:
    return (
        torch.equal(one.images, other.images)
        and torch.equal(one.labels, other.labels)
        and list(one.origins) == list(other.origins)
        and one.spec == other.spec
    )


def test_decoded_once(shards: Path, read: list[object]) -> None:
    first = st.load_data(shards)
    assert len(read) > 2
    read.clear()
    again = st.load_data(shards)
    assert read == []
    assert same(first.val, again.val)
    assert same(first.test, again.test)
    assert {"animals (val)", "animals (test)"} <= {one.name for one in cached_sets()}


def test_another_size_or_shard_is_decoded_anew(shards: Path, read: list[object]) -> None:
    st.load_data(shards)
    read.clear()
    assert st.load_data(shards, size=8).val.images.shape[2:] == (8, 8)
    assert read


def test_what_is_not_whole_is_decoded_again(shards: Path, read: list[object]) -> None:
    first = st.load_data(shards)
    expected, origins = first.val.images.clone(), list(first.val.origins)
    del first
    for entry in pictures_folder().iterdir():
        (entry / "pictures").write_bytes(b"cut")
    read.clear()
    again = st.load_data(shards)
    assert read
    assert torch.equal(again.val.images, expected)
    assert list(again.val.origins) == origins


def test_without_room_they_are_read_into_memory(
    shards: Path, read: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = st.load_data(shards)
    monkeypatch.setattr(module, "make_room", lambda size, entry: False)
    read.clear()
    again = st.load_data(shards)
    assert read == []
    assert same(first.val, again.val)


def test_nothing_is_left_of_a_shard_that_cannot_be_read(shards: Path) -> None:
    path = shards / "val-000000.tar"
    content = path.read_bytes()
    path.unlink()
    before = {one.key for one in cached_sets()}
    with pytest.raises(st.FileError, match=r"Cannot read .*val-000000\.tar"):
        st.load_data(shards)
    assert {one.key for one in cached_sets()} == before
    path.write_bytes(content)
    assert len(st.load_data(shards).val) > 0


def test_a_cache_that_nobody_else_may_read_is_done_without(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = st.load_data(shards).val

    def refused(*arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Entry, "locked", refused)
    assert same(kept, st.load_data(shards).val)
