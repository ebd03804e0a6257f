"""Operations that move values without changing them: reshapes, permutations, slices, concatenations."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce

from striate.networks.receptive import taps
from striate.networks.receptive.fields import Field
from striate.networks.receptive.sight import Label, NotKnownError, Sight, Step, merged, part_at


def view(step: Step) -> Sight:
    """Dimensions are joined or divided: those of equal product belong together."""
    sight, labels = step.sight, list(step.sight.labels)
    old, new = list(enumerate(step.shape)), list(step.node.shape)
    result: list[Label] = []
    while old or new:
        before, after = _next_group(old, new)
        inside = [labels[place] for place, size in before if size > 1]
        if len(after) == len(before) == 1 or len(inside) == len([size for size in after if size > 1]) == 1:
            result += _one_to_one(inside, [labels[place] for place, _ in before], after)
            continue
        sight, label = _joined(sight, inside, {labels[place]: size for place, size in before})
        wide = len([size for size in after if size > 1])
        if label == "F" and wide > 1:
            raise NotKnownError("it divides features that see different parts of the picture")
        given = iter(["N", *["C"] * wide] if label == "N" else [label] * wide)
        result += ["-" if size == 1 else next(given) for size in after]
    if "C" in result and result.count("C") > 1:
        sight = sight.together()
    gone = [label for label in labels if isinstance(label, int) and label not in result]
    for axis in gone:
        sight = sight.through(axis, taps.adaptive(sight.parts[0][1].sides[axis], 1))
    return replace(sight, labels=tuple(result))


def _next_group(old: list[tuple[int, int]], new: list[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Take from both lists the shortest beginnings with equal products."""
    before, after = [old.pop(0)] if old else [], [new.pop(0)] if new else []
    while (left := math.prod(size for _, size in before)) != (right := math.prod(after)):
        if left < right:
            before.append(old.pop(0))
        else:
            after.append(new.pop(0))
    while old and new == [] and old[0][1] == 1:
        before.append(old.pop(0))
    return before, after


def _one_to_one(inside: list[Label], before: list[Label], after: list[int]) -> list[Label]:
    if len(before) == len(after) == 1:
        return before
    return [inside[0] if size > 1 else "-" for size in after]


def _joined(sight: Sight, inside: list[Label], sizes: dict[Label, int]) -> tuple[Sight, Label]:
    """Return the label of dimensions that become one, or that one is divided into."""
    if not inside:
        return sight, "-"
    if all(label == "C" for label in inside):
        return sight.together(), "C"
    if "N" in inside:
        if any(label not in ("N", "C") for label in inside):
            raise NotKnownError("it mixes pictures")
        return sight.together(), "N"  # each channel as a picture of its own
    axes = [label for label in inside if isinstance(label, int)]
    if len(inside) == 1 and axes:
        raise NotKnownError("it divides an axis of the picture")
    sight = sight.together()
    for axis in axes:
        sight = sight.through(axis, taps.adaptive(sizes[axis], 1))
    return sight, "F"


def squeeze(step: Step) -> Sight:
    places = step.dimensions()
    kept = [label for place, label in enumerate(step.sight.labels) if place not in places or step.shape[place] > 1]
    return replace(step.sight, labels=tuple(kept))


def unsqueeze(step: Step) -> Sight:
    labels = list(step.sight.labels)
    place = int(step.node.options["dim"])
    labels.insert(place if place >= 0 else len(labels) + 1 + place, "-")
    return replace(step.sight, labels=tuple(labels))


def permute(step: Step) -> Sight:
    labels = step.sight.labels
    if step.node.operation == "permute":
        order = [int(place) % len(labels) for place in step.node.options["dims"]]
    else:
        order = list(range(len(labels)))
        one, two = step.dimension("dim0"), step.dimension("dim1", 1)
        order[one], order[two] = order[two], order[one]
    return replace(step.sight, labels=tuple(labels[place] for place in order))


def take_slice(step: Step) -> Sight:
    place, options = step.dimension(), step.node.options
    size = step.shape[place]
    start, end = (options.get("start") or 0), options.get("end")
    start = max(0, start + size if start < 0 else start)
    if "length" in options:
        end = start + int(options["length"])
    pace = int(options.get("step") or 1)
    return _picked(step, place, start, min(size, size if end is None else end + size if end < 0 else end), pace)


def select(step: Step) -> Sight:
    place = step.dimension()
    index = int(step.node.options["index"]) % step.shape[place]
    picked = _picked(step, place, index, index + 1, 1)
    return replace(picked, labels=tuple(label for own, label in enumerate(picked.labels) if own != place))


def _picked(step: Step, place: int, start: int, end: int, pace: int) -> Sight:
    sight, label, inputs = step.sight, step.sight.labels[place], step.shape[place]
    outputs = -(-(end - start) // pace)
    if outputs == inputs:
        return sight
    if label == "N":
        raise NotKnownError("it mixes pictures")
    if isinstance(label, int):
        return sight.through(label, taps.pick(inputs, outputs, start, pace))
    if label == "C" and not sight.mixed:
        if len(sight.parts) == 1:
            return replace(sight, parts=((outputs, sight.field),))
        return replace(sight, parts=merged([(1, part_at(sight, channel)) for channel in range(start, end, pace)]))
    raise NotKnownError("it takes some of several features that see different parts of the picture")


def concatenation(step: Step) -> Sight:
    place = step.dimension()
    labels = {sight.labels for sight in step.sights}
    if len(labels) > 1:
        raise NotKnownError("its inputs are laid out differently")
    label = step.sight.labels[place]
    if label == "C":
        mixed = any(sight.mixed for sight in step.sights)
        joined = Sight(step.sight.labels, merged([part for sight in step.sights for part in sight.parts]))
        return replace(joined.together(), mixed=True) if mixed else joined
    if label == "F":
        return replace(step.sight, parts=((-1, reduce(Field.union, (sight.field for sight in step.sights))),))
    raise NotKnownError("it puts maps beside each other")
