from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import striate as st
from striate.data.batches import epoch_batches
from striate.data.preprocess import statistics
from striate.data.stream import scan
from striate.data.stream.index import INDEX_FILE, ShardIndex, parse_index
from striate.data.stream.shards import _expanded, is_shards, resolved


def write_shard(path: Path, labels: list[object], ending: str = "cls", first: int = 0) -> None:
    """Write a WebDataset shard of grey levels, as other programs do."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, label in enumerate(labels, start=first):
            picture = io.BytesIO()
            Image.fromarray(np.full((12, 12), number % 256, dtype=np.uint8)).save(picture, "PNG")
            text = json.dumps(label) if ending == "json" else str(label)
            for name, content in ((f"{number:04}.png", picture.getvalue()), (f"{number:04}.{ending}", text.encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def all_of(images: st.ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(epoch_batches(images.learned, 32, shuffle=False))
    return torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])


def test_shards_of_others_with_splits(tmp_path: Path) -> None:
    write_shard(tmp_path / "s" / "train-0.tar", [0, 1, 2] * 10)
    write_shard(tmp_path / "s" / "train-1.tar", [2, 1, 0] * 10, first=30)
    write_shard(tmp_path / "s" / "validation-0.tar", [1, 0], first=60)
    write_shard(tmp_path / "s" / "test.tar", [2], first=62)
    images = st.load_data(tmp_path / "s", size=4, channels=1)
    assert (len(images.learned), len(images.val), len(images.test)) == (60, 2, 1)
    assert not images.held_out
    assert not images.test_held_out
    pictures, labels = all_of(images)
    assert labels.tolist() == [0, 1, 2] * 10 + [2, 1, 0] * 10
    assert pictures[:, 0, 0, 0].tolist() == list(range(60))
    assert images.spec.task.class_names == ("0", "1", "2")
    mean, std = statistics(pictures)
    assert (images.spec.input.mean, images.spec.input.std) == (mean, std)
    assert images.val.images[:, 0, 0, 0].tolist() == [60, 61]
    named = st.load_data(tmp_path / "s", size=4, channels=1, class_names=["a", "b", "c"])
    assert named.spec.task.class_names == ("a", "b", "c")


@pytest.mark.parametrize("ending", ["txt", "json"])
def test_labels_may_be_names(tmp_path: Path, ending: str) -> None:
    write_shard(tmp_path / "s" / "train-0.tar", ["dog", "cat"] * 5, ending)
    write_shard(tmp_path / "s" / "val-0.tar", ["cat"], ending)
    write_shard(tmp_path / "s" / "test-0.tar", ["dog"], ending)
    images = st.load_data(tmp_path / "s")
    assert images.spec.task.class_names == ("cat", "dog")
    assert all_of(images)[1].tolist() == [1, 0] * 5
    with pytest.raises(st.DataError, match="class_names must hold every label in the shards of s, got none for 'dog'"):
        st.load_data(tmp_path / "s", class_names=["cat", "fish"])


def test_several_labels(tmp_path: Path) -> None:
    write_shard(tmp_path / "s" / "train-0.tar", [[0, 2], [], [1]], "json")
    write_shard(tmp_path / "s" / "val-0.tar", [[1]], "json")
    write_shard(tmp_path / "s" / "test-0.tar", [{"labels": [0]}], "json")
    images = st.load_data(tmp_path / "s")
    assert images.spec.task.labels == "multi"
    assert all_of(images)[1].tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_what_is_missing_is_held_out_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "BLOCK_BYTES", 5_000)
    write_shard(tmp_path / "s" / "a.tar", [0, 1] * 100)
    images = st.load_data(tmp_path / "s", size=4, channels=1)
    assert images.held_out
    assert images.test_held_out
    assert 10 <= len(images.val) <= 30
    assert 20 <= len(images.test) <= 40
    levels = [split[:, 0, 0, 0].tolist() for split in (all_of(images)[0], images.val.images, images.test.images)]
    assert sorted(level for own in levels for level in own) == list(range(200))
    again, other = (st.load_data(tmp_path / "s", size=4, channels=1, seed=seed) for seed in (0, 1))
    assert torch.equal(again.val.images, images.val.images)
    assert not torch.equal(other.val.images, images.val.images)
    write_shard(tmp_path / "few" / "a.tar", [0, 1])
    with pytest.raises(st.DataError, match="few must have at least three blocks to hold val and test out of train"):
        st.load_data(tmp_path / "few")


def test_shards_are_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "val", "test"):
        write_shard(tmp_path / "s" / f"{name}-0.tar", [0, 1])
    for expected in (1, 0):
        st.load_data(tmp_path / "s")
        assert capsys.readouterr().err.count("Counting the pictures of 3 shards of s") == expected
    write_shard(tmp_path / "s" / "train-0.tar", [0, 1, 2])
    assert len(st.load_data(tmp_path / "s").learned) == 3


def test_a_pattern_takes_some_shards(shards: Path) -> None:
    images, some = st.load_data(shards), st.load_data(str(shards / "train-{000000..000001}.tar"))
    assert 0 < len(some.learned) < len(images.learned)
    assert torch.equal(some.val.images, images.val.images)
    with pytest.raises(st.DataError, match=r"striate\.json must name every shard that is asked for, not 'train-000077"):
        st.load_data(str(shards / "train-{000077..000078}.tar"))
    (shards / INDEX_FILE).unlink()
    pattern = str(shards / "{train-000000..x}.tar")
    assert not is_shards(pattern)
    with pytest.raises(st.DataError, match=r"train-000077\.tar must be a shard \(\.tar\), and is not there"):
        st.load_data(str(shards / "train-{000077..000077}.tar"))
    for pattern in ("train-{5..1}.tar", "{0..999999}-{0..999999}.tar"):
        with pytest.raises(st.DataError, match=r"A pattern of shards must count up, at most to 1,000,000 of them"):
            st.load_data(str(shards / pattern))


def test_a_pattern_may_count_twice() -> None:
    assert _expanded("a{08..10}-{0..1}.tar") == [f"a{one}-{two}.tar" for one in ("08", "09", "10") for two in (0, 1)]
    assert _expanded("a.tar") == ["a.tar"]


def test_compressed_shards_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "s" / "train-0.tar", [0, 1])
    (tmp_path / "s" / "train-1.tar.gz").write_bytes(gzip.compress((tmp_path / "s" / "train-0.tar").read_bytes()))
    said = r"Shards must be \.tar files that are not compressed, got .*train-1\.tar\.gz\. Unpack it"
    with pytest.raises(st.DataError, match=said):
        st.load_data(tmp_path / "s")
    (tmp_path / "s" / "train-0.tar").unlink()
    with pytest.raises(st.DataError, match=said):
        st.load_data(tmp_path / "s")


def test_a_block_is_no_more_than_memory_takes(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.loads((shards / INDEX_FILE).read_text())
    text["shards"][0] |= {"size": 1 << 40, "blocks": [[0, 1 << 39, 1, None]]}
    with pytest.raises(st.DataError, match=r"shards\.0\.blocks\.0\.1 Input should be less than or equal to 536870912"):
        parse_index(json.dumps(text), "x")
    monkeypatch.setattr(scan, "MOST_BLOCK_BYTES", 1_000)
    write_shard(tmp_path / "s" / "train-0.tar", [0])
    with pytest.raises(
        st.DataError, match=r"must take at most 1,000 bytes with all its members, got one of 2,048 from"
    ):
        st.load_data(tmp_path / "s")


def test_another_size_is_measured(shards: Path, files: st.ImageSet) -> None:
    images = st.load_data(shards, size=8, channels=1)
    mean, std = statistics(all_of(images)[0])
    assert images.spec.input.shape == (1, 8, 8)
    assert images.spec.input.mean == mean
    assert images.spec.input.std == std
    like = st.load_data(shards, like=files.spec.input.model_copy(update={"height": 8, "mean": (0.5,) * 3}))
    assert like.spec.input.mean == (0.5,) * 3


def test_the_source_loads_the_same_again(shards: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(shards.parent)
    images = st.load_data("shards", size=8, seed=3, stored_size=1.5)
    assert images.source is not None
    monkeypatch.chdir(tmp_path)
    again = st.load_data(**images.source)
    assert again.spec == images.spec
    assert again.fingerprint == images.fingerprint
    assert torch.equal(all_of(again)[0], all_of(images)[0])
    assert resolved("https://x/y") == "https://x/y"


def test_what_is_a_set_of_shards(shards: Path, picture_folder: Path, tmp_path: Path) -> None:
    assert is_shards(shards)
    assert is_shards("https://example.org/shards/striate.json")
    assert is_shards("data/a-{0..3}.tar")
    assert not any(map(is_shards, (picture_folder, "digits", "a.tar", tmp_path)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"striate_index": 2}, "striate_index"),
        ({"class_names": []}, "class_names"),
        ({"shards": []}, "shards"),
        ({"extra": 1}, "extra"),
        ({"class_names": ["a"]}, "must be 1 numbers"),
    ],
)
def test_an_index_that_cannot_be_used(shards: Path, change: dict[str, object], said: str) -> None:
    text = json.loads((shards / INDEX_FILE).read_text()) | change
    with pytest.raises(
        st.DataError, match=f"x must be an index of shards as `striate datasets pack` writes it: .*{said}"
    ):
        parse_index(json.dumps(text), "x")


@pytest.mark.parametrize("name", ["../train.tar", "/etc/x.tar", "a/b.tar", ".x.tar", "train.zip", "a\n.tar", "..tar"])
def test_a_shard_leads_nowhere_else(shards: Path, name: str) -> None:
    text = json.loads((shards / INDEX_FILE).read_text())
    text["shards"][0]["name"] = name
    with pytest.raises(st.DataError, match=r"x must be an index of shards.*shards\.0\.name"):
        parse_index(json.dumps(text), "x")


def test_blocks_lie_in_their_shard(shards: Path) -> None:
    text = json.loads((shards / INDEX_FILE).read_text())
    assert len(text["shards"][0]["blocks"]) > 1
    for block in ([0, 10**8, 1, None], [10**9, 1, 1, None]):
        text["shards"][0]["blocks"][-1] = block
        with pytest.raises(
            st.DataError, match=r"blocks of train-000000\.tar must follow each other and end within its"
        ):
            parse_index(json.dumps(text), "x")


def test_an_index_is_a_line_per_shard_and_comes_back(shards: Path) -> None:
    text = (shards / INDEX_FILE).read_text()
    index = parse_index(text, "x")
    assert index.to_json() == text
    assert len(text.splitlines()) == len(index.shards) + 2
    assert isinstance(index, ShardIndex)


def test_mixed_and_absurd_labels(tmp_path: Path) -> None:
    write_shard(tmp_path / "s" / "train-0.tar", [0, "cat"])
    with pytest.raises(st.DataError, match="must be all numbers or all names, got 0 and 'cat'"):
        st.load_data(tmp_path / "s")
    write_shard(tmp_path / "t" / "train-0.tar", [0, 10**9])
    with pytest.raises(st.DataError, match="The labels in the shards of t must be from 0 to 99999, got 1000000000"):
        st.load_data(tmp_path / "t")
    with pytest.raises(st.DataError, match=r"must be without user, \? and #"):
        st.load_data("http://me@127.0.0.1/shards/")
