"""EMNIST: handwritten letters and digits in six splits, as IDX files in one archive.

Source: Cohen, Afshar, Tapson and van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

from striate.core.archives import extract
from striate.core.downloads import download
from striate.core.files import cache_folder
from striate.data.assemble import Labelled
from striate.data.sources.builtin import BUILTIN, Builtin
from striate.data.sources.idx import Release, read_release

_ADDRESS = "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip"
_MD5 = "58c8d27c78d21e728a6bc7b3cc06412e"

# Where capital and small letter look alike, "balanced" and "bymerge" have one class for both.
_MERGED = tuple(digits + ascii_uppercase + "abdefghnqrt")

# name: (K names, the first label, pictures to train, pictures to test)
_SPLITS: dict[str, tuple[tuple[str, ...], int, int, int]] = {
    "balanced": (_MERGED, 0, 112_800, 18_800),
    "digits": (tuple(digits), 0, 240_000, 40_000),
    "letters": (tuple(ascii_lowercase), 1, 124_800, 20_800),
    "byclass": (tuple(digits + ascii_uppercase + ascii_lowercase), 0, 697_932, 116_323),
    "bymerge": (_MERGED, 0, 697_932, 116_323),
    "mnist": (tuple(digits), 0, 60_000, 10_000),
}


def release_of(split: str) -> Release:
    """Return the four files of one split of EMNIST; its pictures are stored transposed."""
    class_names, first_label, _, _ = _SPLITS[split]
    return Release(
        title=f"EMNIST {split}",
        folders=("emnist", "EMNIST", "gzip"),
        address=_ADDRESS,
        files=tuple(
            f"emnist-{split}-{part}-{kind}-ubyte.gz"
            for part in ("train", "test")
            for kind in ("images-idx3", "labels-idx1")
        ),
        class_names=class_names,
        first_label=first_label,
        upright=False,
    )


def read_emnist(split: str, data_dir: Path | None) -> Labelled:
    """Return one split, downloading the archive of all of them (560 MB) where there is no ``data_dir``."""
    return read_release(release_of(split), data_dir or _downloaded())


def _downloaded() -> Path:
    folder = cache_folder() / "emnist"
    if not folder.is_dir():
        archive = cache_folder() / "emnist-gzip.zip"
        if not archive.exists():
            download(_ADDRESS, archive, md5=_MD5)
        extract(archive, folder)
    return folder


for _split, (_class_names, _, _train, _test) in _SPLITS.items():
    BUILTIN.add(f"emnist_{_split}")(
        Builtin(
            description=f"handwritten characters, {len(_class_names)} classes ({_split})",
            train=_train,
            test=_test,
            classes=len(_class_names),
            shape=(1, 28, 28),
            licence="none stated; derived from NIST Special Database 19",
            read=partial(read_emnist, _split),
        )
    )
