"""Downloads: over HTTPS, continued where they stopped, and kept only when the checksum is right."""

from __future__ import annotations

import contextlib
import hashlib
import http
import http.client
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO, final

from striate.core import machine
from striate.core.errors import FileError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30
_BY_HAND = "Download it yourself and pass --data-dir with its folder."


def download(url: str, path: Path, *, sha256: str | None = None, md5: str | None = None) -> None:
    """Fetch one file and put it at ``path`` once its checksum is right.

    It is written aside, to ``path`` + ``.part``; what an interrupted download left there is continued. Name, size
    and progress are said on standard error.

    Args:
        url: HTTPS; plain HTTP only from this machine itself.
        sha256, md5: exactly one of them, in hexadecimal.

    Raises:
        FileError: no connection, a refused or interrupted transfer, a wrong checksum, or nowhere to write.
    """
    if (sha256 is None) == (md5 is None):
        raise ValueError("download must be given exactly one of sha256 and md5.")
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part)
        _verify(part, url, "sha256" if sha256 else "md5", sha256 or md5 or "")
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise FileError(f"Cannot download {url}: {reason}. {_BY_HAND}") from error


def _fetch(url: str, part: Path) -> None:
    """Append to ``part`` what it lacks of the file at ``url``."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(_safe(url), headers={"User-Agent": "striate"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.build_opener(_SafeRedirects).open(request, timeout=_TIMEOUT_SECONDS)
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


def _verify(part: Path, url: str, algorithm: str, expected: str) -> None:
    with part.open("rb") as stream:
        received = hashlib.file_digest(stream, algorithm).hexdigest()
    if received != expected.lower():
        part.unlink()
        raise FileError(f"{url} must have the {algorithm} {expected}, got {received}; nothing was kept. {_BY_HAND}")


def _safe(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    this_machine = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    if parts.scheme != "https" and not this_machine:
        raise FileError(f"A download must come from an https:// address, got {url!r}.")
    return url


@final
class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never away from HTTPS."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        return super().redirect_request(req, fp, code, msg, headers, _safe(newurl))
