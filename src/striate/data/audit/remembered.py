"""The short form of an audit, remembered: the same pictures with the same labels are not looked at twice."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import final

from pydantic import BaseModel, ConfigDict, ValidationError

from striate.core import files
from striate.core.errors import FileError
from striate.core.finding import Finding
from striate.data.audit import quick_audit
from striate.data.imageset import ImageSet

_RULES = 5  # raised whenever the same pictures may lead to other findings
_KEPT = 100  # sets; each takes a few kB


@final
class Short(BaseModel):
    """What the short form found: its findings, and why a test of these pictures would mean nothing, empty if not so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: tuple[Finding, ...]
    meaningless: str


def short_audit(images: ImageSet) -> Short:
    """Return the short form of an audit; from the cache folder where it is known, of pictures that were loaded."""
    if images.source is None:  # tensors of somebody's own are another set every time
        return _looked_at(images)
    try:
        file = files.cache_folder() / "audits" / f"{_key(images)}.json"
    except FileError:  # nothing can be kept
        return _looked_at(images)
    with contextlib.suppress(OSError, ValidationError):
        return Short.model_validate_json(file.read_bytes())
    result = _looked_at(images)
    with contextlib.suppress(FileError, OSError):
        _keep(file, result)
    return result


def _looked_at(images: ImageSet) -> Short:
    result = quick_audit(images)
    return Short(findings=result.findings, meaningless=result.meaningless)


def _key(images: ImageSet) -> str:
    """Return a digest of the pictures and of what is said about them.

    No file is asked anything: the fingerprint of train and val is known from loading them, and reading the decoded
    pictures of test takes about a third of the time that asking for the state of every file does.
    """
    spec = images.spec
    digest = hashlib.sha256(repr((_RULES, spec.input, spec.task, images.fingerprint)).encode())
    for split in (images.train, images.val, images.test):
        digest.update(f"\0{len(split)}\0".encode() + "\0".join(split.origins).encode(errors="surrogateescape"))
        if split.groups is not None:
            digest.update(split.groups.contiguous().numpy().data)
    for told in (images.test.images, images.test.labels):
        digest.update(told.contiguous().numpy().data)
    return digest.hexdigest()[:32]


def _keep(file: Path, result: Short) -> None:
    """Write down what was found, and forget the oldest."""
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(file, result.model_dump_json())
    kept = sorted(file.parent.glob("*.json"), key=lambda one: one.stat().st_mtime)
    for old in kept[:-_KEPT]:
        old.unlink(missing_ok=True)
