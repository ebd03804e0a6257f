"""The size of the steps: a learning rate that is too high or too low, penalties that outweigh the loss."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from striate.core.errors import first_of
from striate.core.finding import Finding
from striate.training.doctor.evidence import FEWEST_UNITS, Evidence
from striate.training.doctor.look import Look

LARGE_UPDATE = 0.5  # of the norm of a layer's weights, in one step
LARGEST_AT_TOP = 1.0
SMALL_UPDATE = 3e-4
FASTEST = 1000  # times the learning rate: what is advised at most, from what one run shows
UNLEARNED = 0.5  # of the loss of no answer
RISEN = 1.3  # times the loss of no answer, as a running mean over steps
RISEN_WEIGHTED = 2.0  # the same where a batch with a rare class is worth several without
FILTER_PENALTY = 0.05  # of the loss of no answer, for one filter
LEFT, EARLY_ON = 5e-4, 0.75  # of the top of the rate, of the run: an exponential schedule ends with 1e-3
SHRUNK = 0.04  # part of the weights that a decay apart from the loss takes away in the run
OF_TEN_CLASSES = math.log(10)
PULL = 1.0  # of the gradient
FEW_STEPS, FEW_IN_ALL = 10, 50  # in an epoch, in a run
CLIPPED = 100  # times the norm that a gradient is clipped to


def rate_too_high(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``learning-rate-too-high``.

    Either an update is as large as half of the weights, so that little of what was learned before is left; or the first
    one, at the rate of the top of the schedule, would be larger than the weights that it starts from; or the loss has
    risen clearly above that of no answer at all, which no descent does; or all units of a rectifier died, of which most
    were alive at the start.
    """
    recipe, update = evidence.run.recipe, max(evidence.updates, default=0.0)
    at_top = evidence.first_update_at_top
    most = RISEN if evidence.run.class_weights is None else RISEN_WEIGHTED
    risen = evidence.highest > most * max(evidence.first, evidence.chance)
    killed = _killed(evidence)
    if not (update > LARGE_UPDATE or at_top > LARGEST_AT_TOP or risen or killed):
        return
    if update > LARGE_UPDATE:
        why = f"one step changed the weights of a layer by {update:.0%} of their size, and 0.1 to 1 % is usual"
    elif at_top > LARGEST_AT_TOP:
        why = f"at that rate, the first step would have been {at_top:.2g} times as large as the weights of a layer"
    elif risen:
        why = f"the loss rose to {evidence.highest:.3g}, and no answer at all would cost {evidence.chance:.3g}"
    else:
        why = f"the units of {killed} were alive at the start, and now all of them are 0 for every picture"
    message = f"The learning rate, {recipe.learning_rate:g} at its top, is too high: {why}."
    numbers = {"update": update, "first_at_top": at_top, "highest_loss": evidence.highest, "chance": evidence.chance}
    fix = f"Take --lr {recipe.learning_rate / (100 if max(update, at_top) > 3 else 10):g}."
    yield Finding("learning-rate-too-high", "warning", "recipe", message, numbers, fix)


def _killed(evidence: Evidence) -> str:
    """Return where all units of a rectifier are silent at two looks, of which most were not at the start, if anywhere.

    There is none in a resumed run, whose start was not seen.
    """
    looks = evidence.looks
    if len(looks) < 3 or looks[0].step:
        return ""
    silent = [
        {one.where: float(one.silent.float().mean()) for one in look.units if len(one.silent) >= FEWEST_UNITS}
        for look in (looks[0], *looks[-2:])
    ]
    alive = [where for where, share in silent[0].items() if share < 0.5]
    return next((where for where in alive if all(look.get(where) == 1 for look in silent[1:])), "")


def rate_too_low(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``learning-rate-too-low``: at the end most is still to be learned, and the steps were tiny.

    About a thousandth of a layer's norm per step is usual; with a tenth of that, and a loss that has not come down,
    the weights are hardly farther than where they began. Or the schedule left hardly anything of the rate early on.
    """
    if not evidence.ended or not evidence.run.history or len(evidence.updates) < 2:
        return
    recipe, usual = evidence.run.recipe, evidence.usual_update
    loss = evidence.run.history[-1]["loss"]
    if loss < UNLEARNED * evidence.chance or evidence.blocked or (evidence.single and evidence.learned_half):
        return
    if (fallen := _fallen(evidence)) is not None:
        message = (
            f"The learning rate fell from {recipe.learning_rate:g} to {fallen.learning_rate:.1g} by step "
            f"{fallen.step} of {evidence.run.total_steps}, and the loss is still {loss:.3g} (no answer: "
            f"{evidence.chance:.3g}): most steps changed nothing."
        )
        numbers = {"rate": fallen.learning_rate, "step": float(fallen.step), "loss": loss}
        fix = f"Take another schedule than {recipe.schedule}, such as --schedule one_cycle, or let it fall later."
        yield Finding("learning-rate-too-low", "warning", "recipe", message, numbers, fix)
        return
    if not 0 < usual < SMALL_UPDATE:
        return
    if max(look.learning_rate for look in evidence.looks) < recipe.learning_rate / 2:  # stopped before the top
        return
    message = (
        f"The learning rate, {recipe.learning_rate:g} at its top, is too low: a step changes the weights of a layer by "
        f"{usual:.1g} of their size, 0.1 to 1 % is usual, and the loss is still {loss:.3g} (no answer: "
        f"{evidence.chance:.3g})."
    )
    numbers = {"update": usual, "loss": loss, "chance": evidence.chance}
    factor = min(FASTEST, 10 ** round(math.log10(3e-3 / usual)))
    fix = f"Take --lr {recipe.learning_rate * factor:g}."
    yield Finding("learning-rate-too-low", "warning", "recipe", message, numbers, fix)


def _fallen(evidence: Evidence) -> Look | None:
    """Return the look, well before the end, at which hardly anything was left of a rate that had been at its top.

    A rate that falls when the loss has stopped falling is not why it has.
    """
    if evidence.run.recipe.schedule == "plateau":
        return None
    top, reached = evidence.run.recipe.learning_rate, False
    for look in evidence.looks:
        reached = reached or look.learning_rate > top / 2
        if reached and look.learning_rate < LEFT * top and look.step < EARLY_ON * evidence.run.total_steps:
            return look
    return None


def nothing_moves(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``nothing-moves``: the updates change nothing at all."""
    updates = evidence.updates
    if len(updates) >= 2 and max(updates) < 1e-9:
        message = "The updates leave the weights where they are: nothing is learned."
        fix = f"Take a learning rate above 0 (--lr is {evidence.run.recipe.learning_rate:g}), and unfreeze a stage."
        yield Finding("nothing-moves", "error", "recipe", message, {"update": max(updates)}, fix)


def layer_stands_still(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``layer-stands-still``: a layer gets a gradient, and no update, while others move."""
    looks = evidence.looks[-2:]
    if len(looks) < 2 or min(look.update for look in looks) < 1e-6:  # all of them may be too small to count in float32
        return
    still = [name for name in looks[-1].still if name in looks[0].still]
    if still:
        message = (
            f"{first_of(still, 1)}{' layers' * (len(still) > 1)} gets a gradient, and the "
            "updates leave it exactly as it is."
        )
        fix = "Give its stage a learning rate above 0 in the phases of the recipe, or name it among the frozen ones."
        yield Finding("layer-stands-still", "warning", still[0], message, {"layers": float(len(still))}, fix)


def clipping(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``clipping-too-low``: all gradients are scaled down to a hundredth or less, and so is each step.

    Clipping is meant for the rare gradient that is far longer than others (Pascanu et al., On the difficulty of
    training recurrent neural networks, ICML 2013). All optimisers but SGD divide by the size of gradients.
    """
    most, looks = evidence.run.recipe.clip_gradient_norm, evidence.looks
    if most is None or evidence.run.recipe.optimizer != "sgd" or len(looks) < 2:
        return
    lengths = [math.sqrt(sum((layer.gradient or 0.0) ** 2 for layer in look.layers)) for look in looks]
    if min(lengths) > CLIPPED * most:
        usual = statistics.median(lengths)
        message = f"Every gradient is clipped to {most:g}, and is {usual:.2g} long: a step is {most / usual:.1g} of it."
        fix = f"Take --clip-gradient-norm {float(f'{2 * usual:.1g}'):g}, or leave it out."
        yield Finding("clipping-too-low", "warning", "recipe", message, {"clip": most, "usual": usual}, fix)


def penalty(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``penalty-out-of-scale``: keeping the weights small is worth more than learning.

    With ½λΣw² or λΣ|w|, λ the recipe's l2, weight decay or l1: either the penalty of a single filter is worth a good
    part of the loss of no answer, of ten classes at least, so that no filter pays for itself, or the pull of a penalty
    in the loss, λ‖w‖ or λ√n of n weights, is at the start larger than that of the pictures. Weight decay is no part of
    the loss and takes away the part λ · rate of the weights at each step, which in a short run is next to nothing.
    """
    recipe, look = evidence.run.recipe, evidence.looks[0]
    if look.step:  # of a resumed run: what pulls is small by then, and so are the weights
        return
    shrinks = recipe.weight_decay * recipe.learning_rate * evidence.run.total_steps / 2 > SHRUNK  # half of the top
    decay = recipe.weight_decay if shrinks else 0.0
    squares = sum(layer.weight**2 for layer in look.layers)
    sizes = sum(math.sqrt(2 / math.pi * layer.count) * layer.weight for layer in look.layers)  # Σ|w| of Gaussian ones
    filters = max(1, sum(layer.filters for layer in look.layers))
    gradient = math.sqrt(sum((layer.gradient or 0.0) ** 2 for layer in look.layers)) or math.inf  # none says its own
    count = math.sqrt(sum(layer.count for layer in look.layers))
    for name, factor, total, pull in (
        ("l2", recipe.l2, 0.5 * recipe.l2 * squares, recipe.l2 * math.sqrt(squares) / gradient),
        ("weight-decay", decay, 0.5 * decay * squares, 0.0),
        ("l1", recipe.l1, recipe.l1 * sizes, recipe.l1 * count / gradient),
    ):
        outweighs = total / filters > FILTER_PENALTY * max(evidence.chance, OF_TEN_CLASSES) or pull > PULL
        if not factor or not outweighs:
            continue
        penalised = "λΣ|w|" if name == "l1" else "½λΣw²"
        message = (
            f"With a {name.replace('-', ' ')} of {factor:g}, {penalised} is {total:.3g} when training begins, "
            f"{total / evidence.chance:.2g} times the loss of no answer ({evidence.chance:.3g}): shrinking the weights "
            "is worth more than learning."
        )
        numbers = {"penalty": total, "chance": evidence.chance, "of_one_filter": total / filters, "pull": pull}
        fix = f"Take --{name} {min(1e-5 if name == 'l1' else 0.01, factor / 100):g}."
        yield Finding("penalty-out-of-scale", "warning", "recipe", message, numbers, fix)
        return


def few_steps(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``batch-too-large``: an epoch has a handful of steps, and the run ended before it had learned."""
    run = evidence.run
    if not evidence.ended or not run.history or run.steps_per_epoch >= FEW_STEPS or run.step >= FEW_IN_ALL:
        return
    loss, size = run.history[-1]["loss"], min(run.recipe.batch_size, len(run.learned))
    if size < 32 or loss < UNLEARNED * evidence.chance or (evidence.single and evidence.learned_much):
        return
    message = (
        f"A batch of {size} of the {len(run.learned):,} pictures makes {run.steps_per_epoch} step"
        f"{'s' * (run.steps_per_epoch > 1)} an epoch and {run.step} in all, too few to learn: the loss is still "
        f"{loss:.3g}."
    )
    smaller = max(8, len(run.learned) // 50)
    numbers = {"steps": float(run.step), "batch_size": float(size), "loss": loss}
    yield Finding(
        "batch-too-large", "warning", "recipe", message, numbers, f"Take --batch-size {smaller}, or more epochs."
    )
