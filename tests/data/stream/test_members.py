from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

import striate as st
from striate.data.stream.members import Sample, parse_label, read_samples, scan_samples


def tar_of(*members: tuple[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_members_with_one_key_are_a_sample() -> None:
    content = tar_of(("a/1.jpg", b"one"), ("a/1.cls", b"3\n"), ("a/2.cls", b"0"), ("a/2.x.PNG", b"two"))
    assert read_samples(content, "it") == [Sample("a/1.jpg", b"one", 3), Sample("a/2.x.PNG", b"two", 0)]


def test_what_is_no_part_of_a_sample_is_passed_over() -> None:
    content = tar_of(("readme", b"?"), (".hidden", b"?"), ("1.jpg", b"one"), ("1.url", b"x"), ("1.cls", b"3"))
    assert read_samples(content, "it") == [Sample("1.jpg", b"one", 3)]


def test_the_class_is_taken_before_json_and_text() -> None:
    content = tar_of(("1.txt", b"a caption"), ("1.json", b'{"label": 4}'), ("1.cls", b"5"), ("1.webp", b"p"))
    assert [one.label for one in read_samples(content, "it")] == [5]
    content = tar_of(("1.txt", b"a caption"), ("1.webp", b"p"), ("1.json", b'{"label": 4}'))
    assert [one.label for one in read_samples(content, "it")] == [4]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_of_other_writers(form: int, tmp_path: Path) -> None:
    names = [f"{'é' * 120}/{number}" for number in range(3)]
    content = tar_of(*((f"{n}{end}", b"1") for n in names for end in (".jpg", ".cls")), form=form)
    (tmp_path / "a.tar").write_bytes(content)
    extents = list(scan_samples(tmp_path / "a.tar"))
    assert len(extents) == 3
    for name, extent in zip(names, extents, strict=True):  # each can be read by itself
        assert [one.name for one in read_samples(content[extent.start : extent.end], "it")] == [f"{name}.jpg"]


def test_labels() -> None:
    assert parse_label("a.cls", b" 12\n", "it") == 12
    assert parse_label("a.cls", b"\xef\xbb\xbf12\r\n", "it") == 12  # as editors on Windows write it
    assert parse_label("a.txt", "Schäferhund".encode(), "it") == "Schäferhund"
    assert parse_label("a.json", b'{"x": 1, "labels": [0, "cat"]}', "it") == (0, "cat")
    assert parse_label("a.json", b'"cat"', "it") == "cat"
    assert parse_label("a.json", b"[]", "it") == ()
    for name, content in (
        ("a.cls", b""),
        ("a.cls", b"\xff"),
        ("a.json", b"{}"),
        ("a.json", b"-1"),
        ("a.json", b"true"),
        ("a.json", b"[[1]]"),
        ("a.json", b"[" * 100_000),
        ("a.json", b"9" * 5_000),
        ("a.cls", b"9" * 5_000),
    ):
        with pytest.raises(st.DataError, match=r"'a\.\w+' in it must say a class: its number from 0 on, or its name"):
            parse_label(name, content, "it")


@pytest.mark.parametrize("lacking", ["a picture", "a label"])
def test_a_sample_that_is_not_whole_is_named(lacking: str) -> None:
    content = tar_of(("7.cls", b"1")) if lacking == "a picture" else tar_of(("7.jpg", b"1"))
    with pytest.raises(st.DataError, match=rf"Each sample of it must have .*; '7' has not {lacking}"):
        read_samples(content, "it")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("1.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(
        st.DataError, match=r"it must hold files only, got a link, a device or a file with holes: '1\.jpg'"
    ):
        read_samples(stream.getvalue(), "it")


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """Return a header that no tarfile would write: the size is as it is given."""
    fields = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    fields[: len(name)], fields[124:136], fields[156:157] = name, size.ljust(12, b"\0"), kind
    fields[148:156] = b" " * 8
    fields[148:155] = b"%06o\0" % sum(fields)
    return bytes(fields)


def negative(size: int) -> bytes:
    """Return a negative size as GNU tar writes numbers of base 256."""
    return b"\xff" + (256**11 + size).to_bytes(11, "big")


@pytest.mark.parametrize(
    "content",
    [
        header(b"1.jpg", negative(-100)) + bytes(1024),
        header(b"1.jpg", negative(-512)) + bytes(1024),
        header(b"0.jpg", b"0") + header(b"1.jpg", negative(-1024)) + bytes(1024),
        header(b"x", b"14", b"x") + b"12 size=-1536\n".ljust(512, b"\0") + header(b"1.jpg", b"0") + bytes(1024),
        b"".join(header(b"x", b"4", b"L") + b"name".ljust(512, b"\0") for _ in range(2_000)) + header(b"1.jpg", b"0"),
        header(b"x", b"7777777", b"L") + bytes(8 << 20),
        header(b"x", b"77777777777", b"x") + bytes(1024),
    ],
)
def test_headers_that_lead_astray(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(st.DataError, match="it must be a whole tar file"):
        read_samples(content, "it")
    with pytest.raises(st.DataError, match=r"a\.tar must be a whole tar file"):
        list(scan_samples(tmp_path / "a.tar"))


def test_a_file_with_holes_is_refused() -> None:
    content = header(b"1.jpg", b"0", b"S") + header(b"1.cls", b"0") + bytes(1024)
    with pytest.raises(st.DataError, match=r"file with holes: '1\.jpg'"):
        read_samples(content, "it")


def test_a_key_that_comes_twice() -> None:
    content = tar_of(("1.jpg", b"one"), ("1.cls", b"0"), ("1.jpg", b"two"), ("1.cls", b"1"))
    with pytest.raises(st.DataError, match=r"Each sample of it must have a key of its own, got '1\.jpg' twice"):
        read_samples(content, "it")
    masks = tar_of(("1.jpg", b"one"), ("1.mask.png", b"m"), ("1.cls", b"0"))
    assert read_samples(masks, "it") == [Sample("1.jpg", b"one", 0)]


def test_keys_in_no_order() -> None:
    content = tar_of(("1.jpg", b"one"), ("2.jpg", b"two"), ("1.cls", b"0"), ("2.cls", b"1"))
    with pytest.raises(st.DataError, match=r"a picture and a label .*, one after the other; '1' has not a label"):
        read_samples(content, "it")


def test_names_can_be_printed() -> None:
    content = tar_of(("\x1b[31m1\udcff.jpg", b"one"), ("\x1b[31m1\udcff.cls", b"0"))
    assert [one.name for one in read_samples(content, "it")] == ["\ufffd[31m1\ufffd.jpg"]


def test_a_member_that_claims_too_much(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("striate.data.stream.members.MOST_LABEL_BYTES", 10)
    content = tar_of(("1.jpg", b"x"), ("1.cls", b"1" * 11))
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(st.DataError, match=r"'1\.cls' in it must have at most 10 bytes, got 11"):
        read_samples(content, "it")
    with pytest.raises(st.DataError, match="must have at most 10 bytes, got 11"):
        list(scan_samples(tmp_path / "a.tar"))


WHOLE = tar_of(*((f"{number}{end}", b"1" * 600) for number in range(3) for end in (".jpg", ".txt")))


@given(data=some.data())
def test_whatever_is_damaged_is_read_or_refused_by_name(data: some.DataObject) -> None:
    content = bytearray(WHOLE[: data.draw(some.integers(0, len(WHOLE)))])
    for _ in range(data.draw(some.integers(0, 4))):
        if content:
            content[data.draw(some.integers(0, len(content) - 1))] = data.draw(some.integers(0, 255))
    samples, said = [], "it"
    try:
        samples = read_samples(bytes(content), "it")
    except st.DataError as error:
        said = str(error)
    assert "it" in said
    assert len(samples) <= 3


def test_a_cut_or_overwritten_shard_is_damaged(tmp_path: Path) -> None:
    for content in (WHOLE[:1000], WHOLE[:1536] + b"\1" * 512 + WHOLE[2048:], b"no tar" * 200):
        with pytest.raises(st.DataError, match="it must be a whole tar file; it is damaged or something else"):
            read_samples(content, "it")
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(st.DataError, match=r"a\.tar must be a whole tar file"):
            list(scan_samples(tmp_path / "a.tar"))


def test_scans_and_readings_agree(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(WHOLE)
    extents = list(scan_samples(tmp_path / "a.tar"))
    pieces = [read_samples(WHOLE[one.start : one.end], "it") for one in extents]
    assert [sample for piece in pieces for sample in piece] == read_samples(WHOLE, "it")
    assert [one.label for one in extents] == [piece[0].label for piece in pieces]
    assert extents[0].start == 0
    assert [one.end for one in extents[:-1]] == [one.start for one in extents[1:]]
