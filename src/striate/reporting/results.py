"""The sections on how good a network is: the result, its curves, what it confuses, how sure it is, its mistakes."""

from __future__ import annotations

from collections.abc import Sequence

from striate.drawing.curves import Curve, Plane, draw_curves
from striate.drawing.page import Content, Details, Figure, Headline, Paragraph, Table, Value
from striate.reporting.material import Material

SHOWN_CLASSES = 20  # classes in a table; more are folded away


def result(material: Material) -> Sequence[Content]:
    """The accuracy with its interval, and what each class got."""
    score = material.score
    low, high = score.interval
    numbers = Table(
        ["measure", "value"],
        [
            ["test pictures", Value(score.pictures, f"{score.pictures:,}", "pictures")],
            ["lower end of the interval", Value(low, f"{low:.2%}", "interval-low")],
            ["upper end of the interval", Value(high, f"{high:.2%}", "interval-high")],
            *([] if score.top5 is None else [["top-5 accuracy", Value(score.top5, f"{score.top5:.2%}", "top5")]]),
            *_of_training(material),
        ],
        ["value"],
    )
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


def _of_training(material: Material) -> list[list[str | Value]]:
    metrics = material.header.metrics
    rows: list[list[str | Value]] = []
    if (accuracy := metrics.get("val_accuracy")) is not None:
        rows.append(["accuracy on val, by which the weights were chosen", Value(accuracy, f"{accuracy:.2%}")])
    if (seconds := metrics.get("train_seconds")) is not None:
        rows.append(["seconds of training", Value(seconds, f"{seconds:,.1f}")])
    return rows


def _class_table(material: Material) -> Table:
    rows = [
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
    return Plane(drawn, title, "epoch", y_title, size=(480, 300))


def _epoch_table(history: dict[str, list[float]]) -> Table:
    headers = {name: name.replace("_", " ") for name in history if name in history}
    columns = zip(*history.values(), strict=True)
    rows = [[Value(number, f"{number:.5g}") for number in row] for row in columns]
    return Table(list(headers.values()), rows, list(headers.values()))
