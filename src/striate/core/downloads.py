"""Downloads: over HTTPS, continued where they stopped, and kept only when the checksum is right."""

from __future__ import annotations

import hashlib
import http
import http.client
import logging
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO, final

from striate.core.errors import FileError

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 30
_BY_HAND = "Download it yourself and pass --data-dir with its folder."
_LOGGER = logging.getLogger(__name__)


def download(url: str, path: Path, *, sha256: str | None = None, md5: str | None = None) -> None:
    """Fetch one file and put it at ``path`` once its checksum is right.

    It is written aside, to ``path`` + ``.part``; what an interrupted download left there is continued.

    Args:
        url: HTTPS; plain HTTP only from this machine itself.
        sha256, md5: exactly one of them, in hexadecimal.

    Raises:
        FileError: no connection, a refused or interrupted transfer, a wrong checksum, or nowhere to write.
    """
    if (sha256 is None) == (md5 is None):
        raise ValueError("download must be given exactly one of sha256 and md5.")
    part = path.with_name(path.name + ".part")
    _LOGGER.info("Downloading %s", url)
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
        with part.open("ab" if continued else "wb") as target:
            shutil.copyfileobj(response, target, _CHUNK)
            target.flush()
            os.fsync(target.fileno())
        _check_complete(url, part.stat().st_size, begun, response.headers["Content-Length"])


def _check_complete(url: str, received: int, begun: int, announced: str | None) -> None:
    if announced is not None and received < begun + int(announced):
        raise FileError(
            f"The download of {url} was interrupted after {received:,} of {begun + int(announced):,} bytes. "
            "Run the same command again to go on from there."
        )


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
