"""``striate evaluate``: how good a trained network is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from striate.cli.output import Json, print_json, print_table, say
from striate.core.errors import DataError, FileError
from striate.core.spec import InputSpec
from striate.data.imageset import ImageSet, Split
from striate.data.load import load_data
from striate.evaluation.metrics import Score
from striate.evaluation.metrics import evaluate as score_network
from striate.networks import saved
from striate.prediction.predictor import Classifier
from striate.training import checkpoint

MOST_CONFUSED = 10


def evaluate(run: Path, data: str | None = None, /, *, data_dir: Path | None = None, json: Json = False) -> int:
    """Score a trained network on the test pictures of a data set.

    Example: `striate evaluate runs/digits-speednet-1`

    JSON keys: network, data, pictures, accuracy, interval, top5, classes, confusion.

    Args:
        run: The folder of a run, or a saved network.
        data: The pictures. Default: the test pictures of the data set that it was trained on.
        data_dir: Where the files of a named data set are.
    """
    loaded = saved.load(run)
    images, chosen = _pictures(run, data, data_dir, loaded.spec.input)
    score = score_network(Classifier(loaded.network, loaded.spec), chosen)
    if json:
        print_json(_as_json(score, loaded.header.blueprint.short_name, images.name))
        return 0
    say(f"{images.name}: {score}")
    print_table(
        ["class", "precision", "recall", "F1", "pictures"],
        [[c.name, f"{c.precision:.1%}", f"{c.recall:.1%}", f"{c.f1:.1%}", f"{c.pictures:,}"] for c in score.classes],
        numbers=["precision", "recall", "F1", "pictures"],
    )
    say(_confusions(score))
    return 0


def _pictures(run: Path, data: str | None, data_dir: Path | None, pictures: InputSpec) -> tuple[ImageSet, Split]:
    """Return a data set, and those of its pictures that the network has not learned from.

    They are the run's own test pictures where it was trained on this data; else the test pictures that the data comes
    with, or all pictures where it comes with none.
    """
    own = checkpoint.read_header(run).data.source if run.is_dir() else None
    if data is None and own is None:
        raise DataError(f"{run} does not say what it was trained on. Name the pictures: striate evaluate {run} DATA.")
    if data is None and data_dir is not None:
        raise DataError("--data-dir goes with the name of a data set: striate evaluate RUN DATA --data-dir FOLDER.")
    if data is None:
        images = load_again(run, own)
        return images, images.test
    images = load_data(data, data_dir=data_dir, like=pictures)
    if own is not None and images.source is not None and own["data"] == images.source["data"]:
        images = load_again(run, own)
        return images, images.test
    return images, images.everything if images.test_held_out else images.test


def load_again(run: Path, source: dict[str, Any] | None, **changes: Any) -> ImageSet:
    """Load the pictures of a run as they were loaded when it began.

    Raises:
        DataError: they are not there any more.
        FileError: the run does not say how.
    """
    try:
        return load_data(**{**(source or {}), **changes})
    except TypeError as error:
        raise FileError(f"{run} does not say how to load its pictures: {error}. Name the pictures.") from error


def _as_json(score: Score, network: str, data: str) -> dict[str, object]:
    return {
        "network": network,
        "data": data,
        "pictures": score.pictures,
        "accuracy": score.accuracy,
        "interval": list(score.interval),
        "top5": score.top5,
        "classes": [asdict(one) for one in score.classes],
        "confusion": score.confusion.tolist(),
    }


def _confusions(score: Score) -> str:
    """Return the pairs that were confused most, in words."""
    names = [one.name for one in score.classes]
    pairs = [
        (int(count), names[row], names[column])
        for row, counts in enumerate(score.confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    if not pairs:
        return "No picture was confused."
    worst = sorted(pairs, reverse=True)[:MOST_CONFUSED]
    return "\n".join(["most confused", *(f"  {count:4} × {truth}, said to be {said}" for count, truth, said in worst)])
