"""The audit of pictures: what is wrong with them, before a network learns it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from striate.core.errors import DataError, expect
from striate.core.finding import Finding
from striate.data.audit.classes import classes
from striate.data.audit.duplicates import duplicates, leaked
from striate.data.audit.found import Found
from striate.data.audit.giveaway import giveaways
from striate.data.audit.material import Material, of_images, of_listing
from striate.data.audit.quality import quality
from striate.data.imageset import ImageSet
from striate.data.load import check_no_data_dir, load_data
from striate.data.sources.builtin import BUILTIN
from striate.data.sources.files import list_files

_ORDER = ("error", "warning", "note")


@final
@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Args:
        material: the pictures.
        found: findings with their pictures, errors first.
    """

    material: Material
    found: tuple[Found, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings alone."""
        return tuple(one.finding for one in self.found)

    @property
    def meaningless(self) -> str:
        """Why a network trained on these pictures could not be scored: a sentence, empty where it can be."""
        for one in self.found:
            if one.finding.code not in ("leaks", "near-leaks"):
                continue
            for split, pictures in leaked(self.material, one.pictures).items():
                if len(pictures) == int((self.material.split == split).sum()):
                    name = self.material.splits[split]
                    return f"Every picture of {name} must be new, got all {len(pictures):,} in an earlier split."
        return ""

    def as_json(self) -> dict[str, Any]:
        """Return everything found: ``pictures``, ``splits``, and ``findings`` with the names of their pictures."""
        names = self.material.names
        return {
            "pictures": len(names),
            "splits": {
                split: int((self.material.split == number).sum()) for number, split in enumerate(self.material.splits)
            },
            "findings": [
                {
                    **asdict(one.finding),
                    "pictures": [[names[picture] for picture in together] for together in one.pictures],
                    "remarks": list(one.remarks),
                }
                for one in self.found
            ],
        }


def audit(data: str | Path | ImageSet, *, data_dir: str | Path | None = None, group_by: str | None = None) -> Audit:
    """Say what is wrong with pictures.

    ======================  ==========================================================================================
    ``unreadable``          files that are truncated, damaged, too large, or something else than their ending says
    ``leaks``               pictures that are in more than one split, pixel for pixel
    ``near-leaks``          the same, compressed again, resized, brighter or with margins cut
    ``group-leak``          groups of which pictures are in more than one split
    ``conflicting-labels``  copies of one picture with different labels
    ``duplicates``          superfluous copies in a class of a split; ``near-duplicates`` in the same way
    ``missing-class``       a split without any picture of a class
    ``few-pictures``        classes with few pictures to learn from
    ``imbalance``           the largest class has many times as many pictures as the smallest
    ``giveaway``            size, proportions, mode, format, camera or compression by which the class can be guessed
    ``mixed-modes``         grey among colour or colour among grey; and ``cmyk``, ``palette``, ``transparent``
    ``rotated``             pictures that EXIF turns upright
    ``tiny``                among larger ones; and ``extreme-proportions``, ``blank``
    ======================  ==========================================================================================

    Args:
        data: a folder, an archive or a table of picture files, each of which is decoded; the name of a built-in set; or
            an ImageSet, whose test pictures are compared with the others: nothing is chosen by them.
        data_dir: where the files of a built-in set are.
        group_by: a regular expression on the paths, see ``load_data``.

    Raises:
        DataError: there is no such data, or it cannot even be listed.
        FileError: nothing can be written to the cache.
    """
    if isinstance(data, ImageSet):
        return of_material(of_images(data))
    expect(data, (str, os.PathLike), DataError, "data must be a name, a path or an ImageSet, such as of st.load_data")
    if isinstance(data, str) and data.lower().replace("-", "_") in BUILTIN:
        return of_material(of_images(load_data(data, data_dir=data_dir, group_by=group_by)))
    listing = list_files(Path(data), None, group_by)
    check_no_data_dir(data_dir)
    return of_material(of_listing(listing))


def quick_audit(images: ImageSet) -> Audit:
    """Return the part of an audit that costs little once pictures are decoded: leaks, labels, copies, classes.

    Copies are found whose hashes differ in 3 bits at most: most of those that were compressed again or resized.
    """
    return of_material(of_images(images), quick=True)


def of_material(material: Material, *, quick: bool = False) -> Audit:
    """Look for everything that can be found in these pictures."""
    result = [*quality(material), *duplicates(material, quick=quick), *classes(material), *giveaways(material)]
    return Audit(material, tuple(sorted(result, key=lambda one: _ORDER.index(one.finding.severity))))
