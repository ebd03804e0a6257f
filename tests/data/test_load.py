from __future__ import annotations

import gzip
import json
import logging
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core import machine
from striate.core.errors import DataError, FileError
from striate.core.spec import InputSpec
from striate.data.imageset import ImageSet, Split
from striate.data.load import load_data

LIKE = InputSpec(channels=1, height=6, width=9, mean=(0.25,), std=(0.5,), resize="stretch", interpolation="nearest")


def make_folder(root: Path) -> Path:
    for place, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (20, 20), (100 * place, number, 0)).save(root / name / f"{number}.png")
    return root


def test_digits_are_the_embedded_default():
    images = load_data("digits")
    assert [len(split) for split in (images.train, images.val, images.test)] == [1294, 144, 359]
    assert images.spec.input.shape == (1, 8, 8)
    assert images.held_out
    assert images.test_held_out
    assert images.fingerprint == load_data("digits").fingerprint
    assert images.fingerprint != load_data("digits", seed=1).fingerprint
    origins = [*images.train.origins, *images.val.origins, *images.test.origins]
    assert sorted(origins) == sorted(f"train[{number}]" for number in range(1797))


def test_the_source_loads_the_same_again(tmp_path):
    for data in ("digits", make_folder(tmp_path / "pets")):
        images = load_data(data, size=(12, 10), seed=3)
        again = load_data(**json.loads(json.dumps(images.source)))
        assert again.fingerprint == images.fingerprint
        assert again.spec == images.spec
        assert torch.equal(again.test.images, images.test.images)


def make_table(root: Path, header: str = "path,label,split,group", lines: int = 24) -> Path:
    rows = [header]
    for number in range(lines):
        Image.new("RGB", (20, 20), (100 * (number % 2), number, 0)).save(root / f"patient{number // 2}_{number}.png")
        split = "test" if number >= 18 else ""
        rows.append(f"patient{number // 2}_{number}.png,{'cat' if number % 2 else 'dog'},{split},{number // 2}")
    (root / "photos.csv").write_text("\n".join(rows))
    return root / "photos.csv"


def assert_same(one: ImageSet, other: ImageSet) -> None:
    assert one.fingerprint == other.fingerprint
    assert one.spec == other.spec
    for name in ("train", "val", "test"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert list(mine.origins) == list(theirs.origins)
        assert torch.equal(mine.images, theirs.images)
        assert torch.equal(mine.groups, theirs.groups)


def test_a_table_is_data_and_its_source_loads_the_same_again(tmp_path):
    images = load_data(make_table(tmp_path), seed=5)
    assert (images.name, images.spec.task.class_names) == ("photos", ("cat", "dog"))
    assert (len(images.test), images.held_out, images.test_held_out) == (6, True, False)
    assert not set(images.train.groups.tolist()) & set(images.val.groups.tolist())
    assert_same(load_data(**json.loads(json.dumps(images.source))), images)


@pytest.mark.parametrize("archived", [False, True])
def test_paths_name_groups_and_the_source_loads_the_same_again(tmp_path, archived):
    for number in range(40):
        path = tmp_path / "pets" / ("cat", "dog")[number % 2] / f"patient{number // 4}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (100 * (number % 2), number, 0)).save(path)
    data = shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "pets") if archived else tmp_path / "pets"
    images = load_data(data, group_by=r"patient(\d+)_", seed=5)
    patients = [{Path(origin).name.split("_")[0] for origin in split.origins} for split in splits_of(images)]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 10
    for names, split in zip(patients, splits_of(images), strict=True):
        assert len(names) == len(set(split.groups.tolist())) > 0
    assert_same(load_data(**json.loads(json.dumps(images.source))), images)


def splits_of(images: ImageSet) -> list[Split]:
    return [images.train, images.val, images.test]


def test_groups_by_path_are_only_for_files():
    pictures = np.zeros((40, 3, 3), dtype=np.uint8)
    for data in ("digits", (pictures, np.arange(40) % 2)):
        with pytest.raises(DataError, match="group_by must be left out unless the pictures are files"):
            load_data(data, group_by="a")


def test_several_labels_are_loaded_from_every_kind(tmp_path):
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 10, dtype=np.uint8)
    pictures = np.arange(40 * 48, dtype=np.uint8).reshape(40, 4, 4, 3)
    rows = ["path,labels"]
    for number, (picture, own) in enumerate(zip(pictures, labels, strict=True)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'|'.join(name for name, mark in zip('ab', own, strict=True) if mark)}")
    (tmp_path / "photos.csv").write_text("\n".join(rows))
    items = list(zip(pictures, labels, strict=True))
    loaded = [
        load_data("photos.csv"),
        load_data((pictures, labels), class_names="ab"),
        load_data(items, class_names="ab"),
    ]
    for images in loaded:
        assert images.spec.task.labels == "multi"
        assert images.spec.task.class_names == ("a", "b")
        assert images.fingerprint == loaded[0].fingerprint
        assert all((split.labels.sum(dim=0) > 0).all() for split in splits_of(images))


def test_frames_and_data_sets_are_data_without_a_source(tmp_path):
    class Frame(dict):  # what pandas and polars have in common
        columns = ("path", "label")
        to_dict = dict.copy

    make_folder(tmp_path)
    paths = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(8)]
    frame = load_data(Frame(path=paths, label=[path[:3] for path in paths]))
    assert (frame.name, frame.source) == ("table", None)
    items = [(Image.open(path), path[:3]) for path in paths]
    dataset = load_data(items, seed=0)
    assert (dataset.name, dataset.source) == ("dataset", None)
    assert dataset.fingerprint == frame.fingerprint == load_data(tmp_path).fingerprint
    assert load_data({"train": items, "test": items[::4]}, size=(6, 7)).test.images.shape == (4, 3, 6, 7)


def test_size_and_channels_can_be_chosen():
    images = load_data("digits", size=16, channels=3)
    assert images.spec.input.shape == images.train.images.shape[1:] == (3, 16, 16)
    grey = load_data((images.train.images.numpy(), images.train.labels.numpy()), channels=3, size=(8, 16))
    assert grey.spec.input.shape == (3, 8, 16)


def test_arrays_are_data_too():
    pictures = np.arange(40 * 9, dtype=np.uint8).reshape(40, 3, 3)
    images = load_data((pictures, np.arange(40) % 2), class_names=["even", "odd"])
    assert images.spec.task.class_names == ("even", "odd")
    assert [len(split) for split in (images.train, images.val, images.test)] == [31, 3, 6]
    assert (images.name, images.source) == ("arrays", None)
    given = load_data({"train": (pictures, np.arange(40) % 2), "test": (pictures[:4], np.arange(4) % 2)})
    assert (len(given.test), given.test_held_out) == (4, False)


@pytest.mark.parametrize("format", ["zip", "gztar"])
def test_an_archive_is_extracted_once_into_the_cache(tmp_path, format, cache):
    make_folder(tmp_path / "content" / "pets")
    archive = Path(shutil.make_archive(str(tmp_path / "pets"), format, tmp_path / "content"))
    images = load_data(archive)
    assert images.name == "pets"
    assert images.spec.task.class_names == ("cat", "dog")
    assert all(origin.startswith(str(cache)) for origin in images.train.origins)
    assert load_data(archive).fingerprint == images.fingerprint
    assert len(list((cache / "archives").iterdir())) == 1


def test_a_built_in_name_comes_before_a_folder_with_a_notice(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "digits")
    with caplog.at_level(logging.WARNING):
        assert load_data("digits").name == "digits"
    assert "'digits' is the built-in data set; for the folder of that name say './digits'" in caplog.text
    assert load_data("./digits").spec.task.class_names == ("cat", "dog")
    assert load_data(Path("digits")).spec.task.class_names == ("cat", "dog")


def test_hyphens_and_underscores_are_equal(tmp_path):
    for split in ("train", "t10k"):
        pictures = np.arange(100, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
        header = struct.pack(">BBBB3I", 0, 0, 8, 3, 100, 28, 28)
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pictures.tobytes()))
        labels = struct.pack(">BBBBI", 0, 0, 8, 1, 100) + bytes(number % 10 for number in range(100))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(labels)
    hyphen, underscore = (load_data(name, data_dir=tmp_path) for name in ("fashion-mnist", "Fashion_MNIST"))
    assert hyphen.name == underscore.name == "fashion_mnist"
    assert (hyphen.held_out, hyphen.test_held_out) == (True, False)
    assert hyphen.fingerprint == underscore.fingerprint


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("fashion-mnits", r"No data set, folder, archive or table 'fashion-mnits'\. Did you mean 'fashion_mnist'\?"),
        ("/nowhere/at/all", r"No data set, folder, archive or table '/nowhere/at/all'\. `striate datasets` lists"),
        (3, "data must be a name, a path, .*, got int"),
    ],
)
def test_no_such_data_is_said(data, sentence):
    with pytest.raises(DataError, match=sentence):
        load_data(data)


def test_a_file_of_another_kind_or_a_broken_archive_is_refused(tmp_path):
    (tmp_path / "table.xlsx").touch()
    with pytest.raises(
        DataError,
        match=r"table\.xlsx must be a folder, an archive \(\.zip, .*\) or a table \(\.csv, \.tsv\), got another file",
    ):
        load_data(tmp_path / "table.xlsx")
    (tmp_path / "pets.zip").write_bytes(b"PK but nothing else")
    with pytest.raises(DataError, match=r"pets\.zip must be a whole \.zip, .*it is damaged or something else"):
        load_data(tmp_path / "pets.zip")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0}, "size must be at least 1 pixel, got 0"),
        ({"channels": 0}, "channels must be 1 for grey or 3 for RGB, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"stored_size": 0.5}, "stored_size must be from 1 to 4 times the size, got 0.5"),
        ({"stored_size": float("nan")}, "stored_size must be from 1 to 4 times the size, got nan"),
        ({"stored_size": float("inf")}, "stored_size must be from 1 to 4 times the size, got inf"),
        ({"channels": 4}, "channels must be 1 for grey or 3 for RGB, got 4"),
        ({"size": 1_000_000}, "size must be at most 65,535 pixels, got 1,000,000. Try a smaller --size"),
        ({"size": (8, 65_535), "like": LIKE}, "like must be given without size, which it decides. Leave one of"),
        ({"channels": 1, "resize": "pad", "like": LIKE}, "like must be given without channels and resize, which"),
    ],
)
def test_an_impossible_request_is_refused(options, sentence):
    with pytest.raises(DataError, match=sentence):
        load_data("digits", **options)


def test_picture_files_are_grey_or_rgb(tmp_path):
    with pytest.raises(DataError, match=r"^channels must be 1 for grey or 3 for RGB, got 2\.$"):
        load_data(make_folder(tmp_path), channels=2)


def test_rgb_arrays_become_grey_where_asked():
    colours = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)
    for pictures in (colours, colours.transpose(0, 3, 1, 2)):
        assert load_data((pictures, np.arange(20) % 2), channels=1).spec.input.shape == (1, 5, 4)


def test_pictures_are_read_as_a_network_takes_them(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
    for data in ("digits", make_folder(tmp_path / "pets"), (colours, np.arange(20) % 2)):
        images = load_data(data, like=LIKE)
        assert images.spec.input == LIKE
        assert images.test.images.shape[1:] == LIKE.shape
    rgb = LIKE.model_copy(update={"channels": 3, "mean": (0.0,) * 3, "std": (1.0,) * 3})
    images = load_data("digits", like=rgb)
    assert images.spec.input == rgb
    again = load_data(**json.loads(json.dumps(images.source)))
    assert again.spec == images.spec
    assert again.fingerprint == images.fingerprint


def test_more_than_memory_is_refused_before_it_is_taken(monkeypatch):
    pictures = np.zeros((40, 10, 10), dtype=np.uint8)
    labels = np.arange(40) % 2
    with pytest.raises(DataError, match=r"The 1,797 pictures of digits take 7\.7 TB at 65535×65535; .* of memory are"):
        load_data("digits", size=65_535)
    monkeypatch.setattr(machine, "available_system_memory", lambda: 3_999)
    with pytest.raises(DataError, match=r"The 40 pictures of arrays take 4\.0 kB at 10×10; .* Try a smaller --size"):
        load_data((pictures, labels))
    monkeypatch.setattr(machine, "available_system_memory", lambda: 0)
    assert len(load_data(((pictures, labels),) * 3).train) == 40  # nothing is copied, so nothing is needed


def test_two_pictures_of_each_class_are_too_few_to_hold_out():
    pictures, labels = np.zeros((4, 3, 3), dtype=np.uint8), np.array([0, 0, 1, 1])
    with pytest.raises(
        DataError, match=r"arrays must have at least three pictures of a class, one each for .* got two at most\. Add"
    ):
        load_data((pictures, labels))
    assert len(load_data(((pictures, labels), (pictures, labels))).val) == 2


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    make_folder(tmp_path / "pets")
    archive = shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "pets")
    monkeypatch.setenv("STRIATE_CACHE", "/proc/nope")
    with pytest.raises(
        FileError, match=r"Cannot make the cache folder /proc/nope: .*\. Name another with STRIATE_CACHE"
    ):
        load_data(archive)


def test_a_path_that_is_not_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be valid UTF-8, got '.*pets\\udce9'\. Rename it"):
        load_data(make_folder(tmp_path / "pets\udce9"))


def test_the_real_mnist_loads_in_about_a_second(shared):
    folder = shared("mnist")
    began = time.process_time()
    images = load_data("mnist", data_dir=folder)
    assert time.process_time() - began < 5  # 0.4 s on an idle machine
    assert [len(split) for split in (images.train, images.val, images.test)] == [55_000, 5_000, 10_000]
    assert images.spec.input.mean[0] == pytest.approx(0.1307, abs=5e-4)
    assert images.spec.input.std[0] == pytest.approx(0.3081, abs=5e-4)


def test_the_real_clothing_archive_loads(shared):
    images = load_data(shared("clothing.tar.gz"), size=16)
    assert [len(split) for split in (images.train, images.val, images.test)] == [1435, 341, 372]
    assert images.name == "clothing"
    assert len(images.spec.task.class_names) == 10
    assert not images.held_out
