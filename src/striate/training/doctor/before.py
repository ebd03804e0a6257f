"""What is wrong before anything is learned: pictures, labels, the network, the start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from striate.core.errors import NetworkError, first_of
from striate.core.finding import Finding
from striate.data.balance import class_shares
from striate.inspection.filters import parallel_from
from striate.networks.advice import advise
from striate.training.doctor.evidence import FEWEST_PICTURES, Evidence, batch_norms
from striate.training.doctor.labels import sample
from striate.training.doctor.look import learning_weights
from striate.training.run import Run

# What the advice on networks finds that keeps one from learning; the rest is for `striate summary`.
STRUCTURE = ("no-non-linearity", "softmax-before-loss")
LOOKED_AT = 500  # pictures that are asked whether anything is in them
MOST_BLANK = 0.2  # of them: some scans and masks are blank by right
FEW_PER_CLASS = 20
OFF_CENTRE, LEAST_DEVIATION, MOST_DEVIATION = 3.0, 0.05, 10.0
LOUD_START = 2.0  # times the loss of no answer at all
DUPLICATES = 0.25  # of a layer's filters
NORM_BATCH = 3  # pictures that a batch norm needs at least
NORM_MOMENTUM = 0.5  # from which running statistics are those of fewer than three batches
DROPPED = 0.8  # part of the units that dropout leaves out
SMOOTHED = 0.5  # part of the target
LINEAR = 1 / 3  # of the layers, whose input is linear in those before


def advice(run: Run) -> tuple[Finding, ...]:
    """Return what the advice on networks finds that keeps one from learning."""
    try:
        found = advise(run.network, run.spec, loss=run.recipe.loss or "cross_entropy")
    except NetworkError:  # it takes pictures of another size only: nothing to say here
        return ()
    known = tuple(one for one in found if one.code in STRUCTURE)
    layers = sum(p.dim() >= 2 for p in run.network.parameters())
    if sum(one.code == "no-non-linearity" for one in known) < LINEAR * (layers - 1):  # a pair of many wastes, no more
        return tuple(replace(one, severity="note") if one.code == "no-non-linearity" else one for one in known)
    return known


def structure(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``no-non-linearity`` and ``softmax-before-loss``, as `striate.networks.advice` finds them."""
    yield from evidence.structure


def one_label(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``one-label-only``: all pictures have the same label, so that there is nothing to tell apart."""
    if evidence.single and evidence.majority == 1:
        name = evidence.run.spec.task.class_names[int(evidence.shares.argmax())]
        message = f"All pictures that are learned from have the label {name}: there is nothing to tell apart."
        fix = "Look at how the labels are read: a column, a folder or a mapping is not what it is taken for."
        yield Finding("one-label-only", "error", "labels", message, {"majority": 1.0}, fix)


def blank_pictures(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``constant-pictures`` and ``constant-channel``: there is nothing to see.

    In many pictures all pixels are equal, or in nearly all of a class; or all pictures are the same one; or a channel
    has the same value in all of them.
    """
    some = sample(evidence.run.learned, LOOKED_AT)
    images, pixels = some.images, some.images.flatten(2)  # (N, C, H·W)
    least, most = pixels.amin(2), pixels.amax(2)
    empty = _blank(least, most) if pixels.shape[2] > 1 else torch.zeros(len(images), dtype=torch.bool)
    blank = float(empty.double().mean())
    if pixels.shape[1] > 1 and 0 < int((still := most.amax(0) == least.amin(0)).sum()) < len(still):
        number = int(still.nonzero()[0])
        message = f"Channel {number} of all pictures is {int(most[0, number])} everywhere: it says nothing."
        fix = "Look at how the channels are read; pictures without colour are better read as grey."
        numbers = {"channel": float(number)}
        yield Finding("constant-channel", "warning", f"channel {number}", message, numbers, fix)
    if blank > MOST_BLANK:
        message = f"{blank:.0%} of the pictures are of one and the same colour: there is nothing in them to learn from."
        fix = "Look at how the pictures are read: `striate audit DATA` names files."
        yield Finding("constant-pictures", "warning", "pictures", message, {"share": blank}, fix)
    elif len(images) > 1 and bool((images == images[:1]).all()):
        message = "All pictures are the same picture: labels cannot be told from it."
        yield Finding("constant-pictures", "error", "pictures", message, {"share": 1.0}, "Look at how they are read.")
    elif evidence.single and (name := _blank_class(evidence, some.labels, least, most)) is not None:
        message = (
            f"All pictures of {name} that were looked at are of one and the same colour: its files are probably not "
            "read."
        )
        fix = "Look at how they are read: `striate audit DATA` names files."
        yield Finding("constant-pictures", "warning", name, message, {"share": blank}, fix)


def _blank(least: Tensor, most: Tensor) -> Tensor:
    """Return which pictures are of one colour, (N,), and all of the same one: patches of all colours say something.

    Args:
        least, most: values of each channel, (N, C).
    """
    flat = (most == least).all(1)
    if not bool(flat.any()):
        return flat
    colours, counts = torch.unique(least[flat], dim=0, return_counts=True)
    same: Tensor = (least == colours[counts.argmax()]).all(1)
    return flat & same


def _blank_class(evidence: Evidence, labels: Tensor, least: Tensor, most: Tensor) -> str | None:
    """Return the name of a class of which all pictures, 5 or more, are of one and the same colour."""
    names = evidence.run.spec.task.class_names
    for k, name in enumerate(names):
        own = labels == k
        if own.sum() >= 5 and bool(_blank(least[own], most[own]).all()):
            return name
    return None


def tiny_set(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``tiny-training-set``: too few pictures per class to tell the class from the picture."""
    count = len(evidence.run.learned)
    labels = count if evidence.single else count * float(evidence.shares.sum())
    per_class = labels / max(1, int((evidence.shares > 0).sum()))
    if per_class >= FEW_PER_CLASS:
        return
    message = (
        f"There are {count} pictures to learn from, {per_class:.0f} for each class: a network learns so few by heart, "
        "and what it does on others is a matter of luck."
    )
    fix = (
        "Collect more, start from --pretrained weights, and augment (--shift 2, and --flip random where a mirrored "
        "picture means the same)."
    )
    numbers = {"pictures": float(count), "per_class": per_class}
    yield Finding("tiny-training-set", "warning", "pictures", message, numbers, fix)


def class_without_pictures(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``class-without-pictures``: val has pictures of a class that there are none to learn from."""
    run = evidence.run
    if run.val is None:
        return
    asked = class_shares(run.val.labels, run.spec.task.classes)
    missing = ((evidence.shares == 0) & (asked > 0)).nonzero()[:, 0].tolist()
    if missing:
        names = [run.spec.task.class_names[k] for k in missing]
        share = float(asked[missing].sum())
        most = f", and at most {max(0.0, 1 - share):.0%} of val can be right" * evidence.single
        message = f"val has pictures of {first_of(names)}, and train has none: what is never seen is never said{most}."
        fix = "Look at how the pictures were divided, and divide each class: load_data does so where there is no val."
        numbers = {"classes": float(len(missing)), "share": share}
        yield Finding("class-without-pictures", "warning", f"class {names[0]}", message, numbers, fix)


def small_norm_batch(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``batch-norm-small-batch``: the mean and variance of one to three pictures say little of all.

    Each of several processes has batches of its own, unless the recipe's sync_norm joins them.

    Wu & He, Group Normalization, ECCV 2018, figure 1: the error of batch norm rises steeply below 4 pictures.
    """
    run = evidence.run
    size = run.batch_size if run.recipe.sync_norm else run.own_batch_size
    if size <= NORM_BATCH and batch_norms(run):
        message = (
            f"Batch norm takes mean and variance from batches of {size}: they are mostly chance, and another scale "
            "than the one in evaluation."
        )
        fix = "Take --batch-size 16 or more, or group norm in the network."
        yield Finding("batch-norm-small-batch", "warning", "batch norm", message, {"batch_size": float(size)}, fix)


def norm_momentum(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``batch-norm-momentum``: running statistics that cannot follow within the run, or follow one batch alone.

    After n steps, (1 − momentum)ⁿ of the running mean and variance is still what it began with; and their average is
    worth (2 − momentum) / momentum batches, since the squares of its weights add up to momentum / (2 − momentum).
    """
    norms = {
        path: one
        for path, one in batch_norms(evidence.run).items()
        if one.track_running_stats and one.momentum is not None
    }
    steps = evidence.run.total_steps
    for path, norm in norms.items():
        left = (1 - float(norm.momentum or 0)) ** steps
        if left > 0.3 and steps > 30:
            message = (
                f"The running mean and variance of {path} are still {left:.0%} of what they began with when the run "
                f"ends, after {steps} steps with momentum {norm.momentum:g}: evaluation will use them."
            )
            yield Finding("batch-norm-momentum", "warning", path, message, {"left": left}, "Give it a momentum of 0.1.")
            return
        if (share := float(norm.momentum or 0)) > NORM_MOMENTUM:
            worth = (2 - share) / share
            message = (
                f"The running mean and variance of {path} are worth {worth:.2g} batches with a momentum of {share:g}, "
                "which here is the part that the last batch has: evaluation depends on that batch."
            )
            fix = (
                f"Give it a momentum of {min(0.1, 1 - share) or 0.1:.2g}: other libraries count the part that is kept."
            )
            yield Finding("batch-norm-momentum", "warning", path, message, {"batches": worth}, fix)
            return


def dropout(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``dropout-too-high``: what is left out outweighs what is left.

    Dropout of p adds noise of p / (1 − p) times the mean square of a unit, four times it from p = 0.8 on (Srivastava et
    al., Dropout, JMLR 2014, section 9, keep 0.5 to 0.8 of the units).
    """
    for path, module in evidence.run.network.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p >= DROPPED:
            kept = 1 - module.p
            message = (
                f"Dropout leaves out {module.p:.0%} of what {path} is given: the noise of it is "
                f"{module.p / max(kept, 1e-9):.3g} times as strong as the signal."
            )
            yield Finding(
                "dropout-too-high", "warning", path, message, {"p": module.p}, "Take a dropout of 0.5 or less."
            )
            return


def smoothing(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``label-smoothing-too-high``: more of the target is spread over all classes than is left to the right one.

    Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7, take 0.1.
    """
    smoothed, classes = evidence.run.recipe.label_smoothing, evidence.run.spec.task.classes
    if smoothed > SMOOTHED:
        message = (
            f"A label smoothing of {smoothed:g} leaves {1 - smoothed + smoothed / classes:.2g} to the right "
            f"class and gives {smoothed / classes:.2g} to each other one: hardly anything is left to learn."
        )
        numbers = {"label_smoothing": smoothed}
        yield Finding("label-smoothing-too-high", "warning", "recipe", message, numbers, "Take --label-smoothing 0.1.")


def momentum(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``momentum-too-high``: the optimiser's memory, 1 / (1 − momentum) steps, is a good part of the run.

    A velocity that remembers longer than the loss stays the same overshoots and swings (Goh, Why Momentum Really Works,
    Distill 2017).
    """
    recipe = evidence.run.recipe
    memory = 1 / (1 - recipe.momentum)
    if recipe.momentum >= 0.98 and memory > 0.05 * evidence.run.total_steps:
        message = (
            f"A momentum of {recipe.momentum:g} averages gradients over {memory:.0f} steps, of the "
            f"{evidence.run.total_steps} that the run has: the weights swing past what they should reach."
        )
        numbers = {"momentum": recipe.momentum, "steps": float(evidence.run.total_steps)}
        yield Finding("momentum-too-high", "warning", "recipe", message, numbers, "Take --momentum 0.9.")


def unnormalised(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``input-not-normalised``: what the first layer is given is far from mean 0 and deviation 1.

    LeCun et al., Efficient BackProp, 1998, section 4.3: all weights of a unit can then only grow or shrink together.
    """
    for number, (mean, deviation) in enumerate(evidence.looks[0].first_inputs):
        off = abs(mean) / max(deviation, 1e-12)
        if deviation > MOST_DEVIATION or abs(mean) > MOST_DEVIATION or 0 < deviation < LEAST_DEVIATION:
            severity = "far off scale"
        elif off > OFF_CENTRE:
            severity = "far off centre"
        else:
            continue
        message = (
            f"What the first layer is given is {severity}: channel {number} has mean {mean:.3g} and deviation "
            f"{deviation:.3g}, and should have about 0 and 1."
        )
        fix = (
            "Let mean and std of the Spec be those of the pictures on the scale 0–1, as load_data measures them; "
            "published weights want those that they were trained with."
        )
        numbers = {"mean": mean, "deviation": deviation}
        yield Finding("input-not-normalised", "warning", f"channel {number}", message, numbers, fix)
        return


def loud_start(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``loss-far-from-chance``: before any step, the network is sure, and wrong.

    Logits that know nothing are near 0, and the cross-entropy is near ln K. Adding noise of variance s² to them costs
    about s²/2 (Jensen's gap of the log-sum-exp), so twice ln K means that the answers are loud, not wrong by bad luck.
    """
    look = evidence.looks[0]
    loss, chance = look.start
    if len(look.logits) < FEWEST_PICTURES:  # bad luck of a few
        return
    if loss > LOUD_START * chance + 0.5:
        scale = float(look.logits.std())
        message = (
            f"Before the first step the loss is {loss:.3g}, and no answer at all would cost {chance:.3g}: the logits "
            f"have a deviation of {scale:.3g}, so the network starts out sure of what it cannot know."
        )
        fix = "Initialise the last layer with small weights (deviation 0.01), or put a norm before it."
        numbers = {"loss": loss, "chance": chance, "deviation": scale}
        yield Finding("loss-far-from-chance", "warning", "step 0", message, numbers, fix)


@torch.no_grad()
def duplicates(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``duplicate-filters``: many filters of a layer are multiples of others, so that it has fewer than it seems.

    Filters that are equal and are used alike get the same gradient and stay equal. From which cosine two filters are
    the same, and not parallel by accident, is said by `striate.inspection.filters.parallel_from`.
    """
    for name, weight in learning_weights(evidence.run.network).items():
        if weight.shape[0] < 4 or weight[0].numel() < 4:
            continue
        share, cosine = duplicate_share(weight.detach())
        if share >= DUPLICATES:
            count = round(share * weight.shape[0])
            message = (
                f"{count} of the {weight.shape[0]} filters of {name} say the same as another one (cosine at least "
                f"{math.floor(1000 * cosine) / 1000:g}): it has the use of {weight.shape[0] - count} only."
            )
            fix = "Initialise each filter by its own draw; after training, a smaller learning rate or fewer filters."
            numbers = {"share": share, "cosine": cosine}
            yield Finding("duplicate-filters", "warning", name, message, numbers, fix)
            return


def duplicate_share(weight: Tensor) -> tuple[float, float]:
    """Return the part of a layer's filters that are parallel to an earlier one, and the cosine from which they are.

    Args:
        weight: (F, …).
    """
    flat = weight.float().flatten(1)
    bound = parallel_from(len(flat), flat.shape[1])
    lengths = flat.norm(dim=1)
    units = flat[lengths > 1e-3 * float(lengths.median())]
    if bound > 1 or len(units) < 2:
        return 0.0, bound
    units = units / units.norm(dim=1, keepdim=True)
    cosines = (units @ units.T).tril(-1)
    return float((cosines >= min(bound, 1 - 1e-6)).any(1).sum()) / len(flat), bound
