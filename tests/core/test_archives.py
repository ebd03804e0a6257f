from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from striate.core.archives import ArchiveLimits, extract
from striate.core.errors import DataError, FileError, StriateError

FILES = {"a/one.txt": b"one", "a/b/two.txt": b"2" * 70_000, "c.txt": b""}


def tar_of(*members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w", format: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=format) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return stream.getvalue()


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refuse(tmp_path: Path, data: bytes, sentence: str, limits: ArchiveLimits | None = None) -> None:
    """The archive is refused with the sentence, and nothing is left of it."""
    archive = tmp_path / "archive"
    archive.write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        extract(archive, tmp_path / "out" / "target", limits)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive", "out"]


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_files_and_folders_come_out_as_they_went_in(tmp_path, mode):
    archive = tmp_path / "archive"
    data = (
        zip_of(*FILES.items()) if mode == "zip" else tar_of(special("./", tarfile.DIRTYPE), *FILES.items(), mode=mode)
    )
    archive.write_bytes(data)
    target = tmp_path / "new" / "target"
    extract(archive, target)
    found = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert found == FILES
    assert list(target.parent.iterdir()) == [target]


def test_of_two_that_extract_at_once_the_first_result_stands(tmp_path):
    (tmp_path / "archive").write_bytes(zip_of(*FILES.items()))
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine").touch()
    extract(tmp_path / "archive", tmp_path / "target")
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["mine"]


KILLED = """
import os, signal, sys
from pathlib import Path
from striate.core import archives

def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

archives._too_large = killed
archives.extract(Path("archive"), Path("target"), archives.ArchiveLimits(size_bytes=10))
"""


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    (tmp_path / "archive").write_bytes(zip_of(*FILES.items()))
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".target.*"))) == 1
    extract(tmp_path / "archive", tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "target"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a/b", "a/b"), ("a", "a/b"), ("a/b", "a"), ("a", "a/"), ("a", ".")])
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_path_must_be_one_thing(tmp_path, names, make):
    again = f"must hold each path once, as a file or as a folder, got '{names[1].rstrip('/')}"
    refuse(tmp_path, make(*((name, b"") for name in names)), again)


def test_names_must_be_text(tmp_path):
    refuse(
        tmp_path, tar_of(("a/caf\udce9.png", b"1")), r"must hold names in UTF-8, got 'a/caf\\udce9.png'. Pack it again"
    )


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/tmp/out.txt", ".."])
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_paths_outside_are_refused(tmp_path, name, make):
    refuse(tmp_path, make(("fine.txt", b"1"), (name, b"2")), "must hold paths inside itself only, got '")


@pytest.mark.parametrize(
    "member",
    [
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.LNKTYPE, "fine.txt"),
        special("device", tarfile.CHRTYPE),
        special("device", tarfile.BLKTYPE),
        special("pipe", tarfile.FIFOTYPE),
        special("sparse", tarfile.GNUTYPE_SPARSE),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, member):
    data = tar_of(("fine.txt", b"1"), member, format=tarfile.GNU_FORMAT)
    refuse(tmp_path, data, f"must hold files and folders only, got a link or device: '{member.name}'")


def test_links_and_encrypted_files_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refuse(tmp_path, zip_of((link, b"/etc/passwd")), "files and folders only, got a link or device: 'link'")
    data = bytearray(zip_of(("secret", b"1")))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + place] |= 1
    refuse(tmp_path, bytes(data), "got an encrypted file: 'secret'")


def test_a_bomb_is_refused(tmp_path):
    limits = ArchiveLimits(ratio=10, free_bytes=100_000)
    bomb = b"\0" * 1_000_000
    for data in (zip_of(("bomb", bomb)), tar_of(("bomb", bomb), mode="w:gz")):
        refuse(tmp_path, data, "must hold at most 100,000 bytes, got more: extract it yourself if you trust it", limits)


def test_a_header_that_claims_a_huge_length_takes_no_memory(tmp_path):
    huge = special("long name", tarfile.XHDTYPE)
    huge.size = 1 << 40
    refuse(tmp_path, huge.tobuf() + bytes(1024), "must hold at most|must be a whole")


def test_count_and_depth_are_limited(tmp_path):
    many = zip_of(*((f"{number}.txt", b"") for number in range(11)))
    refuse(tmp_path, many, "must hold at most 10 files and folders, got more", ArchiveLimits(members=10))
    deep = tar_of(("/".join("a" * 40), b""))
    refuse(tmp_path, deep, "must be at most 32 folders deep, got 'a/a/")


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_truncated_archive_is_refused(tmp_path, mode, kept):
    members = [(f"{number}.bin", os.urandom(3_000)) for number in range(20)]
    data = zip_of(*members) if mode == "zip" else tar_of(*members, mode=mode)
    end = 20 * (512 + 3072) if mode == "w" else len(data)  # a tar is padded at its end
    refuse(tmp_path, data[: int(end * kept)], "must be a whole .zip, .tar, .*; it is damaged or something else")


def test_something_else_is_refused(tmp_path):
    refuse(tmp_path, b"this is not an archive" * 100, "must be a whole .zip, .tar")
    refuse(tmp_path, b"", "must be a whole .zip, .tar")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    data = bytearray(tar_of(("a", b"1"), ("b", b"2"), ("c", b"3")))
    data[2 * 512 : 2 * 512 + 100] = b"\xff" * 100
    refuse(tmp_path, bytes(data), "must be a whole .zip, .tar")


def test_no_archive_or_nowhere_to_write_is_said(tmp_path):
    with pytest.raises(FileError, match=r"Cannot extract .*gone\.zip to .*target: No such file"):
        extract(tmp_path / "gone.zip", tmp_path / "target")
    (tmp_path / "file").touch()
    (tmp_path / "archive").write_bytes(zip_of(*FILES.items()))
    with pytest.raises(FileError, match="Cannot extract"):
        extract(tmp_path / "archive", tmp_path / "file" / "target")


SEEDS = [zip_of(*FILES.items())] + [tar_of(*FILES.items(), mode=mode) for mode in ("w", "w:gz", "w:xz")]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=6),
    end=st.integers(0, 100_000),
)
def test_a_damaged_archive_is_a_typed_error_or_stays_inside(tmp_path, seed, changes, end):
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    (tmp_path / "archive").write_bytes(data[:end])
    target = tmp_path / "out" / "target"
    try:
        extract(tmp_path / "archive", target)
    except StriateError:
        assert not target.exists()
    else:
        for path in sorted(target.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        target.rmdir()
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "out"}
    assert not list((tmp_path / "out").iterdir())
