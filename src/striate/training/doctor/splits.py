"""Train against val: pictures or labels of the one are not those of the other, or labels are wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from striate.core.finding import Finding
from striate.data.balance import class_counts
from striate.data.imageset import Split
from striate.prediction.predictor import compute_logits
from striate.training.doctor.evidence import Evidence
from striate.training.doctor.labels import nearest, outvoted, sample, shrunk

PICTURES = 500  # of each
FEWEST = 50
WORSE = 0.25  # skill, by which val must be worse for its pictures to be asked,
MOSTLY_LOST = 0.6  # or this part of what was learned on train, where that is little
LITTLE = 0.1  # skill on train, below which there is nothing to lose
TOGETHER = 0.75  # of pictures whose neighbour is from the same split: half are by chance
DEVIATIONS = 4.0
BETTER = 0.1  # accuracy, by which val must be better for the labels of train to be asked
UNFORESEEN = 0.6  # area under the ROC curve of sureness: ½ where errors have nothing to do with it
LEARNED = 1 / 3  # skill on val, below which a network is rightly unsure of all
OUTVOTED = 0.1  # of the pictures whose neighbours agree on a label
NEIGHBOURS_KNOW = 0.4  # skill of neighbours, below which they are no judges
ERRORS = 0.15  # of the answers, from which it can be measured


def val_unlike_train(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``val-unlike-train`` and ``val-labels-differ``: what is measured on val is not what is learned.

    Asked only where val is far worse than train. Of as many pictures of each, half have their nearest neighbour in
    their own split where both are of one distribution (Schilling, JASA 1986). The label of a neighbour in train is as
    often right for a picture of val as for one of train where labels mean the same. Not asked of groups: pictures of
    one are like each other and in one split, and that val is of others is what groups are for.
    """
    run, skill = evidence.run, evidence.val_skill
    if not evidence.ended or run.val is None or skill is None or run.val.groups is not None:
        return
    on_train = evidence.train_skill
    lost = on_train - skill
    if lost < WORSE and (on_train < LITTLE or lost < MOSTLY_LOST * on_train):
        return
    size, last = (run.spec.input.height, run.spec.input.width), run.recipe.plan[-1].resolution
    if last is not None and (last, last) != size and evidence.single and _lost_by_size(evidence):
        message = (
            f"The last phase learns from pictures of {last}×{last}, and val and prediction have {size[0]}×{size[1]}: "
            f"skill is {on_train:.2f} on train and {skill:.2f} on val."
        )
        fix = "Let the last phase have no resolution: a few epochs at full size are enough."
        yield Finding("val-unlike-train", "warning", "val", message, {"resolution": last, "val_skill": skill}, fix)
        return
    count = min(len(run.learned), len(run.val), PICTURES)
    if count < FEWEST:
        return
    train, val = sample(run.learned, count), sample(run.val, count)
    if (count := len(val)) < FEWEST:  # fewer of large pictures
        return
    together = same_split(train.images, val.images)
    if together > TOGETHER:
        message = (
            f"Pictures of val are unlike those of train: {together:.0%} of a split have the one most like them in it, "
            f"and 50% would by chance; skill is {on_train:.2f} on train and {skill:.2f} on val."
        )
        fix = (
            "Look at how both are read (colours, inversion, brightness, cropping), and draw val from the same pictures."
        )
        yield Finding("val-unlike-train", "warning", "val", message, {"together": together, "val_skill": skill}, fix)
        return
    if not evidence.single:
        return
    own, across = labels_agree(sample(run.learned, 4 * PICTURES), val)
    chance = float(evidence.shares.square().sum())
    deviation = math.sqrt(own * (1 - own) / count + 1e-6)
    if own - chance > DEVIATIONS * deviation and across - chance < (own - chance) / 2 - DEVIATIONS * deviation / 2:
        message = (
            f"Labels of val are not those of train: the picture of train that is most like one of val has its label in "
            f"{across:.0%} of cases, and that of one of train in {own:.0%}."
        )
        fix = "Look at how both are read: classes must be numbered alike, and labels be in the order of the pictures."
        yield Finding("val-labels-differ", "warning", "val", message, {"across": across, "own": own}, fix)


def _lost_by_size(evidence: Evidence) -> bool:
    """Return whether pictures of train, at the size of val, are answered no better than half way down to val."""
    right, _ = _answers(evidence, sample(evidence.run.learned, PICTURES))
    assert evidence.val_accuracy is not None
    return float(right.double().mean()) < (evidence.train_accuracy + evidence.val_accuracy) / 2


def same_split(train: Tensor, val: Tensor) -> float:
    """Return how often a picture's nearest neighbour is from its own split: of train or val, where it is more.

    Args:
        train: (N, C, H, W) uint8.
        val: as many.
    """
    both = torch.cat([shrunk(train), shrunk(val)])
    in_val = nearest(both, both) >= len(train)
    return max(float((~in_val[: len(train)]).double().mean()), float(in_val[len(train) :].double().mean()))


def labels_agree(train: Split, val: Split) -> tuple[float, float]:
    """Return how often a picture of train has the label of its nearest neighbour in train, and one of val."""
    flat, labels = shrunk(train.images), train.labels
    own = float((labels[nearest(flat, flat)] == labels).double().mean())
    like_val = nearest(shrunk(val.images), flat, copies=True)
    return own, float((labels[like_val] == val.labels).double().mean())


def noisy_labels(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``labels-noisy``: many labels are wrong, and which ones the pictures do not say.

    Either the neighbours of many a picture agree on another label than it has, none of them having its own; or the
    pictures that were learned from are answered worse than those of val, which no network does to labels
    that are as right in both; or the answers on val are wrong as often where the network is sure as where it is not,
    which is so of labels that were changed by chance and not of pictures that are hard (Northcutt et al., Confident
    Learning, JAIR 2021, tell the two apart by how sure a network is).
    """
    run, skill = evidence.run, evidence.val_skill
    if not evidence.ended or not evidence.single or not run.history:
        return
    worst = min(evidence.train_accuracy, 1.0 if evidence.val_accuracy is None else evidence.val_accuracy)
    if worst < 1 - OUTVOTED:
        neighbours_skill, wrong, asked = outvoted(run)
        bound = OUTVOTED + DEVIATIONS * math.sqrt(OUTVOTED * (1 - OUTVOTED) / max(1, asked))
        if neighbours_skill > NEIGHBOURS_KNOW and wrong > bound:
            message = (
                f"Labels seem to be wrong by chance: of the pictures whose neighbours agree, {wrong:.0%} have a label "
                f"that none of ten neighbours has ({asked:,} were asked)."
            )
            yield _noisy(message, {"outvoted": wrong, "neighbours_skill": neighbours_skill})
            return
    if run.val is None or skill is None or skill < 2 * BETTER:
        return
    train_accuracy, val_accuracy = run.history[-1]["accuracy"], max(one["val_accuracy"] for one in run.history)
    if val_accuracy - train_accuracy > BETTER:
        known, _ = _answers(evidence, sample(run.learned, PICTURES))
        accuracy = float(known.double().mean())
        deviation = math.sqrt(accuracy * (1 - accuracy) / len(known) + 1e-6)
        some = sample(run.val, PICTURES)
        on_val = min(val_accuracy, recall_by(_answers(evidence, some)[0], some.labels, evidence.shares))
        if on_val - accuracy > max(BETTER, DEVIATIONS * deviation):
            message = (
                f"About {1 - accuracy / on_val:.0%} of the labels of train are wrong: {accuracy:.0%} of its "
                f"pictures are answered as they are labelled, and {on_val:.0%} of val, not learned from."
            )
            yield _noisy(message, {"train_accuracy": accuracy, "val_accuracy": on_val})
            return
    if 1 - val_accuracy < ERRORS or skill < LEARNED or len(run.val) < 4 * FEWEST:
        return
    right, sure = _answers(evidence, sample(run.val, PICTURES))
    foreseen = area(right, sure)
    fewer = min(int(right.sum()), int((~right).sum()))
    if fewer and foreseen + 1 / math.sqrt(12 * fewer) < UNFORESEEN:  # its deviation where there is nothing to foresee
        message = (
            f"Labels seem to be wrong by chance: {1 - val_accuracy:.0%} of the answers on val are not as labelled, as "
            f"often where the network is sure as where it is not (area under the ROC curve {foreseen:.2f}; of hard "
            "pictures it is above 0.65)."
        )
        yield _noisy(message, {"area": foreseen, "val_accuracy": val_accuracy})


def _noisy(message: str, numbers: dict[str, float]) -> Finding:
    fix = "Look at labels: `striate audit DATA` shows pictures with them; if they stay, --label-smoothing 0.1."
    return Finding("labels-noisy", "warning", "labels", message, numbers, fix)


def _answers(evidence: Evidence, split: Split) -> tuple[Tensor, Tensor]:
    """Return which pictures are answered as they are labelled, and by what margin over the next class: (N,) each."""
    run = evidence.run
    most = compute_logits(run.network, split.images, run.spec.input).topk(2, dim=1)
    return most.indices[:, 0] == split.labels, most.values[:, 0] - most.values[:, 1]


def recall_by(right: Tensor, labels: Tensor, shares: Tensor) -> float:
    """Return the accuracy if classes were as frequent as ``shares`` (K,) says: the mean over the classes that are met.

    Args:
        right: (N,) bool.
        labels: (N,) int64.
    """
    met, found = (class_counts(some, len(shares)).double() for some in (labels, labels[right]))
    weights = torch.where(met > 0, shares, 0.0)
    return float((found / met.clamp_min(1) * weights).sum() / weights.sum().clamp_min(1e-12))


def area(right: Tensor, sure: Tensor) -> float:
    """Return the area under the ROC curve: how often a right answer is surer than a wrong one. NaN without both."""
    yes, no = sure[right], sure[~right]
    if not len(yes) or not len(no):
        return math.nan
    return float((yes[:, None] > no).double().mean() + (yes[:, None] == no).double().mean() / 2)
