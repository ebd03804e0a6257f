"""``report``: what a run is, how good it is, and what its network looks at, on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from striate.core.errors import StriateError
from striate.data.imageset import ImageSet
from striate.drawing.page import Content, Paragraph, Section, draw_page
from striate.reporting import inside, origin, results
from striate.reporting.material import Material, material_of
from striate.training.run import Run

REPORT_FILE = "report.html"

# In the order of the page; a section without content is left out.
SECTIONS: Mapping[str, Callable[[Material], Sequence[Content]]] = {
    "Result": results.result,
    "Learning curves": results.curves,
    "Confusion": results.confusion,
    "Precision and recall": results.precision_and_recall,
    "Calibration": results.calibration,
    "Abstaining": results.abstaining,
    "Mistakes": results.mistakes,
    "Filters": inside.filters,
    "Feature maps": inside.maps,
    "Saliency": inside.saliency,
    "Orientation tuning": inside.tuning,
    "Invariance": inside.invariance,
    "Network": origin.network,
    "Findings": origin.findings,
    "Recipe": origin.recipe,
}


@dataclass(frozen=True)
class Written:
    """A report that was written.

    Args:
        path: of the page.
        seconds: that each section took, by its heading; that of the pictures is in the first that needs them.
        failed: what could not be shown, by the section's heading.
    """

    path: Path
    seconds: Mapping[str, float]
    failed: Mapping[str, str]


def report(run: Run | str | Path, images: ImageSet | None = None) -> Path:
    """Write the report of a run: one HTML file that needs no other, ``report.html`` in the run's folder.

    What a section shows is computed on at most 64 pictures where it takes long; the predictions for the test pictures
    are those that the run stored. A section that cannot be made says why in its place.

    Args:
        run: a run, or its folder.
        images: its pictures, where they are in memory or the run cannot load them again (arrays).

    Returns:
        The path of the file.

    Raises:
        FileError: the folder holds no finished run, or cannot be written.
    """
    return write_report(run, images).path


def write_report(run: Run | str | Path, images: ImageSet | None = None) -> Written:
    """Write the report as `report` does, and say what it took."""
    material = material_of(run, images)
    sections: list[Section] = []
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    for heading, make in SECTIONS.items():
        began = time.perf_counter()
        content: Sequence[Content]
        try:
            content = make(material)
        except StriateError as error:
            content, failed[heading] = [Paragraph(str(error))], str(error)
        seconds[heading] = time.perf_counter() - began
        if content:
            sections.append(Section(heading, content))
    name, data = material.header.blueprint.short_name, material.header.data.get("name", "pictures")
    page = draw_page(sections, title=f"{name} on {data}", subtitle=f"Report of the run {material.folder.name}")
    path = material.folder / REPORT_FILE
    page.write(path)
    return Written(path, seconds, failed)
