from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core import machine
from striate.core.errors import DataError, FileError
from striate.core.spec import InputSpec
from striate.data.cache import build, layout, pictures
from striate.data.cache.limit import cached_sets
from striate.data.cache.pictures import prepare_pictures
from striate.data.decode import read_pictures
from striate.data.preprocess import statistics

SPEC = InputSpec(channels=3, height=8, width=8, mean=(0.0,) * 3, std=(1.0,) * 3)
LARGER = SPEC.model_copy(update={"height": 10, "width": 10})


def save(path: Path, seed: int) -> str:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 14, 3), dtype=np.uint8)).save(path)
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[str]]:
    counts = {"train": 23, "val": 5, "test": 7}
    return {
        split: [save(tmp_path / f"{split}{number}.png", number + 100 * index) for number in range(count)]
        for index, (split, count) in enumerate(counts.items())
    }


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_BLOCK_PICTURES", 4)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were decoded."""
    seen: list[str] = []
    decode_in_turn = build.decode_in_turn

    def watched(sources, targets):
        seen.extend(sources)
        return decode_in_turn(sources, targets)

    monkeypatch.setattr(build, "decode_in_turn", watched)
    return seen


def flat(files: dict[str, list[str]]) -> list[str]:
    return [path for paths in files.values() for path in paths]


def assert_right(prepared: pictures.Pictures, files: dict[str, list[str]]) -> None:
    for split, paths in files.items():
        kept = [paths[number] for number in prepared.kept[split].tolist()]
        assert torch.equal(prepared.images[split], read_pictures(kept, SPEC))
        if split == "train" and prepared.stored is not None:
            assert torch.equal(prepared.stored, read_pictures(kept, LARGER))
    assert (prepared.mean, prepared.std) == statistics(prepared.images["train"])


def test_pictures_are_those_of_the_files_and_are_decoded_once(files, decoded):
    for _ in range(2):
        assert_right(prepare_pictures("toy", files, SPEC, LARGER), files)
    assert sorted(decoded) == sorted(flat(files))


def test_writing_to_the_pictures_leaves_the_cache_as_it_is(files):
    prepare_pictures("toy", files, SPEC).images["train"].zero_()
    assert_right(prepare_pictures("toy", files, SPEC), files)


@pytest.mark.parametrize("what", ["content", "size", "policy", "stored", "split"])
def test_anything_that_changes_the_pixels_is_another_entry(files, decoded, what):
    prepare_pictures("toy", files, SPEC)
    decoded.clear()
    spec, stored = SPEC, None
    if what == "content":
        save(Path(files["val"][2]), 77)
    elif what == "size":
        spec = SPEC.model_copy(update={"height": 9})
    elif what == "policy":
        spec = SPEC.model_copy(update={"resize": "pad"})
    elif what == "stored":
        stored = LARGER
    else:
        files["val"].append(files["train"].pop())
    prepared = prepare_pictures("toy", files, spec, stored)
    assert len(decoded) == 35
    assert torch.equal(prepared.images["val"], read_pictures(files["val"], spec))


def test_mean_and_std_of_a_network_are_not_part_of_an_entry(files, decoded):
    prepare_pictures("toy", files, SPEC)
    prepare_pictures("toy", files, SPEC.model_copy(update={"mean": (0.5,) * 3}))
    assert len(decoded) == 35


@pytest.mark.parametrize("how", ["cut", "changed", "grown", "record", "journal"])
def test_a_damaged_entry_is_made_whole(files, how):
    entry = prepare_pictures("toy", files, SPEC, LARGER).entry
    assert entry is not None
    if how == "cut":
        os.truncate(entry.pictures_file, 5_000)
    elif how == "changed":
        with open(entry.pictures_file, "r+b") as file:
            file.seek(700)
            file.write(b"damaged")
    elif how == "grown":
        with open(entry.pictures_file, "ab") as file:
            file.write(b"more")
    elif how == "record":
        (entry.folder / "record.json").write_text("{")
    else:
        (entry.folder / "journal").write_bytes(b"\xff\n[1]\n{}\n")
    assert_right(prepare_pictures("toy", files, SPEC, LARGER), files)


def test_only_the_damaged_block_is_decoded_again(files, decoded):
    entry = prepare_pictures("toy", files, SPEC).entry
    assert entry is not None
    decoded.clear()
    with open(entry.pictures_file, "r+b") as file:
        file.seek(5 * 192)
        file.write(b"damaged")
    assert_right(prepare_pictures("toy", files, SPEC), files)
    assert decoded == files["train"][4:8]


def test_a_damaged_entry_that_is_in_use_is_made_anew_beside_it(files):
    held = prepare_pictures("toy", files, SPEC)
    assert held.entry is not None
    with open(held.entry.pictures_file, "r+b") as file:
        file.write(b"damaged")
    again = prepare_pictures("toy", files, SPEC)
    assert_right(again, files)
    assert not torch.equal(held.images["train"], again.images["train"])


def test_a_copied_entry_is_read_once_and_not_decoded_again(files, decoded):
    entry = prepare_pictures("toy", files, SPEC).entry
    assert entry is not None
    os.utime(entry.pictures_file)
    decoded.clear()
    assert_right(prepare_pictures("toy", files, SPEC), files)
    record = entry.record()
    assert decoded == []
    assert record is not None
    assert record.modified_ns == entry.pictures_file.stat().st_mtime_ns


def damage(files: dict[str, list[str]]) -> list[str]:
    """Make six files unreadable: some in the middle, the last of train, all of the end of val."""
    bad = [files["train"][n] for n in (0, 5, 6, 22)] + files["val"][3:]
    for path in bad[1:]:
        Path(path).write_bytes(Path(path).read_bytes()[:60])
    Path(bad[0]).unlink()
    return bad


def test_files_that_cannot_be_read_are_counted_and_named_with_the_way_out(files):
    bad = damage(files)
    with pytest.raises(DataError) as error:
        prepare_pictures("toy", files, SPEC)
    first, *lines = str(error.value).splitlines()
    assert first == "6 of 35 pictures cannot be read; leave them out with --skip-unreadable (skip_unreadable=True):"
    assert [path in line for path, line in zip(bad[:5], lines, strict=False)] == [True] * 5
    assert lines[5] == "  … and 1 more"


@pytest.mark.parametrize("before", [False, True])
def test_files_that_cannot_be_read_are_left_out_where_that_was_asked_for(files, decoded, caplog, before):
    bad = damage(files)
    if before:
        with pytest.raises(DataError):
            prepare_pictures("toy", files, SPEC, LARGER)
        decoded.clear()
    for _ in range(2):
        caplog.clear()
        prepared = prepare_pictures("toy", files, SPEC, LARGER, skip_unreadable=True)
        assert "6 of 35 pictures cannot be read and are left out" in caplog.text
        assert_right(prepared, files)
        assert [len(prepared.images[split]) for split in files] == [19, 3, 7]
    assert not {path for split in files for path in (files[split][n] for n in prepared.kept[split])} & set(bad)
    assert len(decoded) == (16 if before else 35)  # the blocks of four that hold unreadable ones: 4 + 4 + 3, 4 + 1
    with pytest.raises(DataError, match="6 of 35"):
        prepare_pictures("toy", files, SPEC, LARGER)


def test_files_that_vanished_for_a_while_are_decoded_when_they_are_back(files, monkeypatch):
    decode_in_turn = build.decode_in_turn

    def gone(sources, targets):
        return {**decode_in_turn(sources, targets), 0: "Cannot read it: gone."}

    monkeypatch.setattr(build, "decode_in_turn", gone)
    prepare_pictures("toy", files, SPEC, skip_unreadable=True)
    monkeypatch.setattr(build, "decode_in_turn", decode_in_turn)
    prepared = prepare_pictures("toy", files, SPEC)
    assert_right(prepared, files)
    assert len(prepared.images["train"]) == 23


def test_none_that_can_be_read_is_an_error_in_any_case(files):
    for path in files["train"]:
        Path(path).write_bytes(b"text")
    with pytest.raises(DataError, match="train must have at least one picture, and none of its 23 can be read"):
        prepare_pictures("toy", files, SPEC, skip_unreadable=True)


def test_a_cache_folder_that_cannot_be_made_is_done_without(files, cache, monkeypatch, caplog):
    (cache / "file").write_text("in the way")
    monkeypatch.setenv("STRIATE_CACHE", str(cache / "file" / "cache"))
    assert_right(prepare_pictures("toy", files, SPEC), files)
    assert "into memory, each time anew: Cannot make the cache folder" in caplog.text


def test_without_a_cache_the_pictures_are_decoded_into_memory_with_one_warning(files, cache, monkeypatch, caplog):
    (cache / "pictures").write_text("in the way")
    damage(files)
    with caplog.at_level(logging.WARNING):
        prepared = prepare_pictures("toy", files, SPEC, LARGER, skip_unreadable=True)
    assert_right(prepared, files)
    assert sum("are decoded into memory" in record.message for record in caplog.records) == 1
    monkeypatch.setattr(machine, "available_system_memory", lambda: 1_000)
    with pytest.raises(
        DataError, match=r"35 pictures of toy take .* kB at 8×8; 1.0 kB of memory are free. They cannot"
    ):
        prepare_pictures("toy", files, SPEC)


def test_a_set_over_the_limit_is_not_cached(files, monkeypatch, caplog):
    monkeypatch.setenv("STRIATE_CACHE_LIMIT", "1kB")
    assert_right(prepare_pictures("toy", files, SPEC), files)
    assert "decoded pictures may take 1.0 kB together; STRIATE_CACHE_LIMIT" in caplog.text
    assert cached_sets() == []


def test_the_least_recently_used_goes_but_never_one_in_use(files, monkeypatch):
    def sizes() -> list[int]:
        return [one.size_bytes for one in cached_sets()]

    specs = [SPEC.model_copy(update={"height": 40, "width": side}) for side in (40, 41, 42, 43)]
    held = prepare_pictures("first", files, specs[0])
    for name, spec in zip(("second", "third"), specs[1:3], strict=True):
        prepare_pictures(name, files, spec)
    for age, name in enumerate(("third", "second", "first")):
        key = next(one.key for one in cached_sets() if one.name == name)
        os.utime(pictures.pictures_folder() / key, (1_000 - age, 1_000 - age))
        os.utime(pictures.pictures_folder() / key / "record.json", (1_000 - age, 1_000 - age))
    assert [one.name for one in cached_sets()] == ["first", "second", "third"]
    assert [one.pictures for one in cached_sets()] == [35] * 3
    monkeypatch.setenv("STRIATE_CACHE_LIMIT", str(sum(sizes()) + 1))
    prepare_pictures("fourth", files, specs[3])
    assert [one.name for one in cached_sets()] == ["first", "third", "fourth"]
    assert torch.equal(held.images["val"], read_pictures(files["val"], specs[0]))


def test_the_fingerprint_is_made_once_for_the_same_labels(files):
    prepared = prepare_pictures("toy", files, SPEC)
    labels = {"train": torch.arange(23) % 2, "val": torch.arange(5) % 2}
    made: list[str] = []

    def make() -> str:
        made.append("x")
        return f"made {len(made)}"

    assert [prepared.fingerprint(labels, ("a", "b"), make) for _ in range(2)] == ["made 1"] * 2
    assert prepare_pictures("toy", files, SPEC).fingerprint(labels, ("a", "b"), make) == "made 1"
    assert prepared.fingerprint(labels, ("a", "c"), make) == "made 2"
    assert prepared.fingerprint({**labels, "val": torch.zeros(5, dtype=torch.int64)}, ("a", "b"), make) == "made 3"


def test_a_cache_that_may_only_be_read_is_used(files, decoded, monkeypatch):
    entry = prepare_pictures("toy", files, SPEC).entry
    assert entry is not None
    os.utime(entry.pictures_file)  # which the record would be told of
    decoded.clear()
    opened = os.open

    def only_read(path, flags, *options, **named):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, flags, *options, **named)

    monkeypatch.setattr(os, "open", only_read)
    prepared = prepare_pictures("toy", files, SPEC)
    assert_right(prepared, files)
    assert prepared.entry is not None
    assert prepared.fingerprint({"train": torch.zeros(23)}, ("a", "b"), lambda: "made") == "made"
    assert decoded == []


def test_a_cache_that_is_removed_while_it_is_made_is_an_error_that_says_so(files, monkeypatch):
    write_block = pictures.write_block

    def removed(store, block):
        shutil.rmtree(pictures.pictures_folder())
        monkeypatch.setattr(pictures, "write_block", write_block)

    monkeypatch.setattr(pictures, "write_block", removed)
    with pytest.raises(
        FileError, match=r"^The pictures of toy were removed from .* while they were decoded. Start again"
    ):
        prepare_pictures("toy", files, SPEC)
    assert_right(prepare_pictures("toy", files, SPEC), files)


# One process that forks the others once everything is imported, which takes them seconds each.
PREPARE = """
import os, random, resource, signal, sys, time
from pathlib import Path
from striate.core.spec import InputSpec
from striate.data.cache import build, layout, pictures
layout._BLOCK_PICTURES, pictures._SYNC_SECONDS = 4, 0.0
spec = InputSpec(channels=3, height=8, width=8, mean=(0.0,) * 3, std=(1.0,) * 3)
folder = Path(sys.argv[1])
files = {split: sorted(map(str, folder.glob(split + "*.png")), key=lambda path: (len(path), path))
         for split in ("train", "val", "test")}
decode_in_turn = build.decode_in_turn
def slow(*arguments, **options):
    time.sleep(0.03)
    return decode_in_turn(*arguments, **options)
build.decode_in_turn = slow

def start():
    if (child := os.fork()) == 0:
        status = 1
        try:
            pictures.prepare_pictures("toy", files, spec, spec.model_copy(update={"height": 10, "width": 10}))
            status = 0
        except Exception as error:
            print(type(error).__name__, error, file=sys.stderr)
        finally:
            os._exit(status)
    return child

def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def in_process(files: dict[str, list[str]], words: str) -> tuple[list[str], str]:
    """Return the lines that a process of its own prints, and what it says on standard error."""
    command = [sys.executable, "-c", PREPARE + words, str(Path(files["val"][0]).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr


def test_a_build_goes_on_after_a_kill_at_any_moment(files, decoded):
    statuses, _ = in_process(
        files,
        """
draw = random.Random(0)
journals = lambda: [file for file in Path(os.environ["STRIATE_CACHE"]).glob("pictures/*/journal") if file.read_bytes()]
for attempt in range(8):
    child = start()
    time.sleep(draw.uniform(0, 0.1))
    while attempt == 7 and not journals() and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    print(status_of(child))
""",
    )
    assert statuses.count("-9") >= 3
    assert_right(prepare_pictures("toy", files, SPEC, LARGER), files)
    assert len(decoded) < 35  # something was left of what the others did


def test_two_processes_make_one_entry_and_the_second_says_that_it_waits(files, decoded):
    statuses, errors = in_process(files, "both = start(), start()\nfor child in both: print(status_of(child))")
    assert statuses == ["0", "0"]
    assert errors == "Waiting for another process that is decoding these pictures.\n"
    assert_right(prepare_pictures("toy", files, SPEC, LARGER), files)
    assert decoded == []


def test_a_full_disk_is_an_error_that_says_so_and_leaves_nothing(files):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))"
    statuses, errors = in_process(files, limit + "\nprint(status_of(start()))")
    assert statuses == ["1"]
    assert errors.startswith("FileError Cannot write the pictures of toy to ")
    assert "File too large; they take 23.3 kB. Free some space, or name another folder with STRIATE_CACHE." in errors
    assert cached_sets() == []


def test_a_disk_that_fills_up_while_decoding_leaves_nothing(files, monkeypatch):
    write = layout.FileStore.write

    def full(self, rows, offset):
        if offset > 3_000:
            raise OSError(28, "No space left on device")
        write(self, rows, offset)

    monkeypatch.setattr(layout.FileStore, "write", full)
    with pytest.raises(
        FileError, match=r"^Cannot write the pictures of toy to .*: No space left on device; they take "
    ):
        prepare_pictures("toy", files, SPEC)
    assert cached_sets() == []


def test_an_interrupted_build_is_gone_on_with(files, monkeypatch, decoded):
    monkeypatch.setattr(pictures, "_SYNC_SECONDS", 0.0)
    write_block = pictures.write_block

    def interrupted(store, block):
        if block.numbers.start >= 12:
            raise KeyboardInterrupt
        write_block(store, block)

    monkeypatch.setattr(pictures, "write_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_pictures("toy", files, SPEC)
    monkeypatch.setattr(pictures, "write_block", write_block)
    assert [(one.name, one.pictures) for one in cached_sets()] == [("toy", 0)]
    decoded.clear()
    assert_right(prepare_pictures("toy", files, SPEC), files)
    assert sorted(decoded) == sorted(flat(files)[12:])
