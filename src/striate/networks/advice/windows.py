"""Advice on windows: rows that none reaches, pixels that reach nothing, weights that never meet the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from striate.core.finding import Finding
from striate.networks.advice.coverage import Coverage, Mask
from striate.networks.advice.layers import is_convolution, is_pool, sliding, times, weight_shape, where
from striate.networks.graph import PICTURE, Node
from striate.networks.shapes import Window
from striate.networks.text.lost import lost_pixels


def lost_and_unseen(coverage: Coverage) -> Iterator[Finding]:
    """Yield ``lost-rows`` and ``unseen-pixels``.

    A row or column at the end is lost where windows stop before it, r = (W + 2P − K) mod S and lost = max(0, r − P),
    and none of its places is `Coverage.carried`: another branch does not see it either. Pixels are unseen where every
    operation on a map skips them, between windows or by slicing, and they are not carried. Nothing is said twice:
    neither of what is lost at the end, nor of places that are used by something that is itself skipped later.
    """
    for node in coverage.graph.nodes:
        if node.name not in coverage.routes:
            continue
        unseen = coverage.real[node.name] & ~coverage.carried[node.name] & ~coverage.taken(node.name)
        if not unseen.any():
            continue
        for user in coverage.graph.users[node.name]:
            lost, finding = _lost(user, node, coverage)
            if finding:
                unseen &= ~lost
                yield finding
                break
        if unseen.any():
            yield _unseen(node, unseen, coverage)


def _lost(user: Node, node: Node, coverage: Coverage) -> tuple[Mask, Finding | None]:
    """Return the places at the end that a window leaves to nobody, and what to say of them."""
    over, sizes = sliding(user, coverage.graph), coverage.full(node.name).shape
    lost = np.zeros(sizes, dtype=bool)
    if len(over) != len(sizes) or len(node.shape) != len(sizes) + 2:
        return lost, None
    reported = list(over)
    for axis, (window, size) in enumerate(zip(over, sizes, strict=True)):
        strip = (slice(None),) * axis + (slice(size - window.lost(size), None),)
        gone = coverage.real[node.name][strip] & ~coverage.carried[node.name][strip]
        if window.lost(size) and gone.any() and not coverage.carried[node.name][strip].any():
            lost[strip] = True
        else:
            reported[axis] = replace(window, ceil=True)  # nothing of this axis is lost
    noun = "window" if is_pool(user) else "filter"
    words = lost_pixels(reported, sizes, noun, can_hang_over=is_pool(user)) if lost.any() else None
    if words is None:
        return np.zeros(sizes, dtype=bool), None
    article = "An" if times(window.extent for window in over).startswith(("8", "11", "18")) else "A"
    sentence = article + words.sentence[1:]
    return lost, Finding("lost-rows", "warning", where(user), sentence, words.numbers, words.fix)


def _unseen(node: Node, unseen: Mask, coverage: Coverage) -> Finding:
    skips = [user for user in coverage.graph.users[node.name] if _skips(user, node, coverage)]
    who = list(dict.fromkeys(_in_words(user, coverage) for user in skips))
    places, total = ("pixels of the picture" if node.name == PICTURE else "positions of the map"), unseen.size
    count = int(unseen.sum())
    lost_of_picture = int((~coverage.used[PICTURE]).sum()) if PICTURE in coverage.used else 0
    numbers = {"unseen": count, "positions": total, "pixels_of_the_picture": lost_of_picture}
    if skips:
        place, fix = where(skips[0]), _fix(skips[0], coverage)
        why = f"{' and '.join(who)} {'skips' if len(who) == 1 else 'skip'} them"
    else:
        place, fix, why = where(node), "Let the output depend on it.", "nothing reads them"
    message = f"{count:,} of the {total:,} {places} ({times(unseen.shape)}) reach no unit of the output: {why}."
    return Finding("unseen-pixels", "warning", place, message, numbers, fix)


def _skips(user: Node, node: Node, coverage: Coverage) -> bool:
    routes = [route for route in coverage.routes[user.name] if route.source == node.name]
    return not all(route.backward(coverage.full(user.name)).all() for route in routes)


def _in_words(user: Node, coverage: Coverage) -> str:
    over = sliding(user, coverage.graph)
    if not over:
        return f"the {user.operation} in {user.module or 'the network'}"
    strides = [window.stride for window in over]
    stride = times(strides[:1] if len(set(strides)) == 1 else strides)
    return f"{where(user)} ({times(window.kernel for window in over)}, stride {stride})"


def _fix(user: Node, coverage: Coverage) -> str:
    over = sliding(user, coverage.graph)
    for window in over:
        if window.extent < window.stride:
            return f"Give it a stride of at most {window.extent}, or a kernel of at least {window.stride}."
        if math.gcd(window.dilation, window.stride) > 1:
            return f"Give it a dilation that has no divisor in common with its stride of {window.stride}."
    return "Take a stride of 1." if over else "Pool, or convolve with a stride, instead of leaving pixels out."


def too_large_kernels(coverage: Coverage, layers: Sequence[Node]) -> Iterator[Finding]:
    """Yield ``kernel-larger-than-input``: convolutions with weights that meet padding only, wherever they are moved."""
    for node in layers:
        over = sliding(node, coverage.graph)
        source = node.inputs[0]
        if not over or not is_convolution(node) or source not in coverage.routes:
            continue
        real = coverage.real[source]
        if len(over) != real.ndim:
            continue
        live = [_live(window, _along(real, axis)) for axis, window in enumerate(over)]
        shape = weight_shape(node, coverage.graph)
        kernel = math.prod(window.kernel for window in over)
        if (idle := kernel - math.prod(live)) > 0:
            yield _too_large(node, over, real.shape, idle, shape)


def _along(real: Mask, axis: int) -> Mask:
    """Return which places along one axis hold anything of the picture."""
    return np.asarray(real.any(axis=tuple(other for other in range(real.ndim) if other != axis)))


def _live(window: Window, real: Mask) -> int:
    """Return how many of a window's taps meet anything real at any of its positions."""
    starts = np.arange(window.outputs(len(real))) * window.stride - window.before
    padded = np.append(real, False)
    taps = starts[:, None] + np.arange(window.kernel) * window.dilation  # (positions, kernel)
    taps[(taps < 0) | (taps >= len(real))] = len(real)
    return int(padded[taps].any(0).sum())


def _too_large(node: Node, over: Sequence[Window], sizes: Sequence[int], idle: int, shape: tuple[int, ...]) -> Finding:
    kernel, weights = [window.kernel for window in over], idle * math.prod(shape[:2])
    taps, extents = math.prod(kernel), [window.extent for window in over]
    fitting = [min(window.kernel, 2 * size - 1) for window, size in zip(over, sizes, strict=True)]
    spread = f" (spread over {times(extents)})" if extents != kernel else ""
    message = (
        f"A {times(kernel)} filter{spread} over a map of {times(sizes)}: {idle} of its {taps} weights per channel only "
        f"ever meet padding, {weights:,} of {math.prod(shape):,} in all."
    )
    fix = f"Take a filter of at most {times(fitting)}, larger pictures, or less striding and pooling before it."
    return Finding("kernel-larger-than-input", "warning", where(node), message, {"weights": weights}, fix)
