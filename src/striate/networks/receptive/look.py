"""How a whole network looks at the picture: the rule of every operation, applied in order.

An operation that is not known here gives an `Unknown`, and so does everything after it: never a guess.
"""

from __future__ import annotations

from dataclasses import replace

from striate.networks.graph import Graph, Node
from striate.networks.receptive import layout, values, windows
from striate.networks.receptive.fields import Field
from striate.networks.receptive.sight import NotKnownError, Rule, Sight, Step, Unknown


def look(graph: Graph) -> dict[str, Sight | Unknown]:
    """Return what the output of each node sees of the picture."""
    if not graph.traced:
        reason = graph.notes[0] if graph.notes else "The network was not traced."
        return {node.name: Unknown(reason) for node in graph.nodes}
    seen: dict[str, Sight | Unknown] = {}
    for node in graph.nodes:
        seen[node.name] = look_at(node, [seen[name] for name in node.inputs], graph)
    return seen


def look_at(node: Node, inputs: list[Sight | Unknown], graph: Graph) -> Sight | Unknown:
    if not inputs:
        sides = node.shape[2:]
        return Sight(("N", "C", *range(len(sides))), ((node.shape[1], Field.of_picture(sides)),))
    for one in inputs:
        if isinstance(one, Unknown):
            return one
    known = [one for one in inputs if isinstance(one, Sight)]
    rule = RULES.get(node.operation)
    try:
        if rule is None:
            raise NotKnownError(f"the operation {node.operation!r} is not known")
        result = rule(Step(node, known, graph))
    except NotKnownError as error:
        where = f" in {node.module}" if node.module else ""
        return Unknown(f"What is seen after {node.name}{where} is unknown: {error}.")
    assert len(result.labels) == len(node.shape), node
    if result.labels.count("C") == len(result.parts) == 1:
        result = replace(result, parts=((node.shape[result.labels.index("C")], result.parts[0][1]),))
    return result


_POINTWISE = """
    relu relu6 leaky_relu prelu _prelu_kernel elu selu celu gelu silu mish sigmoid log_sigmoid tanh softplus
    hardtanh hardswish hardsigmoid threshold clamp clamp_min clamp_max dropout feature_dropout alpha_dropout
    native_dropout neg abs square sqrt rsqrt pow exp log sign reciprocal sin cos erf add sub rsub mul div
    maximum minimum where contiguous clone to _to_copy detach alias lift_fresh_copy type_as softsign expm1 log1p
    eq ne gt lt ge le logical_not masked_fill nan_to_num addcmul addcdiv lerp
"""


_REDUCTIONS = "mean sum amax amin var std prod logsumexp linalg_vector_norm norm median max min"


RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), values.pointwise),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), windows.convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), windows.transposed_convolution),
    **dict.fromkeys((f"{kind}_pool{axes}d" for kind in ("max", "avg") for axes in (1, 2, 3)), windows.pooling),
    **dict.fromkeys(
        (f"adaptive_{kind}_pool{axes}d" for kind in ("max", "avg") for axes in (1, 2, 3)), windows.adaptive_pooling
    ),
    **dict.fromkeys(
        ("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d",
         "upsample_trilinear3d", "upsample_bicubic2d"),
        windows.interpolation,
    ),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), windows.shuffling),
    **dict.fromkeys(("pad", "constant_pad_nd"), windows.padding),
    **dict.fromkeys(
        (f"{kind}_pad{axes}d" for kind in ("reflection", "replication") for axes in (1, 2, 3)), windows.padding
    ),
    "linear": values.linear,
    **dict.fromkeys(("matmul", "mm"), values.matrix_product),
    **dict.fromkeys(_REDUCTIONS.split(), values.reduction),
    **dict.fromkeys(("softmax", "log_softmax", "sort"), values.along_one),
    "gather": values.gather,
    "layer_norm": values.layer_norm,
    "group_norm": values.group_norm,
    "batch_norm": values.batch_norm,
    "instance_norm": values.batch_norm,
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "flatten", "unflatten"), layout.view),
    "squeeze": layout.squeeze,
    "unsqueeze": layout.unsqueeze,
    **dict.fromkeys(("permute", "transpose"), layout.permute),
    **dict.fromkeys(("slice", "narrow"), layout.take_slice),
    "select": layout.select,
    "unfold": windows.unfold,
    **dict.fromkeys(("cat", "concat", "concatenate"), layout.concatenation),
}  # fmt: skip
