"""What came of a run: what was learned, by heart or not at all, and of which classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from striate.core.errors import first_of
from striate.core.finding import Finding
from striate.training.doctor.evidence import Evidence, always_frozen, batch_norms
from striate.training.doctor.labels import neighbours_agree

ONE_CLASS = 0.98  # of the answers
CHANCE_DEVIATIONS = 4.0  # that neighbours agree by more than chance
MOST_BY_CHANCE = 0.12  # that these are at most: of fewer pictures nothing can be said
BY_HEART = 0.9  # skill on train
GAP = 0.25  # of skill, between train and val
RISEN = 1.5  # times the lowest loss on val
FLAT = 0.03  # part of the loss that the second half of the epochs still gained
POOR = 0.5  # skill
NOTHING = 0.1  # of what there is to gain
ENOUGH_EPOCHS = 4


def one_class_said(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``one-class-only``: in a whole epoch nearly all answers are one class, and the labels are not."""
    run, said, asked = evidence.run, evidence.said, evidence.asked
    if not evidence.single or not len(said) or float(said.sum()) < 32 or not run.history:
        return
    share, own = float(said.max() / said.sum()), float(asked[said.argmax()] / asked.sum())
    warm = run.step >= run.recipe.warmup_fraction * run.total_steps
    if not (evidence.ended or (run.epoch >= 3 and warm)) or share < ONE_CLASS or own > 0.95 * share:
        return
    name = run.spec.task.class_names[int(said.argmax())]
    message = (
        f"{share:.0%} of the answers in epoch {len(run.history)} are {name}, and {own:.0%} of the labels: the "
        "network does not tell pictures apart."
    )
    fix = "See what else was found; where that class is the most frequent one, --class-weights balanced."
    yield Finding("one-class-only", "warning", f"class {name}", message, {"answers": share, "labels": own}, fix)


def rare_ignored(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``rare-classes-ignored``: of the rarest classes hardly any picture is answered so, at the end."""
    said, asked = evidence.said, evidence.asked
    balanced = "balanced" in (evidence.run.recipe.class_weights, evidence.run.recipe.sampling)
    if not evidence.ended or not evidence.single or not len(said) or balanced:
        return
    rare = [
        k
        for k in range(len(said))
        if 0 < float(evidence.shares[k]) < 0.25 * float(evidence.shares.max())
        and float(asked[k]) >= 5
        and float(said[k]) < 0.2 * float(asked[k])
    ]
    if not rare:
        return
    names = evidence.run.spec.task.class_names
    k = rare[0]
    message = (
        f"{names[k]} has {float(evidence.shares[k]):.1%} of the pictures and got {float(said[k] / said.sum()):.1%} of "
        f"the answers{f', and so {len(rare) - 1} more classes' if len(rare) > 1 else ''}: leaving rare classes out "
        "costs little loss."
    )
    numbers = {"share": float(evidence.shares[k]), "answers": float(said[k] / said.sum()), "classes": float(len(rare))}
    yield Finding(
        "rare-classes-ignored", "warning", f"class {names[k]}", message, numbers, "Take --class-weights balanced."
    )


def shuffled(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``labels-shuffled``: nothing was learned that holds on val, and neighbours do not share labels.

    The labels were probably shuffled, or shifted against the pictures: see `neighbours_agree`.
    """
    if not evidence.ended or not evidence.single or not evidence.run.history or evidence.majority == 1:
        return
    skill = evidence.held_skill
    if skill > 0.15:
        return
    agree, by_chance, deviation = neighbours_agree(evidence.run)
    deviations = (agree - by_chance) / deviation
    if deviations > CHANCE_DEVIATIONS or CHANCE_DEVIATIONS * deviation > MOST_BY_CHANCE:
        return
    message = (
        f"Labels seem to have nothing to do with the pictures: a picture has the label of the one most like it in "
        f"{agree:.0%} of cases, by chance it would in {by_chance:.0%}, and nothing was learned that holds on val."
    )
    numbers = {"agree": agree, "by_chance": by_chance, "deviations": deviations, "skill": skill}
    fix = "Check that pictures and labels are in the same order: `striate audit DATA` shows pictures with their labels."
    yield Finding("labels-shuffled", "warning", "labels", message, numbers, fix)


def overfitting(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``overfitting``: what is learned on train does not hold on val.

    A warning where nearly all of train is known by heart and learning on made the loss on val half as large again;
    else a note, since the weights that did best on val are the ones that are kept.
    """
    history = evidence.run.history
    skill = evidence.val_skill
    if not evidence.ended or skill is None or not history:
        return
    train, losses = evidence.train_skill, [entry["val_loss"] for entry in history]
    worse, by_heart = losses[-1] > RISEN * min(losses), train > BY_HEART
    if train - skill < GAP:
        return
    best = losses.index(min(losses)) + 1
    mean = ", in the mean over classes" * evidence.balanced
    message = (
        f"{'The network learns its pictures by heart' if by_heart else 'What is learned does not hold on val'}: "
        f"{evidence.train_accuracy:.1%} of those of train are right, "
        f"{evidence.val_accuracy:.1%} of val at best{mean}; the loss on val was lowest after epoch "
        f"{best} ({min(losses):.3g}, at the end {losses[-1]:.3g})."
    )
    numbers = {"train_skill": train, "val_skill": skill, "val_loss": losses[-1], "lowest_val_loss": min(losses)}
    fix = (
        "Augment (--shift 2, and --flip random where a mirrored picture means the same), take --weight-decay 0.05 or "
        "dropout, fewer weights, or more pictures."
    )
    yield Finding("overfitting", "warning" if worse and by_heart else "note", "val", message, numbers, fix)


def underfitting(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``underfitting``: the loss on train has long stopped falling, and val is as good: too small a network."""
    history = evidence.run.history
    if not evidence.ended or not evidence.single or len(history) < ENOUGH_EPOCHS:
        return
    if evidence.learned_nothing or evidence.learned_much or evidence.found("learning-rate-too-low", "labels-noisy"):
        return
    losses = [entry["loss"] for entry in history]
    if losses[-1] < POOR * evidence.chance:
        return
    half_way, last = losses[len(losses) // 2], losses[-1]
    gained = (half_way - last) / max(half_way, last)
    gap = evidence.train_skill - evidence.held_skill
    if gained > FLAT or gap > 0.1:
        return
    message = (
        f"The loss on train stays at {losses[-1]:.3g} (no answer: {evidence.chance:.3g}), val is as good, and the "
        f"second half of the epochs gained {max(0.0, gained):.1%}: at this rate it learns no more."
    )
    numbers = {"loss": losses[-1], "chance": evidence.chance, "gained": gained}
    yield Finding(
        "underfitting",
        "warning",
        "train",
        message,
        numbers,
        "Take a larger network, less regularisation, or train longer.",
    )


def norm_gap(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``evaluation-differs``: the same pictures cost far more in evaluation than in training."""
    compared = evidence.looks[-1].compared if evidence.looks else None
    if not evidence.ended or compared is None:
        return
    gap, loss = compared.gap, compared.loss
    if gap < 0.5 * compared.none or gap < loss:
        return
    message = (
        f"The same pictures cost {gap:.3g} more in evaluation than in training (loss {loss:.3g}): the running mean and "
        "variance of the norms are not those of the batches."
    )
    fix = "Give batch norm a momentum of 0.1, larger batches, and a learning rate that ends near 0."
    yield Finding("evaluation-differs", "warning", "batch norm", message, {"gap": gap, "loss": loss}, fix)


def evaluation_by_chance(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``evaluation-by-chance``: in evaluation, the same pictures get other answers when they are shown again."""
    compared = evidence.looks[-1].compared if evidence.looks else None
    if not evidence.ended or compared is None or not compared.by_chance:
        return
    message = (
        f"In evaluation, {compared.by_chance:.0%} of the pictures get other logits when they are shown again: "
        "something is still drawn by chance."
    )
    fix = "Give a dropout that is a function training=self.training, or make it an nn.Dropout."
    numbers = {"by_chance": compared.by_chance}
    yield Finding("evaluation-by-chance", "warning", "network", message, numbers, fix)


def pictures_mixed(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``pictures-mixed``: in evaluation, a picture's answer depends on the others that are shown with it."""
    compared = evidence.looks[-1].compared if evidence.looks else None
    if not evidence.ended or compared is None or compared.by_chance or compared.mixed < 0.5:
        return
    message = (
        f"In evaluation, {compared.mixed:.0%} of the pictures get other logits when fewer are shown with them: "
        "pictures of a batch are mixed with each other."
    )
    fix = "Look for a reshape, transpose, mean or softmax that goes over the first axis, which is that of pictures."
    yield Finding("pictures-mixed", "warning", "network", message, {"mixed": compared.mixed}, fix)


def norms_evaluating(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``batch-norm-evaluating``: a batch norm that has never seen a batch runs in evaluation mode.

    It divides by the deviation that it began with, 1: there is no norm. One with other statistics may be meant to keep
    them.
    """
    looks = evidence.looks
    if not evidence.ended or not looks:
        return
    norms = batch_norms(evidence.run)
    unseen = [path for path in looks[-1].evaluating if path in norms and _never_saw(norms[path])]
    if unseen:
        message = (
            f"{first_of(unseen, 1)}{' norms' * (len(unseen) > 1)} ran in evaluation mode, and "
            "has never seen a batch: it takes mean 0 and variance 1 for what it is given, and normalises nothing."
        )
        fix = "Leave it in training mode: look for an eval() in the network's forward, or in a train() of its own."
        yield Finding("batch-norm-evaluating", "warning", unseen[0], message, {"norms": float(len(unseen))}, fix)


def _never_saw(norm: BatchNorm) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and bool((mean == 0).all() and (variance == 1).all())


def frozen(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``frozen-weights``: most weights never learn; a warning where the others do not get far either."""
    run = evidence.run
    by_recipe = {p for module in always_frozen(run) for p in module.parameters()}
    fixed = {p for p in run.network.parameters() if not p.requires_grad}
    share = _numbers(by_recipe | fixed) / max(1, _numbers(run.network.parameters()))
    if not evidence.ended or share < 0.5 or not run.history:
        return
    poor = evidence.single and max(evidence.train_skill, evidence.val_skill or 0.0) < POOR
    recipe = _numbers(by_recipe) > _numbers(fixed)
    why = "by the recipe, in every phase" if recipe else "requires_grad is False"
    message = f"{share:.0%} of the weights are frozen ({why}){', and little was learned' * poor}."
    fix = "Leave them out of frozen in a phase" if recipe else "Set requires_grad_(True)"
    fix += ", or start from --pretrained weights and freeze by phases of the recipe."
    yield Finding("frozen-weights", "warning" if poor else "note", "network", message, {"share": share}, fix)


def _numbers(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def nothing_learned(evidence: Evidence) -> Iterator[Finding]:
    """Yield ``nothing-learned``: at the end the answers are no better than the most frequent class."""
    run = evidence.run
    if not evidence.ended or not run.history:
        return
    if not evidence.single:
        yield from _nothing_of_several(evidence)
        return
    if evidence.majority == 1 or not evidence.learned_nothing:
        return
    accuracy, guessed = evidence.train_accuracy, evidence.guessed
    right = "of the pictures of a class, in the mean over classes," if evidence.balanced else "of the answers"
    message = (
        f"Nothing was learned: {accuracy:.1%} {right} are right, and {guessed:.1%} would be by always saying the "
        f"{'same' if evidence.balanced else 'most frequent'} class."
    )
    fix = "See what else was found; else try another learning rate, ten times as high and ten times as low."
    yield Finding("nothing-learned", "warning", "train", message, {"accuracy": accuracy, "guessed": guessed}, fix)


def _nothing_of_several(evidence: Evidence) -> Iterator[Finding]:
    """Yield the same where a picture may have several labels: by the precision on val of what is said by chance."""
    name = evidence.run.chosen_by
    known = [entry[name] for entry in evidence.run.history if name in entry]
    guessed = float(evidence.shares.mean())
    if not known or max(known) - guessed >= NOTHING * (1 - guessed):
        return
    message = (
        f"Nothing was learned: the mean average precision on val is {max(known):.1%} at best, and about {guessed:.1%} "
        "is by chance."
    )
    fix = (
        "Check that labels are in the order of the pictures; else try another learning rate, ten times as high and low."
    )
    numbers = {"precision": max(known), "guessed": guessed}
    yield Finding("nothing-learned", "warning", "train", message, numbers, fix)
