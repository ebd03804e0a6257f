"""Intervals: how sure a proportion, and an F1, is."""

from __future__ import annotations

import math

Interval = tuple[float, float]
Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson_interval(correct: int, pictures: int) -> Interval:
    """Return the 95 % interval of a proportion (Wilson, JASA 22, 1927): within 0–1, and honest near both ends.

    Of no pictures it is 0–1.
    """
    if pictures == 0:
        return 0.0, 1.0
    share, z2 = correct / pictures, Z95**2
    centre = (share + z2 / (2 * pictures)) / (1 + z2 / pictures)
    half = Z95 / (1 + z2 / pictures) * math.sqrt(share * (1 - share) / pictures + z2 / (4 * pictures**2))
    low = 0.0 if correct == 0 else centre - half  # exactly; rounding would leave 1e-17
    high = 1.0 if correct == pictures else centre + half
    return low, high


def f1_interval(found: int, wrong: int) -> Interval:
    """Return the 95 % interval of an F1.

    Among the pictures that are of the class or said to be, the share J that is both is a proportion, with Wilson's
    interval, and F1 = 2J / (1 + J).

    Args:
        found: pictures that are of the class and said to be.
        wrong: pictures that are only one of the two.
    """
    low, high = wilson_interval(found, found + wrong)
    return 2 * low / (1 + low), 2 * high / (1 + high)
