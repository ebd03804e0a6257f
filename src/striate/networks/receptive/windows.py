"""Operations that move a window over the places of a map: convolution, pooling, interpolation, padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce

from striate.networks.receptive import taps
from striate.networks.receptive.fields import Field
from striate.networks.receptive.sight import NotKnownError, Sight, Step, ends, merged, part_at
from striate.networks.receptive.taps import Taps


def convolution(step: Step) -> Sight:
    weight = step.graph.constants.get(step.node.constants.get("weight", ""))
    if weight is None:
        raise NotKnownError("its filters are computed from the picture")
    count = len(weight) - 2
    strides, dilations = step.numbers("stride", count, 1), step.numbers("dilation", count, 1)
    sight = mix_groups(step.sight, int(step.node.options.get("groups", 1)), step.node.shape[-count - 1])
    before = _paddings(step, weight[2:], dilations)

    def along(axis: int, inputs: int, outputs: int) -> Taps:
        return taps.window(inputs, outputs, weight[2 + axis], strides[axis], before[axis], dilations[axis])

    return _along_last(step, sight, count, along)


def _paddings(step: Step, kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Return the padding before the first position; ``same`` puts what is odd behind the last."""
    words = step.node.options.get("padding")
    if words == "same":
        return [d * (k - 1) // 2 for d, k in zip(dilations, kernel, strict=True)]
    return [0] * len(kernel) if words == "valid" else step.numbers("padding", len(kernel), 0)


def transposed_convolution(step: Step) -> Sight:
    weight = step.graph.constants.get(step.node.constants.get("weight", ""))
    if weight is None:
        raise NotKnownError("its filters are computed from the picture")
    count = len(weight) - 2
    strides, dilations = step.numbers("stride", count, 1), step.numbers("dilation", count, 1)
    padding = step.numbers("padding", count, 0)
    sight = mix_groups(step.sight, int(step.node.options.get("groups", 1)), step.node.shape[-count - 1])

    def along(axis: int, inputs: int, outputs: int) -> Taps:
        return taps.transposed(inputs, outputs, weight[2 + axis], strides[axis], padding[axis], dilations[axis])

    return _along_last(step, sight, count, along)


def mix_groups(sight: Sight, groups: int, out_channels: int) -> Sight:
    """Every output channel sees what the input channels of its group see."""
    total = sum(count for count, _ in sight.parts)
    if groups == 1 or len(sight.parts) == 1:
        field = sight.field
        return Sight(sight.labels, ((out_channels, field),), mixed=sight.mixed and groups > 1)
    size, parts = total // groups, []
    for group in range(groups):
        begins = [group * size, *(end for end in ends(sight) if group * size < end < (group + 1) * size)]
        field = reduce(Field.union, (part_at(sight, begin) for begin in begins))
        parts.append((out_channels // groups, field))
    return Sight(sight.labels, merged(parts))


def pooling(step: Step) -> Sight:
    count = int(step.node.operation[-2])  # max_pool2d
    kernel = step.numbers("kernel_size", count, 1)
    strides = [stride or size for stride, size in zip(step.numbers("stride", count, 0), kernel, strict=True)]
    padding, dilations = step.numbers("padding", count, 0), step.numbers("dilation", count, 1)

    def along(axis: int, inputs: int, outputs: int) -> Taps:
        return taps.window(inputs, outputs, kernel[axis], strides[axis], padding[axis], dilations[axis])

    return _along_last(step, step.sight, count, along)


def adaptive_pooling(step: Step) -> Sight:
    count = int(step.node.operation[-2])
    return _along_last(step, step.sight, count, lambda axis, inputs, outputs: taps.adaptive(inputs, outputs))


def interpolation(step: Step) -> Sight:
    operation = step.node.operation
    count = next(int(letter) for letter in operation if letter.isdigit())
    reach = 0 if "nearest" in operation else 2 if "bicubic" in operation else 1
    if "exact" in operation or "_aa" in operation:
        raise NotKnownError(f"the operation {operation!r} is not known")
    scales = step.node.options.get("scale_factors")
    corners = bool(step.node.options.get("align_corners", False))

    def along(axis: int, inputs: int, outputs: int) -> Taps:
        scale = 1 / Fraction(scales[axis]).limit_denominator(1 << 16) if scales else Fraction(inputs, outputs)
        return taps.interpolate(inputs, outputs, scale, reach, align_corners=corners)

    return _along_last(step, step.sight, count, along)


def shuffling(step: Step) -> Sight:
    """Pixel shuffling and its inverse: channels become places, places channels."""
    together = step.sight.together()
    sight = Sight(together.labels, ((step.node.shape[-3], together.field),), together.mixed)
    if step.node.operation == "pixel_unshuffle":
        factor = int(step.node.options["downscale_factor"])
        sight = replace(sight, mixed=factor > 1)  # each channel sees one pixel of the block
        return _along_last(step, sight, 2, lambda axis, inputs, outputs: taps.window(inputs, outputs, factor, factor))
    factor = int(step.node.options["upscale_factor"])
    return _along_last(step, sight, 2, lambda axis, inputs, outputs: taps.repeat(inputs, outputs, factor))


def _along_last(step: Step, sight: Sight, count: int, along: Callable[[int, int, int], Taps]) -> Sight:
    """Apply an operation along the last ``count`` dimensions, whatever of the picture they stand for."""
    for axis in range(count):
        place = len(step.shape) - count + axis
        inputs, outputs, label = step.shape[place], step.node.shape[place], sight.labels[place]
        if isinstance(label, int):
            sight = sight.through(label, along(axis, inputs, outputs))
        elif label == "C":
            sight = replace(sight.together(), mixed=sight.mixed or len(sight.parts) > 1)
        elif not along(axis, inputs, outputs).is_identity and (label != "-" or outputs > 1):
            raise NotKnownError("it moves over features that see different parts of the picture")
    return sight


_OUTSIDE: dict[str, taps.Outside] = {
    "reflect": "reflect", "reflection": "reflect",
    "replicate": "replicate", "replication": "replicate",
    "circular": "circular",
}  # fmt: skip


def padding(step: Step) -> Sight:
    amounts = [int(one) for one in step.node.options.get("pad") or step.node.options.get("padding") or ()]
    mode = step.node.options.get("mode") or step.node.operation.partition("_pad")[0]  # of reflection_pad2d
    outside = _OUTSIDE.get(str(mode), "nothing")
    sight = step.sight
    for number in range(len(amounts) // 2):
        place = len(step.shape) - 1 - number
        before, label = amounts[2 * number], sight.labels[place]
        inputs, outputs = step.shape[place], step.node.shape[place]
        if isinstance(label, int):
            sight = sight.through(label, taps.pad(inputs, outputs, before, outside))
        elif label == "C" and inputs != outputs:
            # zero channels see nothing; they are counted with their neighbours, which see more
            sight = Sight(sight.labels, ((outputs, sight.field),), mixed=True)
        elif inputs != outputs:
            raise NotKnownError("it pads features that see different parts of the picture")
    return sight


def unfold(step: Step) -> Sight:
    """Windows along one axis; their contents become a last dimension."""
    options = step.node.options
    place, size, pace = step.dimension("dimension"), int(options["size"]), int(options["step"])
    label = step.sight.labels[place]
    if not isinstance(label, int):
        raise NotKnownError("it moves over features")
    sight = step.sight.through(label, taps.window(step.shape[place], step.node.shape[place], size, pace))
    return replace(sight, labels=(*sight.labels, "F" if size > 1 else "-"))
