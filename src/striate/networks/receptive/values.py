"""Operations on values where they are: pointwise ones, matrix products, reductions, norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise

from striate.networks.receptive import taps
from striate.networks.receptive.sight import Label, NotKnownError, Sight, Step, ends, merged, part_at
from striate.networks.receptive.windows import mix_groups


def pointwise(step: Step) -> Sight:
    """Every output sees what the inputs at its place see; inputs of size 1 are spread."""
    out = step.node.shape
    spread = [
        _spread(sight, step.graph[name].shape, out) for sight, name in zip(step.sights, step.node.inputs, strict=True)
    ]
    sight = reduce(_pointwise_union, spread)
    if "*" not in sight.labels:
        return sight
    return replace(sight.together(), labels=tuple("C" if label == "*" else label for label in sight.labels))


def _spread(sight: Sight, shape: tuple[int, ...], out: tuple[int, ...]) -> Sight:
    labels: list[Label] = [*["-"] * (len(out) - len(shape)), *sight.labels]
    sizes = [1] * (len(out) - len(shape)) + list(shape)
    for place, (size, wanted) in enumerate(zip(sizes, out, strict=True)):
        if size == wanted:
            continue
        label = labels[place]
        if isinstance(label, int):
            sight = sight.through(label, taps.broadcast(wanted))
        elif label in ("C", "F"):
            sight = replace(sight, parts=((wanted, sight.field),))
        else:
            labels[place] = "*"  # takes the label of the input that has this dimension
    return replace(sight, labels=tuple(labels))


def _pointwise_union(one: Sight, two: Sight) -> Sight:
    labels: list[Label] = []
    for first, second in zip(one.labels, two.labels, strict=True):
        if first in ("*", "-"):
            labels.append(second)
        elif second in ("*", "-") or first == second:
            labels.append(first)
        else:
            raise NotKnownError("its inputs are laid out differently")
    for axis in range(len(one.parts[0][1].sides)):
        one, two = _same_side(one, two, axis), _same_side(two, one, axis)
    if one.mixed or two.mixed or len({sum(count for count, _ in sight.parts) for sight in (one, two)}) > 1:
        mixed = one.mixed or two.mixed or len(one.parts) > 1 or len(two.parts) > 1
        field = one.field.union(two.field)
        return Sight(tuple(labels), ((max(sum(c for c, _ in s.parts) for s in (one, two)), field),), mixed)
    borders = sorted({end for sight in (one, two) for end in ends(sight)})
    parts = [(end - begin, part_at(one, begin).union(part_at(two, begin))) for begin, end in pairwise([0, *borders])]
    return Sight(tuple(labels), merged(parts))


def _same_side(sight: Sight, other: Sight, axis: int) -> Sight:
    """Spread an axis that is gone from one of two inputs (pooled away, say) over the other's places."""
    own, wanted = sight.parts[0][1].sides[axis], other.parts[0][1].sides[axis]
    return sight.through(axis, taps.broadcast(wanted)) if own == 1 != wanted else sight


def linear(step: Step) -> Sight:
    """A matrix product with a constant over the last dimension."""
    if step.node.inputs and not (step.is_constant("weight") or step.is_constant("mat2") or step.is_constant("other")):
        raise NotKnownError("both of its factors are computed from the picture")
    return _reduced(step, [len(step.shape) - 1], keep=True)


def matrix_product(step: Step) -> Sight:
    if len(step.node.inputs) != 1 or len(step.shape) < 2 or step.is_constant("self"):
        raise NotKnownError("both of its factors are computed from the picture")
    return linear(step)


def reduction(step: Step) -> Sight:
    if len(step.sights) > 1:
        return pointwise(step)  # the larger or smaller of two
    return _reduced(step, step.dimensions(), keep=bool(step.node.options.get("keepdim", False)), shrink=True)


def _reduced(step: Step, places: Sequence[int], *, keep: bool, shrink: bool = False) -> Sight:
    """Every output sees what all places along some dimensions see; these are kept, shrunk to 1, or dropped."""
    sight = step.sight
    labels = list(sight.labels)
    for place in places:
        label = labels[place]
        if label == "N":
            raise NotKnownError("it mixes pictures")
        if isinstance(label, int):
            sight = sight.through(label, taps.adaptive(step.shape[place], 1))
            if not shrink:
                sight = sight.through(label, taps.broadcast(step.node.shape[place]))
        elif label == "C":
            sight = replace(sight.together(), mixed=False)
            labels[place] = "-" if shrink else "C"
        elif label == "F":
            labels[place] = "-" if shrink else "C"
    if not keep:
        labels = [label for place, label in enumerate(labels) if place not in places]
    return replace(sight, labels=tuple(labels))


def _normalised_over(step: Step, places: Sequence[int]) -> Sight:
    """Every output sees what all places along some dimensions see; shapes stay."""
    return _reduced(step, places, keep=True)


def along_one(step: Step) -> Sight:
    """Softmax, sorting: every output sees all places along one dimension."""
    return _normalised_over(step, [step.dimension(default=-1)])


def gather(step: Step) -> Sight:
    """Every output sees all places along one dimension, and what its index was computed from."""
    values = _normalised_over(Step(step.node, step.sights[:1], step.graph), [step.dimension()])
    return reduce(_pointwise_union, [values, *step.sights[1:]])


def layer_norm(step: Step) -> Sight:
    count = len(step.node.options["normalized_shape"])
    return _normalised_over(step, range(len(step.shape) - count, len(step.shape)))


def group_norm(step: Step) -> Sight:
    groups = int(step.node.options.get("num_groups", 0))
    mixed = mix_groups(step.sight, groups, step.shape[1]) if groups else step.sight
    inside = Step(step.node, [mixed], step.graph)
    return _normalised_over(inside, range(2, len(step.shape)))


def batch_norm(step: Step) -> Sight:
    if step.node.options.get("training") or step.node.options.get("use_input_stats"):
        return _normalised_over(step, range(2, len(step.shape)))
    return step.sight
