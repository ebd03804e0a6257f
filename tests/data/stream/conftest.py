"""Small pictures in files, packed into shards, and a web server that serves a folder."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

import striate as st
from striate.data.stream import scan, stream
from striate.data.stream.pack import pack

CLASSES = ("cat", "dog", "fish")
BLOCK_BYTES = 10_000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few pictures make many blocks and groups."""
    monkeypatch.setattr(scan, "BLOCK_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(stream, "GROUP_BYTES", 20_000)


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 JPEG and PNG files of three classes, brighter from class to class, of several sizes."""
    root, random = tmp_path_factory.mktemp("files") / "animals", np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(50):
            shape = (20 + number % 3, 20 + number % 5, 3)
            pixels = np.clip(random.normal(50 + 70 * k, 20, shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.{'png' if number % 4 else 'jpg'}")
    return root


@pytest.fixture(scope="session")
def files(picture_folder: Path) -> st.ImageSet:
    """The pictures as they are read from files."""
    return st.load_data(picture_folder, size=16)


@pytest.fixture(scope="session")
def packed(files: st.ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures packed into shards of 40 kB."""
    folder = tmp_path_factory.mktemp("packed") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "BLOCK_BYTES", BLOCK_BYTES)
        pack(files, folder, shard_bytes=40_000)
    return folder


@pytest.fixture
def shards(packed: Path, tmp_path: Path) -> Path:
    """A copy of the shards, to do with as a test likes."""
    return Path(shutil.copytree(packed, tmp_path / "shards"))


class Handler(SimpleHTTPRequestHandler):
    """Serves files by range; counts requests, and breaks off or refuses as it is told."""

    ranges = True
    drop_every = 0  # breaks the connection in the middle of every such answer
    refuse: int | None = None
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer one request."""
        kind = type(self)
        kind.requests.append(f"{self.path} {self.headers['Range']}")
        path = Path(self.directory, self.path.lstrip("/"))
        if kind.refuse is not None or not path.is_file():
            self.send_error(kind.refuse or 404)
            return
        content, status = path.read_bytes(), 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        if asked and kind.ranges:
            content, status = content[int(asked[1]) : int(asked[2]) + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        dropped = kind.drop_every and len(kind.requests) % kind.drop_every == 0
        self.wfile.write(content[: len(content) // 2] if dropped else content)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


Serve = Callable[[Path], tuple[str, type[Handler]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a folder on this machine; the address and the handler that can be told to fail are returned."""
    servers = []

    def start(folder: Path) -> tuple[str, type[Handler]]:
        handler = type("OwnHandler", (Handler,), {"requests": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}", handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
