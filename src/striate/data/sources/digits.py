"""``digits``: 1,797 handwritten digits of 8×8 pixels that come with scikit-learn. No download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from striate.data.assemble import Labelled
from striate.data.sources.builtin import BUILTIN, Builtin

# Each pixel counts the ink in a 4×4 block of a scan, 0 to 16.
_MOST_INK = 16


def read_digits(data_dir: Path | None = None) -> Labelled:
    """Return the digits, their 17 levels spread over 0–255.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (its test part).
    """
    from sklearn.datasets import load_digits  # here, because importing it takes longer than training on it

    digits = load_digits()
    levels = np.rint(digits.images * (255 / _MOST_INK)).astype(np.uint8)
    return Labelled(
        images={"train": torch.from_numpy(levels).unsqueeze(1)},  # (N, 8, 8) → (N, 1, 8, 8)
        labels={"train": torch.from_numpy(digits.target.astype(np.int64))},
        class_names=tuple(str(digit) for digit in range(10)),
    )


BUILTIN.add("digits")(
    Builtin(
        description="handwritten digits, embedded: nothing to download",
        train=1_797,
        test=0,
        classes=10,
        shape=(1, 8, 8),
        licence="CC BY 4.0",
        read=read_digits,
        test_share=0.20,
    )
)
