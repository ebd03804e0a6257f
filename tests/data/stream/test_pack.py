from __future__ import annotations

import hashlib
import json
import resource
import shutil
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import striate as st
from striate.data.imageset import Split
from striate.data.stream import pack as module
from striate.data.stream.index import INDEX_FILE, parse_index
from striate.data.stream.pack import pack
from tests.cli.conftest import call


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]


def test_files_are_copied_as_they_are(files: st.ImageSet, shards: Path) -> None:
    packed: list[tuple[bytes, int]] = []
    for shard in sorted(shards.glob("train-*.tar")):
        content = members(shard)
        for name, picture in content.items():
            key, _, ending = name.partition(".")
            if ending != "cls":
                packed.append((picture, int(content[f"{key}.cls"])))
    originals = [
        (Path(o).read_bytes(), k) for o, k in zip(files.train.origins, files.train.labels.tolist(), strict=True)
    ]
    assert sorted(packed) == sorted(originals)
    assert packed != originals, "they are in another order"


def test_the_index_says_what_is_there(files: st.ImageSet, shards: Path) -> None:
    index = parse_index((shards / INDEX_FILE).read_text(), "it")
    assert {path.name for path in shards.iterdir()} == {INDEX_FILE, *(shard.name for shard in index.shards)}
    assert index.class_names == files.spec.task.class_names
    assert index.input == files.spec.input
    assert index.name == files.name
    for split, own in (("train", files.train), ("val", files.val), ("test", files.test)):
        of_split = index.of_split(split)  # type: ignore[arg-type]
        assert [shard.name for shard in of_split] == [f"{split}-{number:06}.tar" for number in range(len(of_split))]
        counts = torch.tensor([shard.pictures_per_class for shard in of_split]).sum(0)
        assert counts.tolist() == torch.bincount(own.labels, minlength=3).tolist()
    for shard in index.shards:
        content = (shards / shard.name).read_bytes()
        assert shard.size == len(content) <= 40_000 + 20 * 512  # tar files end in full records
        assert shard.sha256 == hashlib.sha256(content).hexdigest()
        assert 2 * shard.samples == len(members(shards / shard.name))
        for block in shard.blocks:
            assert block.crc32 == zlib.crc32(content[block.offset : block.offset + block.size])


def test_equal_pictures_and_seeds_give_equal_shards(files: st.ImageSet, shards: Path, tmp_path: Path) -> None:
    again = pack(files, tmp_path / "again", shard_bytes=40_000)
    assert all((tmp_path / "again" / s.name).read_bytes() == (shards / s.name).read_bytes() for s in again.shards)
    assert (tmp_path / "again" / INDEX_FILE).read_text() == (shards / INDEX_FILE).read_text()
    other = pack(files, tmp_path / "other", shard_bytes=40_000, seed=1)
    assert other.shards[0].sha256 != again.shards[0].sha256


def test_no_decoded_picture_is_copied(files: st.ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Split, "__getitem__")
    assert sum(shard.samples for shard in pack(files, tmp_path / "out").shards) == 150


def test_several_labels_are_packed_as_json(files: st.ImageSet, tmp_path: Path) -> None:
    task = files.spec.task.model_copy(update={"labels": "multi"})
    spec = files.spec.model_copy(update={"task": task})

    def several(split: Split) -> Split:
        labels = torch.nn.functional.one_hot(split.labels, 3).to(torch.uint8)
        labels[::3] = 1
        labels[1::3] = 0
        return Split(split.images, labels, spec, split.origins)

    images = st.ImageSet(several(files.train), several(files.val), several(files.test), name="several")
    pack(images, tmp_path / "shards")
    packed = st.load_data(tmp_path / "shards")
    assert packed.spec == spec
    assert packed.val.labels.shape == (len(files.val), 3)
    assert sorted(packed.val.labels.tolist()) == sorted(images.val.labels.tolist())


def test_nothing_is_left_of_what_fails(files: st.ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, read = module._picture_file, []

    def fail_later(origin: str) -> tuple[bytes, str]:
        read.append(origin)
        return reading(origin if len(read) < 50 else "gone.png")

    monkeypatch.setattr(module, "_picture_file", fail_later)
    with pytest.raises(st.DataError, match=r"Only pictures in files can be packed .*, got 'gone\.png', which is none"):
        pack(files, tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == list(tmp_path.glob(".*out*")) == []


def test_a_full_disk_is_said(files: st.ImageSet, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(st.FileError, match=r"Cannot write shards to .*out: File too large"):
            pack(files, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.glob(".*out*")) == []


def test_refusals(files: st.ImageSet, image_set: st.ImageSet, tmp_path: Path) -> None:
    with pytest.raises(st.DataError, match=r"Only pictures in files can be packed .*got 'train\[\d+\]'"):
        pack(image_set, tmp_path / "out")
    with pytest.raises(st.DataError, match="A shard must have at least 10,000 bytes, got 5"):
        pack(files, tmp_path / "out", shard_bytes=5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(st.FileError, match="out must be new or an empty folder"):
        pack(files, tmp_path / "out")


def test_the_command(picture_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    done = call("datasets", "pack", picture_folder, "--output", out, "--size", "16", "--shard-size", "40kB", "--json")
    assert done.status == 0, done.err
    assert done.json["pictures"] == 150
    assert sorted(shard["name"] for shard in done.json["shards"]) == sorted(path.name for path in out.glob("*.tar"))
    assert np.prod(st.load_data(out).spec.input.shape) == 3 * 16 * 16
    done = call("datasets", "pack", picture_folder, "--shard-size", "a lot")
    assert "A size must be a number of bytes such as 500MB or 1GB, got 'a lot'" in done.err
    (out / INDEX_FILE).unlink()
    done = call("datasets", "index", out, "--json")
    assert done.json["pictures"] == 150
    assert json.loads((out / INDEX_FILE).read_text())["class_names"] == ["0", "1", "2"]
    assert "is there already" in call("datasets", "index", out).err
    assert "must be a folder that holds shards" in call("datasets", "index", tmp_path).err


def test_the_command_leaves_out_what_cannot_be_read_where_asked(picture_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(picture_folder, tmp_path / "photos")
    (tmp_path / "photos" / "cat" / "empty.jpg").touch()
    done = call("datasets", "pack", tmp_path / "photos", "--output", tmp_path / "packed")
    assert done.status == 2
    assert "leave them out with --skip-unreadable" in done.err
    done = call("datasets", "pack", tmp_path / "photos", "--output", tmp_path / "packed", "--skip-unreadable", "--json")
    assert done.status == 0, done.err
    assert done.json["pictures"] == 150


def test_the_cache_is_listed_and_emptied(picture_folder: Path) -> None:
    images = st.load_data(picture_folder, size=16)
    assert [one["name"] for one in call("datasets", "--cache", "--json").json["cached"]] == ["animals"]
    assert "animals" in call("datasets", "--cache").out
    assert call("datasets", "--evict", "animal").err.count("Did you mean 'animals'?") == 1
    assert "in use stay" in call("datasets", "--evict", "animals").out
    del images
    removed = call("datasets", "--evict", "all", "--json").json["removed"]
    assert [one["pictures"] for one in removed] == [150]
    assert call("datasets", "--cache", "--json").json == {"cached": []}
    assert "Removed 0 of 0" in call("datasets", "--evict", "all").out
