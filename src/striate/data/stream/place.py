"""Where shards are: a folder, or an address of a web server. Both are read in pieces, by offset."""

from __future__ import annotations

import http
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import final

from striate.core.downloads import CheckedRedirects
from striate.core.errors import DataError, FileError

ATTEMPTS = 6  # in a row that bring nothing; the waits between them add up to 15 seconds
_FIRST_WAIT_SECONDS = 0.5
_TIMEOUT_SECONDS = 30
_MOST_REDIRECTS = 5
_CHUNK = 1 << 18
_SCHEMES = ("http", "https")
# What a server may take back: too many requests, and troubles of its own.
_PASSING = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)


def is_address(data: str) -> bool:
    """Return whether a name is the address of something on a web server."""
    return urllib.parse.urlsplit(data).scheme.lower() in _SCHEMES


@final
@dataclass(frozen=True)
class Place:
    """A folder or an address that shards lie in.

    Args:
        base: the folder's path, or the address up to its last slash.
    """

    base: str

    @property
    def remote(self) -> bool:
        """Whether it is on a web server."""
        return is_address(self.base)

    def where(self, name: str) -> str:
        """Return the path or address of a file."""
        return self.base + urllib.parse.quote(name) if self.remote else str(Path(self.base, name))

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return bytes of a file; from a server that fails, the rest is asked for again.

        Raises:
            FileError: it is not there, or not so long, or the server does not answer any more.
        """
        where = self.where(name)
        content = _fetched(where, offset, size) if self.remote else _read(Path(where), offset, size)
        if len(content) != size:
            raise FileError(
                f"{where} must have {offset + size:,} bytes as its index says, and ends before. "
                "Copy it again, or write the index anew."
            )
        return content

    def read_small(self, name: str, most_bytes: int) -> bytes | None:
        """Return a whole file of at most ``most_bytes``; None where there is none.

        Raises:
            FileError: it cannot be read.
            DataError: it is longer.
        """
        if not self.remote and not Path(self.base, name).is_file():
            return None
        try:
            where = self.where(name)
            content = _fetched(where, 0, most_bytes + 1) if self.remote else _read(Path(where), 0, most_bytes + 1)
        except _AbsentError:
            return None
        if len(content) > most_bytes:
            raise DataError(f"{self.where(name)} must have at most {most_bytes:,} bytes, got more.")
        return content


class _AbsentError(FileError):
    """The server says that there is no such file."""


def _read(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror}.") from error


def _fetched(url: str, offset: int, size: int) -> bytes:
    """Return up to ``size`` bytes from ``offset`` on; a connection that breaks is taken up where it broke."""
    received = bytearray()
    idle = 0
    while True:
        before = len(received)
        try:
            _append(received, url, offset, size)
            return bytes(received)
        except (OSError, http.client.HTTPException) as error:
            _check_passing(url, error)
            idle = 0 if len(received) > before else idle + 1
            if idle == ATTEMPTS:
                raise _gone(url, error) from error
            time.sleep(_FIRST_WAIT_SECONDS * 2 ** max(0, idle - 1))


def _append(received: bytearray, url: str, offset: int, size: int) -> None:
    """Ask for what is lacking, and append it as it comes; an answer that ends too early is an error."""
    start = offset + len(received)
    headers = {"User-Agent": "striate", "Range": f"bytes={start}-{offset + size - 1}", "Accept-Encoding": "identity"}
    opener = urllib.request.build_opener(CheckedRedirects(_check_redirect, _MOST_REDIRECTS))
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # the file ends before: what was received is all
            raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            _skip(response, start)  # the server knows no ranges and sends the whole file
        announced = response.length
        while (lacking := size - len(received)) > 0 and (chunk := response.read(min(_CHUNK, lacking))):
            received += chunk
        if len(received) < size and (announced is None or response.length):
            raise ConnectionError("the answer ended early")


def _skip(response: http.client.HTTPResponse, size: int) -> None:
    while size > 0 and (chunk := response.read(min(_CHUNK, size))):
        size -= len(chunk)


def _check_passing(url: str, error: OSError | http.client.HTTPException) -> None:
    """Raise where asking again is of no use: the server has answered, and the answer is no."""
    code = getattr(error, "code", None)
    if code is None or code in _PASSING or code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return
    kind = _AbsentError if code in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE) else FileError
    raise kind(
        f"Cannot read {url}: the server says {code} {getattr(error, 'reason', '')}. Check the address."
    ) from error


def _gone(url: str, error: BaseException) -> FileError:
    reason = getattr(error, "reason", None) or error
    return FileError(f"Cannot read {url}: {reason}, {ATTEMPTS} times in a row. Check the server and the connection.")


def _check_redirect(request: urllib.request.Request, to: str) -> None:
    """Refuse to be led away from HTTPS, or to anything but a web server."""
    scheme = urllib.parse.urlsplit(to).scheme.lower()
    if scheme != "https" and (scheme != "http" or request.type == "https"):
        raise FileError(f"{request.full_url} must not lead away from {request.type}://, got a redirect to {to}.")
