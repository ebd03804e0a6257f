"""Advice on networks: what a trained eye would remark on one before it is trained."""

from __future__ import annotations

from torch import nn

from striate.core.finding import Finding
from striate.core.spec import Spec
from striate.networks.advice import sequence, sizes, windows
from striate.networks.advice.coverage import Coverage
from striate.networks.advice.layers import weight_layers
from striate.networks.geometry import Geometry
from striate.networks.graph import trace


def advise(
    network: nn.Module, spec: Spec, *, loss: str = "cross_entropy", geometry: Geometry | None = None
) -> tuple[Finding, ...]:
    """Return what could be better about a network at the size of its pictures; nothing for one that is well built.

    ============================  ====================================================================================
    ``lost-rows``                 rows or columns at the end that no window reaches, and no other branch
    ``unseen-pixels``             pixels, or places of a map, that windows skip and no other branch sees
    ``kernel-larger-than-input``  weights that meet nothing but padding
    ``one-heavy-layer``           most parameters in one fully connected layer
    ``small-field``               units before a global pool that see less than half of the picture's height or width
    ``deep-and-plain``            more than a dozen layers in a row without skip connections or norms
    ``bias-before-norm``          biases that batch norm takes away
    ``no-non-linearity``          layers that could be one
    ``softmax-before-loss``       a softmax where the loss has its own
    ``not-known``                 what could not be looked at, and why
    ============================  ====================================================================================

    Each finding names the layer, the numbers and the fix. What each looks for exactly is said where it is found, in
    the files beside this one.

    Args:
        network: any module; on the meta device it takes no memory. It is left as it was.
        spec: what it takes and what its logits mean.
        loss: what it is trained by: ``"cross_entropy"``, ``"hinge"`` …
        geometry: what is known of the network already (`Summary.geometry`), which saves tracing it again.

    Raises:
        NetworkError: it does not fit the pictures.
    """
    geometry = geometry or Geometry(trace(network, spec))
    graph = geometry.graph
    if not graph.traced:
        return (*sizes.heavy_layer(graph, network), _not_known(geometry))
    coverage, layers = Coverage(graph), weight_layers(graph, network)
    known = (
        *windows.lost_and_unseen(coverage),
        *windows.too_large_kernels(coverage, layers),
        *sizes.heavy_layer(graph, network),
        *sizes.small_field(geometry),
        *sequence.plain_depth(graph, layers),
        *sequence.needless_biases(graph, layers),
        *sequence.missing_non_linearities(graph, layers),
        *sequence.second_softmax(graph, loss),
    )
    return (*known, _not_known(geometry)) if geometry.notes else known


def _not_known(geometry: Geometry) -> Finding:
    """Return the note that not everything could be looked at."""
    note = geometry.notes[0] if geometry.notes else "The network was observed, not traced."
    if geometry.graph.traced:
        return Finding("not-known", "note", "", f"{note} No window after that is judged.")
    fix = "Write its forward without Python branches on the values of tensors, and without changes to parts of them."
    return Finding("not-known", "note", "", f"{note} Only the sizes of its layers are judged.", {}, fix)
