"""``striate datasets``: the data sets that are known by name, those in the cache, and shards of your own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from striate.cli.output import Json, print_json, print_table, say
from striate.core import files, machine
from striate.core.errors import DataError, FileError, suggest
from striate.data.cache.limit import cached_sets, pictures_folder, remove_cached
from striate.data.load import load_data
from striate.data.sources.builtin import BUILTIN
from striate.data.stream.index import INDEX_FILE, Shard
from striate.data.stream.pack import pack as pack_shards
from striate.data.stream.scan import count_shards

datasets = App(name="datasets", help_format="markdown")


@datasets.default
def list_datasets(
    *, cache: Annotated[bool, Parameter(negative="")] = False, evict: str | None = None, json: Json = False
) -> int:
    """List the data sets that are known by name; or see and empty the cache of decoded pictures.

    Example: `striate datasets`

    JSON keys: datasets, each with name, description, train, test, classes, shape and licence. With --cache and
    --evict: cached, or removed, each with key, name, pictures, size_bytes and used_at (seconds since 1970).

    Args:
        cache: List what the cache holds of decoded pictures, the least recently used first.
        evict: Remove decoded pictures from the cache: those of a data set's name, or all. Those in use stay.
    """
    if evict is not None:
        return _evict(evict, json)
    if cache:
        return _list_cache(json)
    entries = {name: BUILTIN.get(name) for name in BUILTIN}
    fields = ("description", "train", "test", "classes", "shape", "licence")
    if json:
        print_json({"datasets": [{"name": n, **{f: getattr(e, f) for f in fields}} for n, e in entries.items()]})
        return 0
    rows = [
        [n, e.description, f"{e.train:,}", f"{e.test:,}" if e.test else "held out", str(e.classes),
         "×".join(map(str, e.shape)), e.licence]
        for n, e in entries.items()
    ]  # fmt: skip
    headers = ["name", "what", "train", "test", "classes", "pictures", "licence"]
    print_table(headers, rows, numbers=["train", "test", "classes"])
    return 0


def _list_cache(json: bool) -> int:
    found = cached_sets()
    if json:
        print_json({"cached": [vars(one) for one in found]})
        return 0
    rows = [
        [one.name, f"{one.pictures:,}" if one.pictures else "not whole", machine.in_words(one.size_bytes),
         time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used_at)), one.key]
        for one in found
    ]  # fmt: skip
    print_table(["name", "pictures", "size", "last used", "key"], rows, numbers=["pictures", "size"])
    total = machine.in_words(sum(one.size_bytes for one in found))
    say(f"{len(found)} in {pictures_folder()}: {total}")
    return 0


def _evict(name: str, json: bool) -> int:
    found = cached_sets()
    chosen = [one.key for one in found if name in (one.name, one.key, "all")]
    if not chosen and name != "all":
        near = suggest(name, [one.name for one in found])
        raise DataError(
            f"The cache holds no pictures of {name!r}.{near} `striate datasets --cache` lists what it holds."
        )
    removed = remove_cached(chosen)
    if json:
        print_json({"removed": [vars(one) for one in removed]})
        return 0
    size = machine.in_words(sum(one.size_bytes for one in removed))
    in_use = f"; {len(chosen) - len(removed)} in use stay" if len(removed) < len(chosen) else ""
    say(f"Removed {len(removed)} of {len(found)}: {size}{in_use}.")
    return 0


@datasets.command
def pack(
    data: str,
    /,
    *,
    output: Path | None = None,
    shard_size: str = "500MB",
    size: int | None = None,
    channels: int | None = None,
    group_by: str | None = None,
    skip_unreadable: Annotated[bool, Parameter(negative="")] = False,
    seed: int = 0,
    json: Json = False,
) -> int:
    """Write pictures as shards: tar files of files as they are, shuffled, with an index.

    `striate train` reads them from a folder or a web server, a few at a time.

    Example: `striate datasets pack photos --output shards`

    JSON keys: output, shards (each with name, split, samples and size), pictures.

    Args:
        data: A folder of pictures per class, a zip or tar of one, or a table.
        output: The folder to write. Default: the data's name with -shards.
        shard_size: The most bytes of a shard, such as 500MB or 1GB.
        size: Height and width in pixels that the index proposes.
        channels: 1 for grey, 3 for RGB, that the index proposes.
        group_by: A regular expression that finds in each path what the picture belongs to; one group is never divided.
        skip_unreadable: Leave out picture files that cannot be read, and say which.
        seed: Of the order, and of what is held out.
    """
    most_bytes = _bytes_of(shard_size)
    images = load_data(
        data, size=size, channels=channels, seed=seed, group_by=group_by, skip_unreadable=skip_unreadable
    )
    output = output or Path(f"{images.name}-shards")

    def tell(shard: Shard) -> None:
        say(f"{shard.name}: {shard.samples:,} pictures, {machine.in_words(shard.size)}", json_wanted=json)

    index = pack_shards(images, output, shard_bytes=most_bytes, seed=seed, finished=tell)
    pictures = sum(shard.samples for shard in index.shards)
    if json:
        shards = [{"name": s.name, "split": s.split, "samples": s.samples, "size": s.size} for s in index.shards]
        print_json({"output": str(output), "shards": shards, "pictures": pictures})
    say(f"{pictures:,} pictures in {len(index.shards):,} shards: {output}", json_wanted=json)
    say(f"try       striate train {output}", json_wanted=json)
    return 0


@datasets.command
def index(folder: Path, /, *, json: Json = False) -> int:
    """Write the index of WebDataset shards that have none, into their folder.

    Shards on a web server need one. The split is the first word of a shard's name: train, val or test.

    Example: `striate datasets index shards`

    JSON keys: index, shards, pictures, classes.

    Args:
        folder: The folder that holds the .tar files.
    """
    paths = sorted(folder.glob("*.tar"))
    path = folder / INDEX_FILE
    if not paths:
        raise DataError(f"{folder} must be a folder that holds shards (.tar), got none in it.")
    if path.exists():
        raise FileError(f"{path} is there already. Remove it first, where the shards are others now.")
    made = count_shards(paths, folder.resolve().name)
    files.write_text(path, made.to_json())
    pictures = sum(shard.samples for shard in made.shards)
    if json:
        print_json({"index": str(path), "shards": len(paths), "pictures": pictures, "classes": len(made.class_names)})
    say(f"{pictures:,} pictures of {len(made.class_names)} classes in {len(paths)} shards: {path}", json_wanted=json)
    return 0


def _bytes_of(size: str) -> int:
    """Return the bytes that words such as 500MB mean."""
    found = machine.bytes_in(size)
    if found is None:
        raise DataError(f"A size must be a number of bytes such as 500MB or 1GB, got {size!r}.")
    return found
