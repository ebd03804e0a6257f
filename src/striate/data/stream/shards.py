"""A set of shards, in a folder or on a web server, becomes an ImageSet whose train is a Stream."""

from __future__ import annotations

import itertools
import math
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from striate.core.errors import DataError
from striate.core.spec import InputSpec, Resize, Spec, TaskSpec
from striate.data.assemble import DEFAULT_SIDE, enlarged, unmeasured
from striate.data.balance import class_counts
from striate.data.imageset import ImageSet, Split
from striate.data.keyed import keyed_generator
from striate.data.preprocess import statistics
from striate.data.splits import TEST_SHARE, VAL_LIMIT, VAL_SHARE, SplitName
from striate.data.stream.index import INDEX_FILE, ShardIndex, parse_index
from striate.data.stream.place import Place, is_address
from striate.data.stream.scan import index_shards
from striate.data.stream.stream import PlacedBlock, Stream, placed
from striate.data.stream.whole import read_whole

MOST_INDEX_BYTES = 256 << 20
MEASURED_PICTURES = 5_000  # for mean and std where the index has none for this size
_MOST_SHARDS = 1_000_000
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_HELD_OUT_STREAM = -3  # keys which blocks are held out; epochs are 0 and up


def is_shards(data: str | Path) -> bool:
    """Return whether a name means shards: an address, a pattern of .tar files, or a folder of them."""
    text = str(data)
    if is_address(text) or (_BRACES.search(text) and text.endswith(".tar")):
        return True
    folder = Path(text)
    if not folder.is_dir():
        return False
    if (folder / INDEX_FILE).is_file():
        return True
    entries = list(folder.iterdir())
    shards = any(entry.name.endswith((".tar", *_COMPRESSED)) for entry in entries)
    return shards and not any(entry.is_dir() for entry in entries)


def resolved(data: str | Path) -> str:
    """Return the name of shards that means the same from any working folder."""
    return str(data) if is_address(str(data)) else str(Path(data).resolve())


def load_shards(
    data: str | Path,
    *,
    seed: int,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Resize | None = None,
    like: InputSpec | None = None,
    stored_size: float = 1.0,
    class_names: Sequence[str] | None = None,
    origin: Mapping[str, object] | None = None,
) -> ImageSet:
    """Return the ImageSet of shards: train is a Stream, val and test are read whole.

    A split that the shards lack is held out of train: blocks drawn by the seed, at most 5,000 pictures. Size, channels
    and policy are those of the index where none are asked for, else 96×96 RGB. Mean and std are those of the
    index where it was measured as asked for, else of 5,000 pictures of train.

    Args:
        data: a folder that holds .tar files, a pattern ``train-{000000..000009}.tar``, or the address of an index
            (``https://…/striate.json``), of the folder that it is in, or a pattern on a web server.
        class_names: of shards without an index, in the order of the numbers in them.
        size, channels, resize, like, stored_size, seed, origin: see ``load_data``.

    Raises:
        DataError: no shards, no index where one is needed, or shards that cannot be used.
        FileError: they cannot be read.
    """
    place, index = find_shards(data, class_names)
    blocks = _divided(index, seed)
    task = TaskSpec(class_names=index.class_names, labels=index.labels)
    wanted = like or _wanted(index, size, channels, resize)
    unmeasured_spec = Spec(input=wanted, task=task)
    if like is None and wanted != index.input:
        some = Stream(place, blocks["train"], unmeasured_spec, _class_shares(index)).some(MEASURED_PICTURES)
        mean, std = statistics(some.images)
        wanted = wanted.model_copy(update={"mean": mean, "std": std})
    spec = Spec(input=wanted, task=task)
    val = read_whole(place, blocks["val"], spec, f"{index.name} (val)")
    test = read_whole(place, blocks["test"], spec, f"{index.name} (test)")
    held_out, test_held_out = not index.of_split("val"), not index.of_split("test")
    not_learned = [split for split, held in ((val, held_out), (test, test_held_out)) if held]
    return ImageSet(
        Stream(place, blocks["train"], spec, _class_shares(index, not_learned), stored=enlarged(wanted, stored_size)),
        val,
        test,
        name=index.name,
        held_out=held_out,
        test_held_out=test_held_out,
        source=origin,
    )


def _class_shares(index: ShardIndex, held_out: Sequence[Split] = ()) -> tuple[float, ...]:
    """Return the part of the pictures of train, without those that were held out of it, that have each class."""
    shards = index.of_split("train")
    pictures = sum(shard.samples for shard in shards) - sum(map(len, held_out))
    counts = torch.tensor([shard.pictures_per_class for shard in shards]).sum(0)
    for split in held_out:
        counts -= class_counts(split.labels, len(index.class_names))
    return tuple((counts.double() / pictures).tolist())


def find_shards(data: str | Path, class_names: Sequence[str] | None = None) -> tuple[Place, ShardIndex]:
    """Return where shards are, and their index; local ones without an index are counted.

    Raises:
        DataError: there are none, or there is no index on the web server.
    """
    base, last = _base_and_last(str(data))
    place = Place(base)
    names = _expanded(last) if last else None
    content = place.read_small(INDEX_FILE, MOST_INDEX_BYTES)
    if content is not None:
        index = parse_index(content, place.where(INDEX_FILE))
        return place, index if names is None else _chosen(index, names, place)
    if place.remote:
        raise DataError(
            f"Shards on a web server must have an index beside them, and there is no {place.where(INDEX_FILE)}. "
            "Write it where the shards are files, with `striate datasets index FOLDER`, and put it there."
        )
    paths = sorted(Path(base).iterdir()) if names is None else [Path(base, name) for name in names]
    compressed = [path for path in paths if path.name.endswith(_COMPRESSED)]
    if compressed:
        raise DataError(f"Shards must be .tar files that are not compressed, got {compressed[0]}. Unpack it to a .tar.")
    if names is None:
        paths = [path for path in paths if path.suffix == ".tar"]
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise DataError(f"{missing[0] if missing else base} must be a shard (.tar), and is not there. Check the name.")
    return place, index_shards(paths, Path(base).resolve().name, class_names)


def _base_and_last(data: str) -> tuple[str, str | None]:
    """Return the folder or address, and the pattern of the shards in it; None for all that the index names."""
    if not is_address(data):
        path = Path(data)
        return (data, None) if path.is_dir() else (str(path.parent), path.name)
    parts = urllib.parse.urlsplit(data)
    if parts.query or parts.fragment or parts.username:
        raise DataError(
            f"The address of shards must be without user, ? and #, got {data!r}. Serve them under a plain one."
        )
    folder, _, last = data.rpartition("/")
    if not last.endswith(".tar"):
        folder, last = (folder, "") if last == INDEX_FILE or not last else (data, "")
    return folder + "/", urllib.parse.unquote(last) or None


def _expanded(pattern: str) -> list[str]:
    """Return the names that ``a-{000..012}.tar`` stands for."""
    ranges = [(int(first), int(last), len(first)) for first, last in _BRACES.findall(pattern)]
    counts = [1 + last - first for first, last, _ in ranges]
    if min(counts, default=1) < 1 or math.prod(counts) > _MOST_SHARDS:
        raise DataError(f"A pattern of shards must count up, at most to {_MOST_SHARDS:,} of them, got {pattern!r}.")
    numbers = [[f"{number:0{width}}" for number in range(first, last + 1)] for first, last, width in ranges]
    between = _BRACES.sub("\0", pattern).split("\0")
    return [
        "".join(itertools.chain(*zip(between, (*chosen, ""), strict=True))) for chosen in itertools.product(*numbers)
    ]


def _chosen(index: ShardIndex, names: Sequence[str], place: Place) -> ShardIndex:
    """Return the index of the named shards alone, with all of val and test."""
    known = {shard.name for shard in index.shards}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(
            f"The index {place.where(INDEX_FILE)} must name every shard that is asked for, not {unknown[0]!r}."
        )
    asked = set(names)
    kept = tuple(shard for shard in index.shards if shard.name in asked or shard.split != "train")
    return index.model_copy(update={"shards": kept})


def _divided(index: ShardIndex, seed: int) -> dict[SplitName, list[PlacedBlock]]:
    """Return the blocks of each split; those that the shards lack are held out of train."""
    train = placed(index.of_split("train"))
    if not train:
        raise DataError(f"{index.name} must have shards to train on, got {index.shards[0].name} and none of train.")
    splits: dict[SplitName, list[PlacedBlock]] = {"train": train}
    pictures = sum(block.block.samples for block in train)
    order = [train[i] for i in torch.randperm(len(train), generator=keyed_generator(seed, _HELD_OUT_STREAM)).tolist()]
    shares: dict[SplitName, float] = {"test": TEST_SHARE, "val": VAL_SHARE}
    for split, share in shares.items():
        splits[split] = placed(index.of_split(split))
        if not splits[split]:
            splits[split] = _held_out(order, min(VAL_LIMIT, round(share * pictures)), index.name)
    splits["train"] = sorted(order, key=lambda one: one.first)
    return splits


def _held_out(order: list[PlacedBlock], wanted: int, name: str) -> list[PlacedBlock]:
    """Take blocks off the end of ``order`` until they hold about as many pictures as wanted, one at least."""
    held: list[PlacedBlock] = []
    while not held or sum(one.block.samples for one in held) + order[-1].block.samples // 2 < wanted:
        if len(order) < 2:
            raise DataError(
                f"{name} must have at least three blocks to hold val and test out of train. "
                "Give it val and test shards: `striate datasets pack FOLDER` writes them."
            )
        held.append(order.pop())
    return sorted(held, key=lambda one: one.first)


def _wanted(index: ShardIndex, size: tuple[int, int] | None, channels: int | None, resize: Resize | None) -> InputSpec:
    """Return the InputSpec of the index where it is as asked for, else one to be measured."""
    own = index.input or unmeasured(3, DEFAULT_SIDE, DEFAULT_SIDE, "crop")
    height, width = size or (own.height, own.width)
    asked = (channels or own.channels, height, width, resize or own.resize)
    if index.input is not None and asked == (*own.shape, own.resize):
        return own
    return unmeasured(*asked)
