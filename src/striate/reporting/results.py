"""The sections on how good a network is: the result, its curves, what it confuses, how sure it is, its mistakes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from striate.drawing.curves import Curve, Plane, draw_curves
from striate.drawing.matrix import draw_matrix
from striate.drawing.page import Content, Details, Figure, Headline, Paragraph, Row, Table, Value
from striate.evaluation.calibration import Abstention, abstention
from striate.evaluation.calibration import calibration as calibrate
from striate.evaluation.mistakes import mistakes as find_mistakes
from striate.evaluation.roc import roc
from striate.reporting.material import Material

SHOWN_CLASSES = 20  # classes in a table; more are folded away
WISHED = (0.9, 0.95, 0.99, 0.999)  # accuracies that somebody may ask for
MOST, PAIRS = 8, 3  # mistakes of each kind, and pairs of classes, with pictures


def result(material: Material) -> Sequence[Content]:
    """The accuracy with its interval, and what each class got."""
    score, auc = material.score, roc(material.predictions, material.test).macro_auc
    low, high = score.interval
    measures: list[Row] = [
        ["test pictures", Value(score.pictures, f"{score.pictures:,}", "pictures")],
        ["lower end of the interval", Value(low, f"{low:.2%}", "interval-low")],
        ["upper end of the interval", Value(high, f"{high:.2%}", "interval-high")],
        ["mean F1 of the classes (macro F1)", Value(score.macro_f1, f"{score.macro_f1:.2%}", "macro_f1")],
    ]
    if score.top5 is not None:
        measures.append(["top-5 accuracy", Value(score.top5, f"{score.top5:.2%}", "top5")])
    if auc is not None:
        measures.append(["mean area under the ROC curves (AUC)", Value(auc, f"{auc:.4f}", "macro_auc")])
    numbers = Table(["measure", "value"], [*measures, *_of_training(material)], ["value"])
    by_class = _class_table(material)
    return [
        Headline(
            Value(score.accuracy, f"{score.accuracy:.2%}", "accuracy"),
            f"of the {score.pictures:,} test pictures are answered rightly; "
            f"with 95 % confidence it is {low:.2%} to {high:.2%} of pictures like these.",
        ),
        numbers,
        by_class if len(score.classes) <= SHOWN_CLASSES else Details(f"All {len(score.classes)} classes", [by_class]),
        Paragraph(
            "Precision: of the pictures said to be of a class, the part that is. Recall: of the pictures of a class, "
            "the part that is found. F1: their harmonic mean. The interval is Wilson's (1927).",
            faint=True,
        ),
    ]


def _of_training(material: Material) -> list[Row]:
    metrics = material.header.metrics
    rows: list[Row] = []
    if (accuracy := metrics.get("val_accuracy")) is not None:
        rows.append(["accuracy on val, by which the weights were chosen", Value(accuracy, f"{accuracy:.2%}")])
    if (seconds := metrics.get("train_seconds")) is not None:
        rows.append(["seconds of training", Value(seconds, f"{seconds:,.1f}")])
    return rows


def _class_table(material: Material) -> Table:
    rows: list[Row] = [
        [
            one.name,
            Value(one.precision, f"{one.precision:.1%}", f"precision-{number}"),
            Value(one.recall, f"{one.recall:.1%}", f"recall-{number}"),
            Value(one.f1, f"{one.f1:.1%}", f"f1-{number}"),
            Value(one.pictures, f"{one.pictures:,}", f"pictures-{number}"),
        ]
        for number, one in enumerate(material.score.classes)
    ]
    return Table(["class", "precision", "recall", "F1", "pictures"], rows, ["precision", "recall", "F1", "pictures"])


def curves(material: Material) -> Sequence[Content]:
    """Loss, accuracy and learning rate over the epochs."""
    history = material.history
    if not history:
        return [Paragraph("The run has no metrics.csv, so there is nothing to draw.")]
    table = _epoch_table(history)
    if len(history["epoch"]) == 1:
        return [Paragraph("The run has one epoch, which makes no curve."), table]
    planes = [
        (_plane(history, "Loss", "loss, nats", "loss", "val_loss"), "The loss after each epoch."),
        (_plane(history, "Accuracy", "part answered rightly", "accuracy", "val_accuracy"), "The accuracy, likewise."),
        (_plane(history, "Learning rate", "learning rate", "learning_rate"), "The learning rate at its end."),
    ]
    figures = [Figure(draw_curves(plane, description=words), words) for plane, words in planes if plane.curves]
    return [
        *figures,
        Paragraph(
            "Train is measured while an epoch is learned, on pictures as they were changed for learning; val after "
            "it. A val loss that rises while the train loss falls means that the network learns its pictures by heart.",
            faint=True,
        ),
        Details(f"The numbers of all {len(history['epoch'])} epochs", [table]),
    ]


def _plane(history: dict[str, list[float]], title: str, y_title: str, *names: str) -> Plane:
    drawn = [
        Curve(history["epoch"], history[name], ("val" if name.startswith("val") else "train") * (len(names) > 1),
              form="marks")
        for name in names if name in history
    ]  # fmt: skip
    return Plane(drawn, title, "epoch", y_title, size=(370, 280))


def _epoch_table(history: dict[str, list[float]]) -> Table:
    headers = {name: name.replace("_", " ") for name in history if name in history}
    columns = zip(*history.values(), strict=True)
    rows: list[Row] = [[Value(number, f"{number:.5g}") for number in row] for row in columns]
    return Table(list(headers.values()), rows, list(headers.values()))


def confusion(material: Material) -> Sequence[Content]:
    """The confusion matrix, and its largest confusions in words."""
    score = material.score
    names = [one.name for one in score.classes]
    counts = torch.from_numpy(score.confusion)
    wrong = counts - torch.diag(counts.diagonal())
    places = wrong.flatten().argsort(descending=True, stable=True)[:10].tolist()
    rows: list[Row] = [
        [
            names[place // len(names)],
            names[place % len(names)],
            Value(int(wrong.flatten()[place]), f"{int(wrong.flatten()[place]):,}"),
        ]
        for place in places
        if int(wrong.flatten()[place])
    ]
    return [
        Figure(
            draw_matrix(counts, names, title="Confusion matrix of the test pictures"),
            f"The confusion matrix of {score.pictures:,} pictures; on the diagonal is what was answered rightly.",
        ),
        Table(["is", "said to be", "pictures"], rows, ["pictures"], "Most confused")
        if rows
        else Paragraph("No picture was confused."),
    ]


def calibration(material: Material) -> Sequence[Content]:
    """Whether the probabilities mean what they say."""
    found = calibrate(material.predictions, material.test)
    gap = found.confidence - found.accuracy
    verdict = "about as sure as it is right" if abs(gap) < 0.005 else "over-confident" if gap > 0 else "under-confident"
    rows: list[Row] = [
        ["expected calibration error (ECE)", Value(found.expected_error, f"{found.expected_error:.2%}", "ece")],
        ["temperature", Value(found.temperature, f"{found.temperature:.3g}", "temperature")],
        ["negative log likelihood, nats", Value(found.negative_log_likelihood, f"{found.negative_log_likelihood:.4f}")],
        ["Brier score (0 best, 2 worst)", Value(found.brier, f"{found.brier:.4f}")],
    ]
    return [
        Paragraph(
            f"On average the network gives its answers a probability of {found.confidence:.1%}, and "
            f"{found.accuracy:.1%} of them are right: it is {verdict}."
        ),
        Figure(found.draw(), f"Reliability diagram: {found}"),
        Table(["measure", "value"], rows, ["value"]),
    ]


def abstaining(material: Material) -> Sequence[Content]:
    """What comes of answering only where the network is sure."""
    found = abstention(material.predictions, material.test)
    reached = [one for one in WISHED if one > material.score.accuracy and _reaches(found, one)]
    rows: list[Row] = []
    for wished in reached:
        one = found.threshold_for(wished)
        low, high = one.interval
        least = f"{one.threshold:.3f}"
        if rows and least in rows[-1]:
            continue  # the same answers reach both
        rows.append([f"{wished:.1%}", least, f"{one.answered:.1%}", f"{one.accuracy:.2%}", f"{low:.2%} to {high:.2%}"])
    headers = ["wished accuracy", "least probability", "answered", "accuracy", "95 % interval"]
    caption = "To be right so often, answer only from this probability on"
    return [
        Figure(found.draw(), "Accuracy on what is answered against the part of the pictures that is answered."),
        *([Table(headers, rows, headers, caption)] if rows else []),
        Paragraph(
            "The thresholds are chosen on these very pictures, which flatters a little: choose yours on val.",
            faint=True,
        ),
    ]


def _reaches(found: Abstention, accuracy: float) -> bool:
    return any(right >= accuracy * count for right, count in zip(found.correct, found.answered, strict=True))


def mistakes(material: Material) -> Sequence[Content]:
    """The surest wrong answers, the most confused classes and the least sure right answers, with their pictures."""
    found = find_mistakes(material.predictions, material.test, most=MOST, pairs=PAIRS, examples=MOST)
    words = f"{found.wrong:,} of {found.pictures:,} test pictures are answered wrongly."
    return [Paragraph(words), Figure(found.draw(), f"Pictures that were answered wrongly, or nearly. {words}")]
