"""Picture files, wherever they are listed: a folder, an archive of one, or a table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from striate.core.archives import extract
from striate.core.errors import DataError, suggest
from striate.core.files import cache_folder
from striate.data.sources.builtin import BUILTIN
from striate.data.sources.folder import check_name, list_folder
from striate.data.sources.groups import grouped_by
from striate.data.sources.listing import Listing
from striate.data.sources.table import TABLE_ENDINGS, list_table, read_table

_ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def list_files(path: Path, class_names: Sequence[str] | None = None, group_by: str | None = None) -> Listing:
    """List the pictures of a folder, of an archive (which is extracted into the cache once), or of a table.

    Args:
        path: of the folder, the archive or the table.
        class_names: in the order of the labels; None for the source's own order.
        group_by: a regular expression, see ``grouped_by``.

    Raises:
        DataError: there is no such thing, or its pictures cannot be listed.
        FileError: nothing can be written to the cache.
    """
    check_name(path.resolve())
    if path.is_file() and path.name.lower().endswith(TABLE_ENDINGS):
        root, listing = path.parent, list_table(read_table(path), class_names)
    else:
        root = _folder_of(path)
        listing = list_folder(root, class_names)
    return grouped_by(listing, group_by, root) if group_by is not None else listing


def stem(path: Path) -> str:
    """Return the name of a folder, or that of an archive or a table without its ending."""
    name = path.resolve().name
    endings = (*_ARCHIVE_ENDINGS, *TABLE_ENDINGS) if path.is_file() else ()
    return next((name[: -len(ending)] for ending in endings if name.lower().endswith(ending)), name)


def _folder_of(path: Path) -> Path:
    """Return the folder of pictures: the path itself, or where the archive was extracted to."""
    if path.is_dir():
        return path
    if path.is_file() and path.name.lower().endswith(_ARCHIVE_ENDINGS):
        return _extracted(path)
    if path.is_file():
        kinds = f"an archive ({', '.join(_ARCHIVE_ENDINGS)}) or a table ({', '.join(TABLE_ENDINGS)})"
        raise DataError(f"{path} must be a folder, {kinds}, got another file.")
    near = suggest(str(path), BUILTIN)
    raise DataError(
        f"No data set, folder, archive or table {str(path)!r}.{near} `striate datasets` lists the built-in ones."
    )


def _extracted(archive: Path) -> Path:
    """Return the archive's content in the cache, extracting it when it is new or has changed."""
    now = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()} {now.st_size} {now.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_folder() / "archives" / f"{stem(archive)}-{key}"
    if not folder.is_dir():
        extract(archive, folder)
    return folder
