from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core import machine
from striate.core.errors import DataError
from striate.data.imageset import ImageSet
from striate.data.sources.folder import list_folder
from striate.data.sources.listing import read_listing


def picture(path: Path, level: int = 0, size: tuple[int, int] = (24, 24), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), level, dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def make(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 10, **options: object) -> Path:
    for place, name in enumerate(classes):
        for number in range(count):
            picture(root / name / f"{number}.png", 20 * place + number, **options)
    return root


def read(root: Path, **options: object) -> ImageSet:
    return read_listing(list_folder(root, options.pop("class_names", None)), **({"name": "toy", "seed": 0} | options))


def test_class_folders_become_splits_held_out_by_class(tmp_path):
    images = read(make(tmp_path, ("dog", "cat"), 20))
    assert images.spec.task.class_names == ("cat", "dog")
    assert [len(split) for split in (images.train, images.val, images.test)] == [31, 3, 6]
    assert images.held_out
    assert images.test_held_out
    for split in (images.train, images.val, images.test):
        for one in split:
            level = int(one.images[0, 0, 0, 0])
            assert one.origins[0] == str(tmp_path / ("dog", "cat")[level // 20] / f"{level % 20}.png")
            assert one.labels.tolist() == [1 - level // 20]
    paths = [path for split in (images.train, images.val, images.test) for path in split.origins]
    assert len(set(paths)) == 40


@pytest.mark.parametrize("validation", ["val", "validation", "valid", "VAL"])
@pytest.mark.parametrize("wrapping", ["", "inside", "two/deep"])
def test_split_folders_are_taken_as_they_are(tmp_path, validation, wrapping):
    root = tmp_path / wrapping
    for split, count in (("training" if validation == "validation" else "train", 5), (validation, 2), ("test", 3)):
        make(root / split, count=count)
    images = read(tmp_path)
    assert [len(split) for split in (images.train, images.val, images.test)] == [10, 4, 6]
    assert not images.held_out
    assert not images.test_held_out


def test_a_missing_val_is_held_out_of_train_alone(tmp_path):
    make(tmp_path / "train", count=10)
    make(tmp_path / "test", count=3)
    images = read(tmp_path)
    assert (len(images.train), len(images.val), len(images.test)) == (18, 2, 6)
    assert (images.held_out, images.test_held_out) == (True, False)


def test_hidden_and_other_files_are_left_out(tmp_path):
    make(tmp_path)
    for name in (".DS_Store", "notes.txt", ".hidden.png"):
        (tmp_path / "cat" / name).write_text("nothing")
    for hidden in (".git", "__MACOSX"):
        picture(tmp_path / hidden / "a.png")
    (tmp_path / "labels.csv").touch()
    picture(tmp_path / "dog" / "deeper" / "extra.PNG")
    listing = list_folder(tmp_path)
    assert listing.class_names == ("cat", "dog")
    assert torch.bincount(listing.labels["train"]).tolist() == [10, 11]


def test_pictures_of_formats_that_are_not_read_are_refused_by_name(tmp_path):
    make(tmp_path)
    (tmp_path / "dog" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 100)
    with pytest.raises(
        DataError, match=r"1 of 21 pictures cannot be read(.|\n)*IMG_1\.HEIC is HEIC, which is not read"
    ):
        read(tmp_path)
    images = read(tmp_path, skip_unreadable=True)
    assert len(images.train) + len(images.val) + len(images.test) == 20


def test_a_class_may_be_called_anything(tmp_path):
    names = ("train", "été", "a b", "..x", "'quoted\"", "日本", "new\nline", "cat")
    shown = tuple(sorted(name for name in names if not name.startswith(".")))
    assert read(make(tmp_path, names, 4)).spec.task.class_names == shown


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(20, 12)], (12, 20)),
        ([(96, 96)], (96, 96)),
        ([(97, 97)], (96, 96)),
        ([(20, 12), (30, 10)], (12, 30)),
        ([(16, 8), (17, 8)], (8, 17)),  # wide pictures stay wide: a square would cut half of each off
        ([(97, 8), (96, 8)], (96, 96)),
        ([(20, 12), (400, 300)], (96, 96)),
    ],
)
def test_the_default_size_is_that_of_small_pictures_and_96_for_photographs(tmp_path, sizes, expected):
    for number, size in enumerate(sizes * 4):
        for name in ("cat", "dog"):
            picture(tmp_path / name / f"{number}.png", number, size)
    assert read(tmp_path).spec.input.shape == (3, *expected)
    assert read(tmp_path, size=(8, 9)).spec.input.shape == (3, 8, 9)


def test_grey_pictures_stay_grey_unless_one_has_colour(tmp_path):
    make(tmp_path, mode="L")
    assert read(tmp_path).spec.input.channels == 1
    assert read(tmp_path, channels=3).spec.input.channels == 3
    for number in range(5):
        picture(tmp_path / "dog" / f"z{number}.png")
    assert read(tmp_path).spec.input.channels == 3
    assert read(tmp_path, channels=1).spec.input.channels == 1


def test_mean_and_deviation_are_those_of_train(tmp_path):
    images = read(make(tmp_path))
    train = images.train.images.double() / 255
    assert images.spec.input.mean == pytest.approx(train.mean(dim=(0, 2, 3)).tolist())
    assert images.spec.input.std == pytest.approx(train.std(dim=(0, 2, 3), correction=0).tolist())


def test_the_classes_may_have_another_order(tmp_path):
    images = read(make(tmp_path), class_names=["dog", "cat"])
    assert images.spec.task.class_names == ("dog", "cat")
    assert all(int(one.labels) == int("cat" in one.origins[0]) for one in images.train)
    with pytest.raises(
        DataError, match=r"must have class folders among the 2 of train, got 'cat'. Did you mean 'cats'?"
    ):
        read(tmp_path, class_names=["dog", "cats"])


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"must hold pictures in one folder per class \(ROOT/CLASS.*, got an empty folder"
    ):
        read(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match=r"must hold pictures \(\.bmp, .*\), got none"):
        read(tmp_path)


def test_pictures_without_class_folders_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"must have one folder per class .* got 1 pictures and no folder"):
        read(tmp_path)


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must have at least two classes, got only 'cat'. Add a class of pictures"):
        read(make(tmp_path, ("cat",)))


def test_a_class_needs_two_pictures(tmp_path):
    make(tmp_path)
    make(tmp_path, ("emu",), 1)
    with pytest.raises(DataError, match=r"Class 'emu' of .* must have at least two pictures to train on, got only one"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"Class 'yak' of .* must have at least two pictures to train on, got none"):
        read(tmp_path, class_names=["cat", "dog", "emu", "yak"])


def test_a_folder_without_pictures_is_left_out_with_a_notice(tmp_path, caplog):
    make(tmp_path)
    (tmp_path / "runs" / "digits-1").mkdir(parents=True)
    (tmp_path / "runs" / "digits-1" / "metrics.csv").touch()
    with caplog.at_level(logging.WARNING):
        assert list_folder(tmp_path).class_names == ("cat", "dog")
    assert caplog.messages == [f"No pictures are in 'runs' of {tmp_path}: left out."]


def test_one_class_beside_an_empty_folder_is_said(tmp_path):
    make(tmp_path, ("cat",))
    (tmp_path / "dog").mkdir()
    with pytest.raises(
        DataError, match=r"must have at least two classes, got only 'cat'; no pictures are in 'dog'\. Add a class"
    ):
        read(tmp_path)


def test_a_split_may_lack_a_class_of_train(tmp_path):
    make(tmp_path / "train")
    make(tmp_path / "test", ("dog",), 3)
    (tmp_path / "test" / "cat").mkdir()
    assert read(tmp_path).test.labels.tolist() == [1, 1, 1]


def test_pictures_beside_split_folders_are_refused(tmp_path, caplog):
    make(tmp_path / "train")
    (tmp_path / "runs").mkdir()
    assert list_folder(tmp_path).class_names == ("cat", "dog")
    assert caplog.messages == [f"No pictures are in 'runs' of {tmp_path}: left out."]
    picture(tmp_path / "unlabelled" / "a.png")
    sentence = "must have either split folders or class folders, got 'unlabelled' beside 'train'. Move it elsewhere"
    with pytest.raises(DataError, match=sentence):
        read(tmp_path)
    flat = tmp_path / "flat"
    make(flat, ("train", "test", "unlabelled"))
    with pytest.raises(DataError, match=sentence):
        read(flat)


def test_a_link_to_a_folder_around_it_is_refused(tmp_path):
    make(tmp_path / "pets")
    make(tmp_path / "elsewhere", ("emu",))
    (tmp_path / "pets" / "emu").symlink_to(tmp_path / "elsewhere" / "emu")
    assert list_folder(tmp_path / "pets").class_names == ("cat", "dog", "emu")
    for target in (tmp_path / "pets", tmp_path):
        link = tmp_path / "pets" / "loop"
        link.symlink_to(target)
        with pytest.raises(
            DataError, match=r"loop must not be a link to a folder that it is in, got one to .*\. Remove"
        ):
            read(tmp_path / "pets")
        link.unlink()


@pytest.mark.parametrize("name", ["caf\udce9/a.png", "cat/caf\udce9.png"])
def test_a_name_that_is_not_text_is_refused(tmp_path, name):
    make(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    sentence = r"The name of a file or folder must be valid UTF-8, got '.*caf\\udce9.*'\. Rename it"
    with pytest.raises(DataError, match=sentence):
        read(tmp_path)


def test_only_regular_files_are_pictures(tmp_path):
    make(tmp_path)
    os.mkfifo(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "z.png").symlink_to(tmp_path / "cat" / "0.png")
    assert torch.bincount(list_folder(tmp_path).labels["train"]).tolist() == [11, 10]
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"Cannot read .*gone\.png: No such file or directory"):
        read(tmp_path)


def test_test_pictures_have_no_say_in_size_and_channels(tmp_path):
    make(tmp_path / "train", mode="L")
    make(tmp_path / "test", count=3, size=(90, 40))
    assert read(tmp_path).spec.input.shape == (1, 24, 24)
    make(tmp_path / "val", count=3)
    assert read(tmp_path).spec.input.shape == (3, 24, 24)


def test_classes_must_have_different_names(tmp_path):
    make(tmp_path)
    with pytest.raises(DataError, match="must have different names, got 'cat' twice"):
        read(tmp_path, class_names=["cat", "dog", "cat"])


def test_a_class_that_train_does_not_have_is_refused(tmp_path):
    make(tmp_path / "train")
    make(tmp_path / "test", ("cat", "doge"))
    with pytest.raises(
        DataError, match=r"test must have class folders among the 2 of train, got 'doge'. Did you mean 'dog'"
    ):
        read(tmp_path)


def test_split_folders_must_be_clear(tmp_path):
    make(tmp_path / "val")
    make(tmp_path / "test")
    with pytest.raises(DataError, match="must have a folder 'train' beside 'test'"):
        read(tmp_path)
    make(tmp_path / "train")
    make(tmp_path / "validation")
    with pytest.raises(DataError, match="must have one val folder, got 'val' and 'validation'"):
        read(tmp_path)


def test_a_file_that_is_not_a_picture_is_named(tmp_path):
    make(tmp_path)
    (tmp_path / "cat" / "3.png").write_text("text")
    with pytest.raises(DataError, match=r"cat/3\.png must be a picture \(JPEG, .*; its content is something else"):
        read(tmp_path)


def test_a_truncated_picture_is_named(tmp_path):
    make(tmp_path)
    path = tmp_path / "dog" / "3.bmp"
    picture(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"dog/3\.bmp is truncated: it ends before the picture does"):
        read(tmp_path)


def test_more_than_memory_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    make(tmp_path)
    (tmp_path / "cat" / "3.png").write_text("never read")
    monkeypatch.setattr(machine, "available_system_memory", lambda: 30_000)
    monkeypatch.setenv("STRIATE_CACHE_LIMIT", "30kB")
    with pytest.raises(
        DataError,
        match=r"The 20 pictures of .* kB at 24×24; 30.0 kB of memory are free. They cannot be cached: .*",
    ):
        read(tmp_path)


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    make(tmp_path)
    forbidden = str(tmp_path / "dog")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path) == forbidden:
            raise PermissionError(13, "Permission denied", forbidden)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=r"Cannot read the folder .*dog: Permission denied. Check its permissions"):
        read(tmp_path)


def test_how_many_files_are_left_out_is_said_with_their_endings(tmp_path, caplog):
    make(tmp_path)
    for name in ("a.txt", "b.TXT", "c.jp2", "README", ".hidden.raw"):
        (tmp_path / "cat" / name).touch()
    with caplog.at_level(logging.WARNING):
        list_folder(tmp_path)
    assert caplog.messages == [f"4 files in {tmp_path} are left out by their endings: 2 .txt, 1 .jp2, 1 without one."]


def test_linked_folders_inside_a_class_are_not_entered_and_linked_pictures_count(tmp_path):
    make(tmp_path, count=4)
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat", target_is_directory=True)
    (tmp_path / "dog" / "more.png").symlink_to(tmp_path / "cat" / "0.png")
    assert torch.bincount(list_folder(tmp_path).labels["train"]).tolist() == [4, 5]


def test_a_class_that_has_no_readable_picture_left_is_refused(tmp_path):
    make(tmp_path, count=6)
    for number in range(6):
        (tmp_path / "cat" / f"{number}.png").write_text("text")
    sentence = r"Each class of toy must have a picture to train on that can be read, and 'cat' has none. Copy"
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, skip_unreadable=True)
