"""How many pictures each class has, in each split; and groups that lie on both sides of one."""

from __future__ import annotations

import numpy as np

from striate.core.errors import first_of
from striate.data.audit.found import Found, counted, found
from striate.data.audit.material import Material

FEW = 20  # pictures of a class to learn from
IMBALANCE = 10.0  # of the largest class to the smallest


def classes(material: Material) -> list[Found]:
    """Find ``missing-class``, ``few-pictures``, ``imbalance`` and ``group-leak``."""
    counts = material.counts()
    learned = np.maximum(counts[0], 0)
    return [*_missing(material, counts), *_few(material, learned), *_imbalance(material, learned), *_groups(material)]


def _missing(material: Material, counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[Found]:
    result = []
    for split, row in zip(material.splits, counts, strict=True):
        missing = [material.class_names[k] for k in np.flatnonzero(row == 0)]
        if missing:
            result.append(
                found(
                    "missing-class",
                    "error" if split == "train" else "warning",
                    split,
                    f"{split} has no picture of {counted(len(missing), 'class').replace('classs', 'classes')}: "
                    f"{first_of(missing)}.",
                    "Add some, or leave the class out; no score can speak of it.",
                    numbers={"classes": len(missing)},
                )
            )
    return result


def _few(material: Material, learned: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[Found]:
    few = [(int(learned[k]), material.class_names[k]) for k in np.flatnonzero((learned > 0) & (learned < FEW))]
    if not few:
        return []
    return [
        found(
            "few-pictures",
            "warning",
            "train",
            f"Fewer than {FEW} pictures to learn from: {first_of([f'{name} ({n})' for n, name in sorted(few)])}.",
            "Add pictures, or start from published weights (--pretrained).",
            numbers={"classes": len(few), "fewest": min(few)[0]},
        )
    ]


def _imbalance(material: Material, learned: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[Found]:
    present = np.flatnonzero(learned > 0)
    if len(present) < 2:
        return []
    least, most = present[learned[present].argmin()], present[learned[present].argmax()]
    ratio = float(learned[most] / learned[least])
    if ratio < IMBALANCE:
        return []
    return [
        found(
            "imbalance",
            "warning",
            "train",
            f"{material.class_names[most]} has {learned[most]:,} pictures, {material.class_names[least]} "
            f"{learned[least]:,}: {ratio:.0f} times as many.",
            "Weigh the classes in training, and read the recall of each class, not the accuracy.",
            numbers={"ratio": ratio},
        )
    ]


def _groups(material: Material) -> list[Found]:
    if material.groups is None:
        return []
    groups = material.groups.numpy()
    shared = [g for g in np.unique(groups).tolist() if len(set(material.split[groups == g].tolist())) > 1]
    if not shared:
        return []
    pictures = [tuple(np.flatnonzero(groups == group).tolist()) for group in shared]
    names = [" = ".join(material.names[one] for one in (together[0], together[-1])) for together in pictures]
    return [
        found(
            "group-leak",
            "error",
            "groups",
            f"LEAK: {counted(len(shared), 'group')} of pictures that belong together "
            f"{'is' if len(shared) == 1 else 'are'} in more than one split: {first_of(names)}.",
            "Move each group into one split, or leave the splits out and let groups be held out whole.",
            pictures=pictures,
        )
    ]
