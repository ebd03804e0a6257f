"""Where the pictures of train, val and test come from: what a source has, and what is held out of train."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from striate.core.errors import DataError, listed
from striate.data.balance import class_counts
from striate.data.stratify import hold_out

VAL_SHARE = 0.10
VAL_LIMIT = 5_000
TEST_SHARE = 0.15
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
# What people call them, in lower case.
SPLIT_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}

# Each split is drawn from a stream of its own.
_TEST_STREAM, _VAL_STREAM = 0, 1
_LOGGER = logging.getLogger(__name__)


@final
@dataclass(frozen=True, eq=False)
class Part:
    """A split as a part of what a source offers: the pictures at ``index`` of its split ``source``."""

    source: str
    index: Tensor


def divide(
    labels: Mapping[str, Tensor],
    seed: int,
    test_share: float = TEST_SHARE,
    *,
    groups: Mapping[str, Tensor] | None = None,
    stays: Tensor | None = None,
) -> dict[str, Part]:
    """Return where the pictures of ``train``, ``val`` and ``test`` come from.

    A split that the source has is taken whole. A missing ``test`` (``test_share``) and then a missing ``val``
    (10 %, at most 5,000) are held out of ``train``, seeded and stratified by class.

    Args:
        labels: (N,) int64 of each split that the source has, or (N, K) uint8 where a picture may have several classes;
            ``train`` must be among them.
        seed: the same seed holds out the same pictures.
        groups: (N,) int64 of each split; a group is held out whole or not at all.
        stays: (N,) bool, the pictures of ``train`` that are never held out.
    """
    parts = {name: Part(name, torch.arange(len(own))) for name, own in labels.items()}
    kept = torch.zeros(len(labels["train"]), dtype=torch.bool) if stays is None else stays
    train = (~kept).nonzero().flatten()
    held_out = (("test", test_share, None, _TEST_STREAM), ("val", VAL_SHARE, VAL_LIMIT, _VAL_STREAM))
    for name, share, limit, stream in held_out:
        if name not in labels:
            own = None if groups is None else groups["train"][train]
            held, rest = hold_out(labels["train"][train], share, seed=seed, stream=stream, limit=limit, groups=own)
            parts[name] = Part("train", train[held])
            train = train[rest]
    parts["train"] = Part("train", torch.cat([train, kept.nonzero().flatten()]).sort().values)
    return parts


def check_held_out(
    parts: Mapping[str, Part],
    labels: Mapping[str, Tensor],
    class_names: Sequence[str],
    groups: Mapping[str, Tensor] | None,
    name: str,
) -> None:
    """Refuse a split that came out empty; say which classes one lacks where the groups left no other choice.

    Args:
        parts: what ``divide`` returned for ``labels`` and ``groups``.
        class_names: K names.
        name: of the data, for the sentences.

    Raises:
        DataError: val or test came out empty.
    """
    for split in ("test", "val"):
        part = parts[split]
        if part.source != "train":
            continue
        if len(part.index) == 0:
            what, got = ("pictures", "two at most") if groups is None else ("groups", _few_groups(groups["train"]))
            raise DataError(
                f"{name} must have at least three {what} of a class, one each for train, val and test, got {got}. "
                f"Add {what}, or give a val or test split of your own."
            )
        counts = class_counts(labels["train"][part.index], len(class_names))
        missing = [class_names[number] for number in (counts == 0).nonzero().flatten().tolist()]
        if groups is not None and missing:
            _LOGGER.warning(
                "%s of %s has no picture of %s: too few groups have any. Add groups, or say the split of each.",
                split,
                name,
                listed(missing),
            )


def _few_groups(groups: Tensor) -> str:
    count = len(torch.unique(groups))
    return f"{count} in all" if count < 3 else "groups that hold all pictures of some class"
