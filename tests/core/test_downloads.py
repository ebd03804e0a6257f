from __future__ import annotations

import hashlib
import io
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from striate.core.downloads import download, verify
from striate.core.errors import FileError

CONTENT = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Files(BaseHTTPRequestHandler):
    """Serves CONTENT: with ranges, without, cut short, or from somewhere else."""

    ranges: list[str | None]

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        if self.path == "/moved":
            self.answer(302, b"", Location="http://example.invalid/file")
        elif self.path == "/missing":
            self.answer(404, b"")
        elif self.path == "/short":
            self.answer(200, CONTENT[:1000], **{"Content-Length": str(len(CONTENT))})
        elif asked and self.path == "/file":
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.answer(206 if start < len(CONTENT) else 416, CONTENT[start:])
        else:
            self.answer(200, CONTENT)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Files.ranges = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("checksum", [{"sha256": SHA256}, {"md5": MD5.upper()}])
def test_a_file_with_the_right_checksum_is_kept(address, tmp_path, checksum):
    path = tmp_path / "new" / "file.gz"
    download(f"{address}/file", path, **checksum)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_name_and_size_are_said_once_where_nobody_watches(address, tmp_path, capsys):
    download(f"{address}/file", tmp_path / "file.gz", md5=MD5)
    captured = capsys.readouterr()
    assert captured.err == "Downloading file.gz (1.0 MB)\n"
    assert captured.out == ""


def test_on_a_terminal_the_progress_is_said(address, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    download(f"{address}/file", tmp_path / "file.gz", md5=MD5)
    lines = capsys.readouterr().err.split("\r")
    assert lines[-1] == "Downloading file.gz (1.0 MB) 100%\x1b[K\n"
    assert len(lines) <= 3


@pytest.mark.parametrize(("name", "status"), [("file", "continues"), ("whole", "starts again")])
def test_an_interrupted_download_goes_on(address, tmp_path, name, status):
    path = tmp_path / "file"
    path.with_name("file.part").write_bytes(CONTENT[:5000])
    download(f"{address}/{name}", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert Files.ranges == ["bytes=5000-"]


def test_a_part_that_is_whole_already_is_only_checked(address, tmp_path):
    path = tmp_path / "file"
    path.with_name("file.part").write_bytes(CONTENT)
    download(f"{address}/file", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


def test_a_transfer_cut_short_says_how_to_go_on(address, tmp_path):
    path = tmp_path / "file"
    with pytest.raises(FileError, match=r"was interrupted after 1,000 of 1,024,000 bytes. Run the same command again"):
        download(f"{address}/short", path, sha256=SHA256)
    assert [one.name for one in tmp_path.iterdir()] == ["file.part"]
    download(f"{address}/file", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


def test_a_wrong_checksum_keeps_nothing(address, tmp_path):
    with pytest.raises(FileError, match=f"must have the md5 {'0' * 32}, got {MD5}; nothing was kept. Download it"):
        download(f"{address}/file", tmp_path / "file", md5="0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_no_such_file_is_one_sentence(address, tmp_path):
    with pytest.raises(FileError, match=r"Cannot download http://127.*/missing: Not Found. Download it yourself"):
        download(f"{address}/missing", tmp_path / "file", md5=MD5)


def test_no_connection_is_one_sentence(address, tmp_path):
    closed = "http://127.0.0.1:9/file"
    with pytest.raises(FileError, match=r"Cannot download .*: .*refused.* pass --data-dir with its folder"):
        download(closed, tmp_path / "file", md5=MD5)


@pytest.mark.parametrize("url", ["http://example.invalid/file", "file:///etc/passwd", "ftp://127.0.0.1/x", "nonsense"])
def test_only_https_is_fetched(tmp_path, url):
    with pytest.raises(FileError, match="A download must come from an https:// address, got '"):
        download(url, tmp_path / "file", md5=MD5)


def test_a_redirect_away_from_https_is_not_followed(address, tmp_path):
    with pytest.raises(FileError, match=r"must come from an https:// address, got 'http://example.invalid/file'"):
        download(f"{address}/moved", tmp_path / "file", md5=MD5)


def test_nowhere_to_write_is_one_sentence(address, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"Cannot download .*: .*(exists|directory)"):
        download(f"{address}/file", tmp_path / "file" / "inside", md5=MD5)


def test_exactly_one_checksum_is_needed(tmp_path):
    with pytest.raises(ValueError, match="exactly one of sha256 and md5"):
        download("https://example.invalid", tmp_path / "file")


def test_the_first_digits_of_a_checksum_may_be_all_that_is_known(address, tmp_path):
    path = tmp_path / "file"
    download(f"{address}/file", path, sha256_prefix=SHA256[:8].upper())
    assert path.read_bytes() == CONTENT
    path.unlink()
    with pytest.raises(FileError, match=f"must have the sha256 {SHA256[1:9]}, got {SHA256}; nothing was kept"):
        download(f"{address}/file", path, sha256_prefix=SHA256[1:9])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["inside", "../../inside", "/inside"])
def test_the_one_file_in_a_zip_is_what_is_kept_whatever_it_is_called(address, tmp_path, monkeypatch, name):
    folder = tmp_path / "one" / "two"
    monkeypatch.setitem(globals(), "CONTENT", zipped({name: b"weights" * 100}))
    download(f"{address}/file", folder / "file.pth", zipped_sha1=hashlib.sha1(b"weights" * 100).hexdigest())
    assert (folder / "file.pth").read_bytes() == b"weights" * 100
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [folder / "file.pth"]


@pytest.mark.parametrize(
    "content",
    [
        b"no zip at all",
        lambda: zipped({"a": b"1", "b": b"2"}),
        lambda: zipped({"a": bytes(50_000_000)}),
        lambda: zipped({"a": bytes(range(256)) * 40})[:300],
    ],
    ids=["no zip", "two files", "bomb", "cut short"],
)
def test_what_is_no_zip_of_one_file_is_refused(address, tmp_path, monkeypatch, content):
    monkeypatch.setitem(globals(), "CONTENT", content() if callable(content) else content)
    with pytest.raises(FileError, match=r"must be a zip of one file; nothing was kept. Bring it."):
        download(f"{address}/file", tmp_path / "file", zipped_sha1="0" * 40, by_hand="Bring it.")
    assert list(tmp_path.iterdir()) == []


def test_a_zip_with_another_file_inside_is_refused(address, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "CONTENT", zipped({"file": b"forged"}))
    with pytest.raises(FileError, match=f"must have the sha1 {'0' * 40}, got {hashlib.sha1(b'forged').hexdigest()}"):
        download(f"{address}/file", tmp_path / "file", zipped_sha1="0" * 40)
    assert list(tmp_path.iterdir()) == []


def test_what_to_do_by_hand_is_the_callers_to_say(tmp_path):
    with pytest.raises(FileError, match=r"refused.*\. Put it into the cupboard\."):
        download("http://127.0.0.1:9/file", tmp_path / "file", md5=MD5, by_hand="Put it into the cupboard.")


def test_a_file_brought_by_hand_is_checked_and_left_where_it_is(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    verify(path, sha256_prefix=SHA256[:8])
    verify(path, sha1=hashlib.sha1(CONTENT).hexdigest())
    with pytest.raises(FileError, match=f"{path} must have the sha256 00000000, got {SHA256}. Bring the file again"):
        verify(path, sha256_prefix="00000000")
    assert path.read_bytes() == CONTENT


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_too_few_digits_of_a_checksum_say_nothing(tmp_path):
    with pytest.raises(ValueError, match="at least 8 digits"):
        download("https://example.invalid", tmp_path / "file", sha256_prefix=SHA256[:7])
