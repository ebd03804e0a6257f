"""``striate audit``: what is wrong with the pictures."""

from __future__ import annotations

import json as json_format
import time
from dataclasses import asdict
from pathlib import Path

from striate.cli.output import Json, print_findings, print_json, say
from striate.core import files
from striate.core.errors import DataError
from striate.data.audit import audit as audit_of
from striate.data.audit.found import counted
from striate.data.audit.page import audit_page
from striate.data.audit.remembered import Short, short_audit
from striate.data.imageset import ImageSet, Split
from striate.data.sources.builtin import builtin_of
from striate.data.stream.shards import is_shards

AUDIT_FILE = "audit.json"
MOST_SAID = 4  # findings that are printed before training


def audit(
    data: str,
    /,
    *,
    output: Path | None = None,
    group_by: str | None = None,
    data_dir: Path | None = None,
    json: Json = False,
) -> int:
    """Say what is wrong with pictures: unreadable files, copies across splits, wrong labels, giveaways.

    Every file is decoded. Ends with status 1 where there is an error, such as a picture of test that is in train too.

    Example: `striate audit photos --output audit.html`

    JSON keys: pictures (how many), splits (pictures of each), findings (code, severity, where, message, numbers, fix,
    pictures (the names, those that belong together in one list), remarks (one for each of pictures, or none)).

    Args:
        data: A folder of pictures per class, a zip or tar of one, a table, or a data set's name.
        output: Also write a page with the pictures that are spoken of; it ends in .html.
        group_by: A regular expression that finds in a path what the picture belongs to.
        data_dir: Where the files of a named data set are.
    """
    start = time.perf_counter()
    if is_shards(data):
        raise DataError(f"An audit needs pictures in files, got the shards {data}. Audit what they were packed from.")
    result = audit_of(data, data_dir=data_dir, group_by=group_by)
    if output is not None:
        audit_page(result, Path(data).name).write(output)
        say(f"page      {output}", json_wanted=json)
    if json:
        print_json(result.as_json())
    else:
        pictures = counted(len(result.material.names))
        print_findings(result.findings)
        ending = "nothing found" if not result.found else counted(len(result.found), "finding")
        say(f"{pictures} in {time.perf_counter() - start:.1f} s: {ending}")
    return int(any(one.severity == "error" for one in result.findings))


def audit_before_training(images: ImageSet) -> Short | None:
    """Return the short audit of pictures from files; None of built-in sets and streams, which are not looked at.

    The pictures of test are compared with the others: that chooses nothing, and training itself never sees them.

    Raises:
        DataError: a test of what is learned from these pictures would mean nothing.
    """
    if images.source is None or builtin_of(images.source) or not isinstance(images.learned, Split):
        return None
    result = short_audit(images)
    if result.meaningless:
        raise DataError(f"{result.meaningless} Remove the copies from it, or train in spite of them with --no-audit.")
    return result


def say_worst(result: Short, where: str) -> None:
    """Print the worst of what an audit found.

    Args:
        where: what the user called the pictures.
    """
    serious = [one for one in result.findings if one.severity != "note"]
    print_findings(serious[:MOST_SAID])
    if len(serious) > MOST_SAID:
        say(f"… and {counted(len(serious) - MOST_SAID, 'finding')} more: striate audit {where}", json_wanted=True)


def keep_findings(result: Short, folder: Path) -> None:
    """Write the findings into the folder of a run, where its report reads them."""
    findings = {"findings": [asdict(one) for one in result.findings]}
    files.write_text(folder / AUDIT_FILE, json_format.dumps(findings, ensure_ascii=False, indent=1))
