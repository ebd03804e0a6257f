"""``findings.json``: what the doctor found, in the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from striate.core import files
from striate.core.errors import FileError
from striate.core.finding import Finding
from striate.training.run import RECIPE_FILE

FINDINGS_FILE = "findings.json"


def write_findings(folder: Path, findings: Sequence[Finding]) -> None:
    """Write the findings into the folder of a run, where its report reads them."""
    content = {"findings": [asdict(one) for one in findings]}
    files.write_text(folder / FINDINGS_FILE, json.dumps(content, ensure_ascii=False, indent=1))


def read_findings(folder: Path) -> list[Finding]:
    """Return the findings in the folder of a run.

    Raises:
        FileError: it is not there, or not what `write_findings` writes.
    """
    path = folder / FINDINGS_FILE
    try:
        return [Finding(**one) for one in json.loads(path.read_text(encoding="utf-8"))["findings"]]
    except FileNotFoundError as error:
        if (folder / RECIPE_FILE).exists():
            raise FileError(f"The doctor did not watch {folder}: it was trained with --no-doctor.") from error
        raise FileError(f"{folder} must be the folder of a run, and holds no {FINDINGS_FILE}.") from error
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise FileError(f"{path} must hold findings, got something else ({error}). Delete it.") from error
