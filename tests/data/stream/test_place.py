from __future__ import annotations

import contextlib
import http.server
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import striate as st
from striate.data.batches import epoch_batches
from striate.data.stream import place as module
from striate.data.stream.index import INDEX_FILE
from striate.data.stream.place import Place, is_address
from tests.data.stream.conftest import Handler, Serve


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once."""
    monkeypatch.setattr(module, "_FIRST_WAIT_SECONDS", 0.0)


def epoch(images: st.ImageSet) -> list[tuple[torch.Tensor, ...]]:
    return [(b.images, b.labels, b.index) for b in epoch_batches(images.learned, 16, epoch=2)]


def equal(one: list[tuple[torch.Tensor, ...]], other: list[tuple[torch.Tensor, ...]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True)
    )


@pytest.mark.parametrize("path", ["", "/", f"/{INDEX_FILE}", "/train-{000000..000001}.tar"])
def test_remote_shards_are_those_of_the_folder(shards: Path, serve: Serve, path: str) -> None:
    address, _ = serve(shards)
    remote = st.load_data(address + path)
    local = st.load_data(shards / path.lstrip("/") if "{" in path else shards)
    assert remote.spec == local.spec
    assert equal(epoch(remote), epoch(local))
    assert torch.equal(remote.val.images, local.val.images)
    assert remote.source is not None
    assert equal(epoch(st.load_data(**remote.source)), epoch(local))


def test_a_server_that_breaks_off_is_asked_for_the_rest(shards: Path, serve: Serve) -> None:
    address, handler = serve(shards)
    handler.drop_every = 2
    assert equal(epoch(st.load_data(address)), epoch(st.load_data(shards)))
    starts = [int(one.split("bytes=")[1].split("-")[0]) for one in handler.requests]
    assert len(set(handler.requests)) == len(handler.requests), "nothing is asked for twice"
    assert sum(start % 512 != 0 for start in starts) > 3, "what was received is kept"


def test_a_server_without_ranges_is_read_all_the_same(shards: Path, serve: Serve) -> None:
    address, handler = serve(shards)
    handler.ranges = False
    assert equal(epoch(st.load_data(address)), epoch(st.load_data(shards)))


def test_troubles_of_the_server_pass(shards: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    address, handler = serve(shards)
    handler.refuse = 503
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        handler.refuse = None if len(waits) == 3 else 503

    monkeypatch.setattr(module.time, "sleep", wait)
    monkeypatch.setattr(module, "_FIRST_WAIT_SECONDS", 0.5)
    content = Place(address + "/").read("train-000000.tar", 512, 1000)
    assert content == (shards / "train-000000.tar").read_bytes()[512:1512]
    assert waits == [0.5, 1.0, 2.0]


def test_a_server_that_is_gone_for_good_is_an_error(shards: Path, serve: Serve) -> None:
    address, handler = serve(shards)
    images = st.load_data(address)
    handler.refuse = 500
    with pytest.raises(st.FileError, match=rf"Cannot read {address}/train-00000\d\.tar: .*, 6 times in a row\. Check"):
        epoch(images)
    handler.refuse = 403
    before = len(handler.requests)
    with pytest.raises(st.FileError, match=r"the server says 403 Forbidden\. Check the address"):
        Place(address + "/").read("train-000000.tar", 0, 10)
    assert len(handler.requests) == before + 1, "an answer that is final is not asked for again"


def test_a_server_that_hangs_is_asked_again(shards: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 0.2)
    address, handler = serve(shards)
    answering, asked = handler.do_GET, itertools.count()

    def hang_twice(self: Handler) -> None:
        if next(asked) < 2:
            time.sleep(0.5)
        with contextlib.suppress(ConnectionError):
            answering(self)

    monkeypatch.setattr(handler, "do_GET", hang_twice)
    content = Place(address + "/").read("train-000000.tar", 512, 1000)
    assert content == (shards / "train-000000.tar").read_bytes()[512:1512]
    assert next(asked) == 3


def test_nobody_listens() -> None:
    with pytest.raises(st.FileError, match=r"Cannot read http://127\.0\.0\.1:9/striate\.json: .*6 times in a row"):
        st.load_data("http://127.0.0.1:9/")


def test_remote_shards_need_an_index(shards: Path, serve: Serve) -> None:
    address, _ = serve(shards)
    (shards / INDEX_FILE).unlink()
    with pytest.raises(st.DataError, match=r"must have an index beside them.*striate datasets index FOLDER"):
        st.load_data(address + "/train-{000000..000001}.tar")


def test_an_index_is_not_read_without_end(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "long").write_bytes(bytes(1000))
    address, _ = serve(tmp_path)
    with pytest.raises(st.DataError, match="must have at most 999 bytes, got more"):
        Place(address + "/").read_small("long", 999)
    assert Place(address + "/").read_small("long", 1000) == bytes(1000)
    assert Place(str(tmp_path)).read_small("absent", 10) is None
    with pytest.raises(st.DataError, match="must have at most 999 bytes, got more"):
        Place(str(tmp_path)).read_small("long", 999)


def test_a_shorter_file_than_the_index_says(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(100))
    address, _ = serve(tmp_path)
    for base in (address + "/", str(tmp_path)):
        with pytest.raises(st.FileError, match=r"a\.tar must have 150 bytes as its index says, and ends before"):
            Place(base).read("a.tar", 50, 100)
    with pytest.raises(st.FileError, match=r"a\.tar must have 600 bytes as its index says, and ends before"):
        Place(address + "/").read("a.tar", 500, 100)


@pytest.fixture
def redirecting() -> Iterator[tuple[str, type[http.server.BaseHTTPRequestHandler]]]:
    class Redirects(http.server.BaseHTTPRequestHandler):
        target = ""

        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", type(self).target)
            self.end_headers()

        def log_message(self, *words: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirects)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", Redirects
    server.shutdown()
    server.server_close()


def test_redirects_lead_to_web_servers_only(
    redirecting: tuple[str, type[http.server.BaseHTTPRequestHandler]], shards: Path, serve: Serve
) -> None:
    address, handler = redirecting
    elsewhere, _ = serve(shards)
    handler.target = f"{elsewhere}/train-000000.tar"  # type: ignore[attr-defined]
    assert Place(address).read("x.tar", 0, 100) == (shards / "train-000000.tar").read_bytes()[:100]
    for target in ("ftp://127.0.0.1/x", "file:///etc/passwd"):
        handler.target = target  # type: ignore[attr-defined]
        with pytest.raises(st.FileError, match=r"must not lead away from http://|the server says 302"):
            Place(address).read("x.tar", 0, 100)
    handler.target = address  # type: ignore[attr-defined]
    with pytest.raises(st.FileError, match="Cannot read"):
        Place(address).read("x.tar", 0, 100)


def test_addresses() -> None:
    assert is_address("https://example.org/a")
    assert is_address("HTTP://example.org")
    assert not any(map(is_address, ("shards", "./a:b", "pipe:cat x", "file:///x", "s3://bucket")))
