"""Downloads: over HTTPS, continued where they stopped, and kept only when the checksum is right."""

from __future__ import annotations

import contextlib
import hashlib
import http
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, final

from striate.core import machine
from striate.core.errors import FileError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30
_FEWEST_DIGITS = 8  # of a checksum: fewer would let too much pass
_MOST_UNZIPPED = 100  # times the size of the zip; a zip bomb has thousands
_BY_HAND = "Download it yourself and pass --data-dir with its folder."


def download(
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    sha256_prefix: str | None = None,
    zipped_sha1: str | None = None,
    by_hand: str = _BY_HAND,
) -> None:
    """Fetch one file and put it at ``path`` once its checksum is right.

    It is written aside, to ``path`` + ``.part``; what an interrupted download left there is continued. Name, size
    and progress are said on standard error.

    Args:
        url: HTTPS; plain HTTP only from this machine itself.
        sha256, md5: exactly one checksum is given, in hexadecimal.
        sha256_prefix: the first digits of it, for a publisher that gives no more. Eight of them tell a damaged file
            from a whole one; against a forged one there is only HTTPS.
        zipped_sha1: of the one file in the zip that ``url`` is; that file is what is put at ``path``.
        by_hand: what the person is told to do where the download fails.

    Raises:
        FileError: no connection, a refused or interrupted transfer, a wrong checksum, or nowhere to write.
    """
    checksum = _the_one(sha256=sha256, md5=md5, sha256_prefix=sha256_prefix, zipped_sha1=zipped_sha1)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part)
        if zipped_sha1 is not None:
            part = _unzipped(part, url, by_hand)
        _verify(part, url, checksum, by_hand)
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise FileError(f"Cannot download {url}: {reason}. {by_hand}") from error


def verify(path: Path, *, sha256_prefix: str | None = None, sha1: str | None = None) -> None:
    """Check a file that somebody has brought; it stays where it is, right or wrong.

    Raises:
        FileError: its checksum is not the one given, or it cannot be read.
    """
    checksum = _the_one(sha256_prefix=sha256_prefix, sha1=sha1)
    try:
        received = checksum.of(path)
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror}.") from error
    if not received.startswith(checksum.expected):
        raise FileError(f"{path} must have the {checksum}, got {received}. Bring the file again, or remove it.")


@final
@dataclass(frozen=True)
class _Checksum:
    """A digest that a file must have, or the first digits of one."""

    algorithm: str
    expected: str

    def of(self, path: Path) -> str:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, self.algorithm).hexdigest()

    def __str__(self) -> str:
        return f"{self.algorithm} {self.expected}"


def _the_one(**checksums: str | None) -> _Checksum:
    given = {name: value for name, value in checksums.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"There must be exactly one of {' and '.join(checksums)}.")
    ((name, value),) = given.items()
    if len(value) < _FEWEST_DIGITS:
        raise ValueError(f"{name} must have at least {_FEWEST_DIGITS} digits, got {value!r}.")
    return _Checksum(name.removesuffix("_prefix").removeprefix("zipped_"), value.lower())


def _fetch(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks of the file at ``url``."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(_safe(url), headers={"User-Agent": "striate"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.build_opener(CheckedRedirects(lambda _, to: _safe(to))).open(
            request, timeout=_TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        with error:
            if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is lacking, or the part is not of this file: the checksum will tell
            raise
    with response:
        continued = response.status == http.HTTPStatus.PARTIAL_CONTENT
        begun = start if continued else 0
        announced = response.headers["Content-Length"]
        total = None if announced is None else begun + int(announced)
        progress = _Progress(part.name.removesuffix(".part"), total)
        with contextlib.closing(progress), part.open("ab" if continued else "wb") as target:
            while chunk := response.read(_CHUNK):
                target.write(chunk)
                progress.show(target.tell())
            target.flush()
            os.fsync(target.fileno())
        _check_complete(url, part.stat().st_size, total)


def _check_complete(url: str, received: int, total: int | None) -> None:
    if total is not None and received < total:
        raise FileError(
            f"The download of {url} was interrupted after {received:,} of {total:,} bytes. "
            "Run the same command again to go on from there."
        )


@final
class _Progress:
    """Says on standard error what is fetched: once, or on a terminal every second how much of it is here."""

    def __init__(self, name: str, total: int | None) -> None:
        self._total = total
        self._line = f"Downloading {name}" + (f" ({machine.in_words(total)})" if total else "")
        self._on_terminal = sys.stderr.isatty()
        self._next_seconds = time.monotonic()
        if not self._on_terminal:
            print(self._line, file=sys.stderr, flush=True)

    def show(self, received: int) -> None:
        """Rewrite the line, where a second has passed or all is here."""
        if self._on_terminal and (time.monotonic() >= self._next_seconds or received == self._total):
            share = f"{received / self._total:4.0%}" if self._total else machine.in_words(received)
            print(f"\r{self._line} {share}\x1b[K", end="", file=sys.stderr, flush=True)
            self._next_seconds = time.monotonic() + 1

    def close(self) -> None:
        """End the line, so that whatever follows starts on its own."""
        if self._on_terminal:
            print(file=sys.stderr)


def _verify(part: Path, url: str, checksum: _Checksum, by_hand: str) -> None:
    received = checksum.of(part)
    if not received.startswith(checksum.expected):
        part.unlink()
        raise FileError(f"{url} must have the {checksum}, got {received}; nothing was kept. {by_hand}")


def _unzipped(part: Path, url: str, by_hand: str) -> Path:
    """Return the one file in a zip, which is removed; no name in the zip is used, so it leads nowhere else."""
    target = part.with_name(part.name + ".unzipped")
    try:
        with zipfile.ZipFile(part) as archive:
            (member,) = (entry for entry in archive.infolist() if not entry.is_dir())
            if member.file_size > _MOST_UNZIPPED * part.stat().st_size:
                raise ValueError("it unpacks to far more than weights do")
            with archive.open(member) as source, target.open("wb") as stream:
                shutil.copyfileobj(source, stream, _CHUNK)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        target.unlink(missing_ok=True)
        raise FileError(f"{url} must be a zip of one file; nothing was kept. {by_hand}") from error
    finally:
        part.unlink()
    return target


def _safe(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    this_machine = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    if parts.scheme != "https" and not this_machine:
        raise FileError(f"A download must come from an https:// address, got {url!r}.")
    return url


@final
class CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that are allowed.

    Args:
        check: raises where the request must not lead to the address.
        most: of them in a row.
    """

    def __init__(self, check: Callable[[urllib.request.Request, str], object], most: int = 10) -> None:
        self._check = check
        self.max_redirections = most  # type: ignore[misc]  # urllib has it on the class, and reads it here

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        self._check(req, newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
