"""What goes through the network: gradients that vanish or explode, units that are dead or saturated."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

from torch import Tensor

from striate.core.errors import first_of
from striate.core.finding import Finding, Severity
from striate.training.doctor.evidence import FEWEST_PICTURES, FEWEST_UNITS, Evidence
from striate.training.doctor.look import Layer, Look

SOME_DEAD, MOST_DEAD, MOST_SATURATED = 0.6, 0.9, 0.6
ALIKE = 1e-3  # deviation over the pictures, of the root mean square
SHORT = 3.0  # of logits that all have one length: the best of ten classes gets two thirds at most
FADED = 1e-3  # typical gradient of the first layers, of that of the last ones
SEVERAL, MANY = 2, 4  # looks in a row that must agree
# Non-linear operations that leave out a part of what logits must be able to say, and what is left.
BOUNDED = {
    "relu": "from 0 up", "relu6": "from 0 to 6", "sigmoid": "from 0 to 1", "tanh": "from −1 to 1",
    "hardtanh": "within bounds", "softplus": "from 0 up", "gelu": "from −0.17 up", "silu": "from −0.28 up",
    "elu": "from −1 up",
}  # fmt: skip


def dead_units(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``dead-units``: most units of a rectifier are positive for no picture, at one look and at the next.

    Where nothing is positive, the gradient is exactly 0, and nothing can change that any more (Lu et al., Dying ReLU
    and Initialization, 2019). A unit that says something about few pictures may be 0 for all of two batches, and a
    network that has learned much has many such: only where hardly one unit is left is it a warning.
    """
    if len(evidence.looks) < SEVERAL:
        return
    before, now = ({one.where: one.silent for one in look.units} for look in evidence.looks[-SEVERAL:])
    both = {
        where: float((silent & before[where]).float().mean())
        for where, silent in now.items()
        if len(silent) >= FEWEST_UNITS and where in before
    }
    where = max(both, key=both.__getitem__, default="")
    share = both.get(where, 0.0)
    if share < SOME_DEAD:
        return
    message = (
        f"{share:.0%} of the units of {where} are 0 for every picture of two batches: they pass on nothing, and no "
        "gradient reaches what is before them."
    )
    rate = evidence.run.recipe.learning_rate / 10
    fix = f"Start biases at 0, put batch norm before it, or take a smaller step (--lr {rate:g}); or a leaky ReLU."
    severity: Severity = "error" if share == 1 else "warning" if share >= MOST_DEAD else "note"
    yield Finding("dead-units", severity, where, message, {"dead": share}, fix)


def saturated_units(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``saturated-units``: a tanh or sigmoid is on its flat parts, where its slope is below 6 % of the steepest.

    Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010.
    """
    for where in _in_all(evidence, lambda look: [one.where for one in look.units if one.saturated >= MOST_SATURATED]):
        units = [one for look in evidence.looks[-SEVERAL:] for one in look.units if one.where == where]
        share = min(one.saturated for one in units)
        message = (
            f"{share:.0%} of the values of {where} ({units[0].kind}) are on its flat parts: hardly any gradient "
            "passes there."
        )
        fix = "Put batch norm before it, start from smaller weights, and normalise the pictures."
        yield Finding("saturated-units", "warning", where, message, {"saturated": share}, fix)
        return


def fading_gradients(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``vanishing-gradients`` and ``exploding-gradients``: the first layers learn far slower or faster.

    The typical gradient of a weight in the first third of the layers is compared with that in the last third, as
    medians: each layer multiplies it by the norm of its Jacobian (Pascanu et al., On the difficulty of training
    recurrent neural networks, ICML 2013).
    """
    ratios = [_fading(look.layers) for look in evidence.looks[-SEVERAL:]]
    if len(ratios) < SEVERAL or any(ratio is None for ratio in ratios):
        return
    ratio = statistics.median(one for one in ratios if one is not None)
    layers = _with_gradient(evidence.looks[-1].layers)
    first, last = layers[0].name, layers[-1].name
    numbers = {"ratio": ratio, "layers": float(len(layers))}
    if all(one is not None and one < FADED for one in ratios):
        message = (
            f"On the way back from {last} to {first}, the gradient shrinks to {ratio:.1g} of what it was: the first "
            "layers hardly learn."
        )
        fix = "Put batch norm after each convolution or add skip connections; take ReLU instead of a sigmoid or tanh."
        yield Finding("vanishing-gradients", "warning", first, message, numbers, fix)
    elif all(one is not None and one > 1 / FADED for one in ratios):
        message = f"On the way back from {last} to {first}, the gradient grows to {ratio:.1g} times what it was."
        fix = "Put batch norm after each convolution, or start from smaller weights."
        yield Finding("exploding-gradients", "warning", first, message, numbers, fix)


def _fading(layers: tuple[Layer, ...]) -> float | None:
    """Return the typical gradient of the first third of the layers over that of the last third; None of too few."""
    known = [layer.typical_gradient for layer in _with_gradient(layers)]
    if len(known) < 4:
        return None
    third = len(known) // 3
    return statistics.median(known[:third]) / statistics.median(known[-third:])


def _with_gradient(layers: tuple[Layer, ...]) -> list[Layer]:
    """Return the layers that got one, in the order in which they ran."""
    return sorted((layer for layer in layers if layer.gradient), key=lambda layer: layer.turn)


def no_gradient(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``no-gradient``: a layer that could learn gets no gradient, or one that is exactly 0, at all looks so far.

    A layer that is left out of some steps by chance gets one at others, and where there is no loss there is none.
    """
    looks = [look for look in evidence.looks if look.loss]
    if len(looks) < (SEVERAL if evidence.ended else MANY):
        return
    layers = looks[-1].layers
    found = [
        one.name for one in layers if not any(a.gradient for look in looks for a in look.layers if a.name == one.name)
    ]
    if not found:
        return
    message = (
        f"{first_of(found, 1)} of {len(layers)} layers that could "
        "learn got no gradient, or one of 0, at any step that was looked at: they stay as they are."
    )
    fix = (
        "Look for a detach, a dead layer after it or weights that are all 0; freeze in the recipe what shall not learn."
    )
    numbers = {"layers": float(len(found)), "of": float(len(layers))}
    yield Finding("no-gradient", "warning", found[0], message, numbers, fix)


def activation_at_end(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``activation-before-loss`` and ``softmax-before-loss``: the logits come out of a non-linearity.

    The softmax of logits within 0 and 1 gives a sure answer at most e times the share of any other; where a ReLU is 0,
    no gradient says that a class should have had more.
    """
    last, logits = evidence.looks[0].last, evidence.looks[0].logits
    own = "its own sigmoid" if evidence.run.recipe.loss == "bce" else "logits of any size"
    if last == "softmax" or _add_up_to_one(logits):
        message = "The network ends in softmax, and the loss applies its own: it flattens the answers."
        fix = "Let the network return what goes into the softmax."
        yield Finding("softmax-before-loss", "warning", "logits", message, {}, fix)
    elif last in BOUNDED:
        message = (
            f"The network ends in {last}: its logits are {BOUNDED[last]} only, and {evidence.run.recipe.loss}"
            f" expects {'what goes into ' * (own != 'logits of any size')}{own}."
        )
        fix = f"Let the network return what goes into the {last}."
        yield Finding("activation-before-loss", "warning", "logits", message, {}, fix)
    elif (length := _length_of_all(logits)) is not None and length < SHORT:
        message = (
            f"The logits of every picture have the length {length:.3g}: no answer can be sure, and "
            f"{evidence.run.recipe.loss} expects {own}."
        )
        fix = "Multiply them by a number that is learned, 10 to begin with, or leave out what divides by their length."
        yield Finding("activation-before-loss", "warning", "logits", message, {"length": length}, fix)


def _add_up_to_one(logits: Tensor) -> bool:
    """Return whether logits (B, K) are shares, whatever made them: in bf16, sums are right to two digits."""
    several = logits.shape[1] > 1 and bool((logits != logits[:1]).any())
    return several and bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-2).all())


def _length_of_all(logits: Tensor) -> float | None:
    """Return the length that the logits (B, K) of all pictures have, different as they are; None where it differs."""
    if len(logits) < FEWEST_PICTURES or logits.shape[1] < 3:
        return None
    lengths = logits.norm(dim=1)
    length = float(lengths.mean())
    rounding = 1e-2 * length  # of bf16
    same = float((lengths - length).abs().max()) < rounding < float(logits.std(0).mean())
    return length if same else None


def same_for_all(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``answers-alike``: the logits hardly depend on the picture, so nothing of it gets through the network."""
    looks = evidence.looks[-SEVERAL:]
    if len(looks) < SEVERAL or evidence.run.step < 2:
        return
    if len(looks[0].logits) < 2:
        return
    spreads = [float(look.logits.std(0).mean() / look.logits.square().mean().sqrt().clamp_min(1e-30)) for look in looks]
    if max(spreads) < ALIKE:
        message = (
            f"The answers to different pictures differ by {max(spreads):.1g} of their size: what is in a picture does "
            "not reach the end of the network."
        )
        fix = "Put batch norm after each convolution, start from larger weights, or take a smaller step."
        yield Finding("answers-alike", "warning", "logits", message, {"spread": max(spreads)}, fix)


def _in_all(evidence: Evidence, names: Callable[[Look], list[str]]) -> list[str]:
    """Return the names that each of the last looks has, in order; nothing before there were enough looks."""
    looks = evidence.looks[-SEVERAL:]
    if len(looks) < SEVERAL:
        return []
    common = set(names(looks[0])).intersection(*(names(look) for look in looks[1:]))
    return [name for name in dict.fromkeys(names(looks[-1])) if name in common]
