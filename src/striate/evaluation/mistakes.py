"""Mistakes: the surest wrong answers, the pairs of classes that are confused most, the least sure right answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import Tensor

from striate.data.imageset import Split
from striate.drawing.grid import Group, Sheet, Tile, draw_grid
from striate.evaluation.predictions import Predictions, Predictor, predictions_of

_COLUMNS = 8


@dataclass(frozen=True)
class Answer:
    """What was said about one picture.

    Args:
        index: of the picture in the split.
        origin: its name.
        label, predicted: what it is, and what it was said to be.
        confidence: probability of what was said, 0–1.
        label_probability: of what it is.
    """

    index: int
    origin: str
    label: str
    predicted: str
    confidence: float
    label_probability: float


@dataclass(frozen=True)
class ConfusedPair:
    """A class whose pictures are said to be another one.

    Args:
        label, predicted: the class that they are, and the one that they are said to be.
        count: pictures.
        pictures: of the class ``label``, all of them.
        examples: the surest of them.
    """

    label: str
    predicted: str
    count: int
    pictures: int
    examples: tuple[Answer, ...]


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What a network gets wrong, and what it nearly gets wrong.

    Args:
        wrong, pictures: how many, of how many.
        worst: wrong answers, the surest first.
        pairs: confused classes, the most frequent first.
        least_sure: right answers, the least sure first.
        split: the pictures.
    """

    wrong: int
    pictures: int
    worst: tuple[Answer, ...]
    pairs: tuple[ConfusedPair, ...]
    least_sure: tuple[Answer, ...]
    split: Split

    def draw(self) -> Sheet:
        """Draw the pictures, with what was said of them and how surely."""
        groups = [
            Group([self._tile(one) for one in self.worst], "Surest wrong answers", columns=_COLUMNS, side=128),
            *(
                Group(
                    [self._tile(one) for one in pair.examples],
                    f"{pair.label}, said to be {pair.predicted}: {pair.count:,} of {pair.pictures:,}",
                    columns=_COLUMNS,
                    side=96,
                )
                for pair in self.pairs
            ),
            Group([self._tile(one) for one in self.least_sure], "Least sure right answers", columns=_COLUMNS, side=128),
        ]
        return draw_grid(
            groups,
            title=f"Mistakes: {self.wrong:,} of {self.pictures:,} pictures",
            subtitle="Under each picture: what it was said to be and what it is, with the probability that the network "
            "gave to each, and which picture it is.",
            notes=() if self.wrong else ("No picture was answered wrongly.",),
        )

    def _tile(self, answer: Answer) -> Tile:
        said = f"said {answer.predicted} ({answer.confidence:.1%})"
        truth = "" if answer.label == answer.predicted else f"\nis {answer.label} ({answer.label_probability:.1%})"
        name = answer.origin.replace("\\", "/").rsplit("/", 1)[-1]
        image = self.split.images[answer.index]
        return Tile(image if len(image) == 3 else image[:1], f"{said}{truth}\n{name}")


def mistakes(network: Predictor, split: Split, *, most: int = 16, pairs: int = 5, examples: int = 8) -> Mistakes:
    """Find what a network gets wrong.

    Args:
        network: a classifier, a module, or what it predicted for this split.
        split: such as ``images.test``.
        most: the most wrong answers, and the most right ones, to name.
        pairs: the most pairs of confused classes.
        examples: the most pictures of each pair.

    Raises:
        NetworkError, DataError: see `predictions_of`.
    """
    predictions = predictions_of(network, split)
    predicted, correct = predictions.predicted, predictions.correct
    order = predictions.confidence.argsort(descending=True, stable=True)  # the surest first
    wrong, right = order[~correct[order]], order[correct[order]].flip(0)
    return Mistakes(
        wrong=len(wrong),
        pictures=len(split),
        worst=_answers(predictions, split, wrong[:most]),
        pairs=tuple(
            ConfusedPair(
                label=predictions.task.class_names[label],
                predicted=predictions.task.class_names[said],
                count=count,
                pictures=int((split.labels == label).sum()),
                examples=_answers(
                    predictions,
                    split,
                    wrong[(split.labels[wrong] == label) & (predicted[wrong] == said)][:examples],
                ),
            )
            for label, said, count in _pairs(split.labels[wrong], predicted[wrong])[:pairs]
        ),
        least_sure=_answers(predictions, split, right[:most]),
        split=split,
    )


def _pairs(labels: Tensor, predicted: Tensor) -> list[tuple[int, int, int]]:
    """Return (label, predicted, count) of what was confused, the most frequent first."""
    counts = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    return sorted(((label, said, count) for (label, said), count in counts.items()), key=lambda one: (-one[2], *one))


def _answers(predictions: Predictions, split: Split, indices: Tensor) -> tuple[Answer, ...]:
    names = split.spec.task.class_names
    said = predictions.predicted[indices].tolist()
    probabilities = (predictions.logits[indices] / predictions.task.temperature).softmax(1)
    return tuple(
        Answer(
            index=index,
            origin=split.origins[index],
            label=names[int(split.labels[index])],
            predicted=names[k],
            confidence=float(row.max()),
            label_probability=float(row[split.labels[index]]),
        )
        for index, k, row in zip(indices.tolist(), said, probabilities, strict=True)
    )
