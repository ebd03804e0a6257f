from __future__ import annotations

import collections
import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import striate as st
from striate.core.spec import Spec, TaskSpec
from striate.data.batches import Batch, epoch_batches
from striate.data.imageset import Split
from striate.data.stream import stream as module
from striate.data.stream.index import INDEX_FILE, parse_index
from striate.data.stream.stream import Stream


def stream_of(shards: Path, **options: object) -> Stream:
    learned = st.load_data(shards, **options).learned  # type: ignore[arg-type]
    assert isinstance(learned, Stream)
    return learned


def same(one: Batch, other: Batch) -> bool:
    pairs = ((one.images, other.images), (one.labels, other.labels), (one.index, other.index))
    return all(torch.equal(a, b) for a, b in pairs)


def by_pixels(images: torch.Tensor, labels: torch.Tensor) -> collections.Counter[tuple[bytes, int]]:
    return collections.Counter(
        (image.numpy().tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)
    )


def test_an_epoch_holds_every_picture_as_it_is_read_from_files(files: st.ImageSet, shards: Path) -> None:
    packed = st.load_data(shards)
    assert packed.spec == files.spec
    assert len(packed.learned) == len(files.train)
    batches = list(epoch_batches(packed.learned, 16))
    assert [len(batch.images) for batch in batches[:-1]] == [16] * (len(batches) - 1)
    images, labels = torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])
    assert by_pixels(images, labels) == by_pixels(files.train.images, files.train.labels)
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == list(range(len(files.train)))
    for own, theirs in ((packed.val, files.val), (packed.test, files.test)):
        assert by_pixels(own.images, own.labels) == by_pixels(theirs.images, theirs.labels)


def test_a_number_means_the_same_picture_in_every_epoch(shards: Path) -> None:
    learned = stream_of(shards)
    first = {int(n): image for b in epoch_batches(learned, 8) for n, image in zip(b.index, b.images, strict=True)}
    for batch in epoch_batches(learned, 8, epoch=1, seed=5):
        assert all(torch.equal(first[int(n)], image) for n, image in zip(batch.index, batch.images, strict=True))


def test_the_order_is_keyed_by_seed_and_epoch(shards: Path) -> None:
    learned = stream_of(shards)
    orders = [
        torch.cat([b.index for b in epoch_batches(learned, 8, epoch=epoch, seed=seed)]).tolist()
        for epoch, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]
    plain = torch.cat([b.index for b in epoch_batches(learned, 8, shuffle=False)]).tolist()
    assert plain == sorted(plain)


def test_pictures_of_different_shards_are_mixed(shards: Path) -> None:
    learned = stream_of(shards)
    shard_of = {n: b.shard for b in learned.blocks for n in range(b.first, b.first + b.block.samples)}
    batches = list(epoch_batches(learned, 16))
    mixed = [len({shard_of[int(n)] for n in batch.index}) > 1 for batch in batches]
    assert sum(mixed) > len(mixed) / 2


@pytest.fixture(scope="module")
def learned(packed: Path) -> Stream:
    """A stream that is only read."""
    return stream_of(packed)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=some.integers(1, 40), start=some.integers(0, 130), drop_last=some.booleans(), epoch=some.integers(0, 3))
def test_batches_from_a_start_are_the_tail(learned: Stream, size: int, start: int, drop_last: bool, epoch: int) -> None:
    every = list(epoch_batches(learned, size, epoch=epoch, drop_last=drop_last))
    tail = list(epoch_batches(learned, size, epoch=epoch, drop_last=drop_last, start_batch=start))
    assert len(tail) == max(0, len(every) - start)
    assert all(same(one, other) for one, other in zip(every[start:], tail, strict=True))


def test_a_start_reads_nothing_of_the_groups_before_it(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = stream_of(shards)
    read = []
    reading = module.read_block
    monkeypatch.setattr(module, "read_block", lambda place, block: read.append(block) or reading(place, block))
    every = len(list(epoch_batches(learned, 8)))
    assert len(read) == len(learned.blocks)
    read.clear()
    list(epoch_batches(learned, 8, start_batch=every - 1))
    assert 1 <= len(read) <= len(learned.blocks) / 3


def test_only_two_groups_are_read_ahead_of_what_is_used(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = stream_of(shards)
    read = []
    reading = module.read_block
    monkeypatch.setattr(module, "read_block", lambda place, block: read.append(block) or reading(place, block))
    batches = epoch_batches(learned, 1)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert sum(one.block.size for one in read) <= 3 * module.GROUP_BYTES


@pytest.mark.parametrize("world", [2, 3, 5])
def test_processes_decode_their_own_rows_of_every_batch(
    shards: Path, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = stream_of(shards)
    whole = list(epoch_batches(learned, 8, epoch=1, start_batch=2))
    decoded = []
    decode = module.decode_samples
    monkeypatch.setattr(
        module, "decode_samples", lambda samples, *rest: decoded.extend(samples) or decode(samples, *rest)
    )
    for rank in range(world):
        rows = slice(rank, None, world)
        for own, batch in zip(epoch_batches(learned, 8, epoch=1, start_batch=2, rows=rows), whole, strict=True):
            assert torch.equal(own.images, batch.images[rows])
            assert torch.equal(own.labels, batch.labels[rows])
            assert torch.equal(own.index, batch.index[rows])
    assert len(decoded) == sum(len(batch.index) for batch in whole)


def test_some_pictures_are_a_split(shards: Path) -> None:
    learned = stream_of(shards)
    part = learned.some(20, seed=1)
    assert isinstance(part, Split)
    assert len(part) == 20
    assert all(origin.startswith("train-0") for origin in part.origins)
    assert torch.equal(part.images, learned.some(20, seed=1).images)
    assert not torch.equal(part.images, learned.some(20, seed=2).images)
    assert len(learned.some(10_000)) == len(learned)


def test_larger_pictures_for_crops_are_those_of_files(picture_folder: Path, shards: Path) -> None:
    larger = st.load_data(picture_folder, size=16, stored_size=1.25).train
    assert larger.stored is not None
    batches = list(epoch_batches(stream_of(shards, stored_size=1.25), 16))
    images, labels = torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])
    assert by_pixels(images, labels) == by_pixels(larger.stored, larger.labels)


def test_another_resolution_is_that_of_a_split(files: st.ImageSet, shards: Path) -> None:
    batches = list(epoch_batches(stream_of(shards), 16, size=(8, 8)))
    split = list(epoch_batches(files.train, 16, size=(8, 8)))
    ours = by_pixels(torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches]))
    assert ours == by_pixels(torch.cat([b.images for b in split]), torch.cat([b.labels for b in split]))


def test_several_labels() -> None:
    task = TaskSpec(class_names=("a", "b", "c"), labels="multi")
    samples = [module.Encoded("x", 0, b"", label) for label in ((0, 2), (), ("b",), 1)]
    expected = [[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert module.labels_of(samples, task).tolist() == expected
    with pytest.raises(st.DataError, match="The label of x must be one of the 3 classes of the index, got 3"):
        module.labels_of([module.Encoded("x", 0, b"", (3,))], task)


def change(shards: Path, name: str, where: int, content: bytes) -> None:
    with (shards / name).open("r+b") as stream:
        stream.seek(where)
        stream.write(content)


def test_a_shard_that_is_not_what_the_index_says_is_named(shards: Path) -> None:
    change(shards, "train-000001.tar", 700, b"changed")
    with pytest.raises(st.DataError, match=r"train-000001\.tar must have the bytes that its index says, and differs"):
        list(epoch_batches(stream_of(shards), 8))


def test_a_picture_that_cannot_be_read_is_named(shards: Path) -> None:
    text = json.loads((shards / INDEX_FILE).read_text())
    for shard in text["shards"]:
        shard["blocks"] = [[*block[:3], None] for block in shard["blocks"]]
    (shards / INDEX_FILE).write_text(json.dumps(text))
    change(shards, "train-000001.tar", 512, b"no picture")
    with pytest.raises(st.DataError, match=r"train-000001\.tar/0\d+\.(png|jpg) in .*shards: "):
        list(epoch_batches(stream_of(shards), 8))


def test_a_shard_that_is_gone_is_named(shards: Path) -> None:
    learned = stream_of(shards)
    (shards / "train-000001.tar").unlink()
    with pytest.raises(st.FileError, match=r"Cannot read .*train-000001\.tar: No such file"):
        list(epoch_batches(learned, 8))


def test_a_shard_that_was_cut_is_named(shards: Path) -> None:
    learned = stream_of(shards)
    with (shards / "train-000001.tar").open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(
        st.FileError, match=r"train-000001\.tar must have [\d,]+ bytes as its index says, and ends before"
    ):
        list(epoch_batches(learned, 8))


def test_the_fingerprint_is_over_the_index(files: st.ImageSet, shards: Path) -> None:
    one, again = st.load_data(shards), st.load_data(shards)
    assert one.fingerprint == again.fingerprint != files.fingerprint
    index = parse_index((shards / INDEX_FILE).read_text(), "x")
    first = index.shards[0]
    block = first.blocks[0]._replace(crc32=1)
    other = first.model_copy(update={"blocks": (block, *first.blocks[1:])})
    changed = index.model_copy(update={"shards": (other, *index.shards[1:])})
    (shards / INDEX_FILE).write_text(changed.to_json())
    assert st.load_data(shards).fingerprint != one.fingerprint


def test_train_says_that_it_is_a_stream(shards: Path) -> None:
    images = st.load_data(shards)
    for use in (lambda: images.train, lambda: images.train_and_val, lambda: images.everything):
        with pytest.raises(
            st.DataError, match=r"train of animals is a stream of shards.*images\.learned\.some\(1000\)"
        ):
            use()
    assert isinstance(images.spec, Spec)
