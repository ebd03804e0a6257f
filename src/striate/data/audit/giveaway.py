"""Properties of the files that give the class away: what a network may learn in the place of what is to be seen.

Each property is tried as a classifier of its own: on one half of the pictures, drawn anew but always alike, the most
frequent class of each value is learned, on the other half it is scored. It is reported where it is right clearly more
often than the most frequent class is: by a difference that chance gives once in a million, and of at least `GAIN`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from striate.data.audit.examine import Record
from striate.data.audit.found import Found, found
from striate.data.audit.material import Material
from striate.data.keyed import keyed_seed

GAIN = 0.15  # of accuracy over the most frequent class
SIGMAS = 4.9  # of the normal distribution: 1 in 1,000,000 on one side
FEWEST = 40  # pictures under which nothing can be said
LEAST_TWICE = 2  # pictures of a value to be learned from

_PROPERTIES: dict[str, Callable[[Record], str]] = {
    "picture size": lambda record: f"{record.width} × {record.height}",
    "proportions": lambda record: f"{round(4 * math.log2(record.width / record.height)) / 4:+.2f} octaves",
    "mode": lambda record: record.mode,
    "file format": lambda record: record.format,
    "EXIF orientation": lambda record: str(record.orientation),
    "camera": lambda record: record.camera or "none said",
    "bytes per pixel": lambda record: f"{round(4 * math.log2(record.size_bytes / (record.width * record.height))) / 4}",
}


def giveaways(material: Material) -> list[Found]:
    """Find ``giveaway``: the properties of train's files by which the class can be guessed."""
    if material.records is None:
        return []
    chosen = np.flatnonzero(material.usable & (material.split == 0))
    if len(chosen) < FEWEST:
        return []
    chosen = chosen[np.random.default_rng(keyed_seed(len(chosen))).permutation(len(chosen))]
    labels = material.label[chosen].tolist()
    records = [material.records[number] for number in chosen.tolist()]
    tried = [(name, *_scored(list(map(value, records)), labels)) for name, value in _PROPERTIES.items()]
    telling = [one for one in tried if one[1] - one[2] > max(GAIN, one[3])]
    return [_found(material, name, right, usual, best) for name, right, usual, _, best in telling]


def _scored(values: Sequence[str], labels: Sequence[int]) -> tuple[float, float, float, tuple[str, int]]:
    """Return how often the value tells the class, how often the most frequent class is right, chance's bound of the
    difference, and the value and class that are right most often."""
    half = len(values) // 2
    by_value: dict[str, Counter[int]] = {}
    for value, label in zip(values[:half], labels[:half], strict=True):
        by_value.setdefault(value, Counter())[label] += 1
    usual = Counter(labels[:half]).most_common(1)[0][0]
    guess = {v: c.most_common(1)[0][0] for v, c in by_value.items() if c.total() >= LEAST_TWICE}
    scored = list(zip(values[half:], labels[half:], strict=True))
    hits = Counter((value, label) for value, label in scored if guess.get(value, usual) == label)
    right = hits.total() / len(scored)
    majority = sum(label == usual for _, label in scored) / len(scored)
    # The variance of the difference of two answers to the same pictures (McNemar): at most one of both being right.
    differ = sum((guess.get(value, usual) == label) != (label == usual) for value, label in scored) / len(scored)
    best = hits.most_common(1)[0][0] if hits else ("", usual)
    return right, majority, SIGMAS * math.sqrt(differ / len(scored)), best


def _found(material: Material, name: str, right: float, usual: float, best: tuple[str, int]) -> Found:
    value, label = best
    example = material.label_name(int(np.flatnonzero(material.label == label)[0]))
    return found(
        "giveaway",
        "warning",
        name,
        f"The {name} alone tells the class of {right:.0%} of the pictures, where always saying the most frequent class "
        f"is right for {usual:.0%}: {value} is mostly {example}.",
        "Make it the same for all classes, or the network may learn it in the place of what is to be seen.",
        numbers={"accuracy": right, "most_frequent_class": usual},
    )
