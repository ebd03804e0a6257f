"""``striate evaluate``: how good a trained network is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from torch import nn

from striate.cli.output import Json, print_json, print_table, say
from striate.core import machine
from striate.core.errors import DataError, FileError
from striate.core.spec import InputSpec
from striate.data.imageset import ImageSet, Split
from striate.data.load import load_data
from striate.evaluation.calibration import Calibration, calibration
from striate.evaluation.calibration import calibrate as calibrate_on
from striate.evaluation.compare import Comparison, compare
from striate.evaluation.metrics import ClassScore, Score
from striate.evaluation.metrics import evaluate as score_network
from striate.evaluation.mistakes import ConfusedPair, mistakes
from striate.evaluation.multilabel import LabelScore, MultiScore
from striate.evaluation.predictions import Predictions, predictions_of
from striate.evaluation.roc import Roc, roc
from striate.evaluation.views import Views, predict_views
from striate.networks import contract, saved
from striate.prediction.predictor import Classifier
from striate.training import checkpoint

MOST_CONFUSED = 10


def evaluate(
    run: Path,
    data: str | None = None,
    /,
    *,
    data_dir: Path | None = None,
    calibrate: Annotated[bool, Parameter(negative="")] = False,
    tta: Views | None = None,
    json: Json = False,
) -> int:
    """Score a trained network on the test pictures of a data set.

    Example: `striate evaluate runs/digits-speednet_small-1`

    JSON keys: network, data, pictures, accuracy, interval, top5, top5_interval, macro_f1, macro_f1_interval, macro_auc,
    classes (name, precision, recall, f1, pictures, their intervals, auc, auc_interval), confusion (rows: what it is),
    confused (label, predicted, count, pictures of the label), calibration (temperature, ece, negative_log_likelihood,
    brier, confidence), calibrated_on (pictures of val, temperature_before, ece_before; null without --calibrate), views
    (name, accuracy_before, difference, interval, mended, broken, p_value; null without --tta). Intervals are of 95 %.

    Where a picture may have several labels it is right where all are; then there is no top5 and no confusion, but
    label_accuracy, mean_average_precision, micro_f1 and the intervals of both, said_none and have_none (pictures
    without a label), in each of the classes threshold, average_precision and its interval, and confused holds what is
    missed ("cat", said to be "no cat") and wrongly said ("no cat", said to be "cat").

    Args:
        run: The folder of a run, or a saved network.
        data: The pictures. Default: the test pictures of the data set that it was trained on.
        data_dir: Where the files of a named data set are.
        calibrate: First fit the temperature of the probabilities to the run's val pictures and write it into the saved
            network; no answer changes.
        tta: Average the answers over views of each picture (test-time augmentation).
    """
    loaded = saved.load(run)
    loaded.network.to(machine.device())
    images, chosen = unseen_pictures(run, data, data_dir, loaded.spec.input)
    plain = predictions_of(Classifier(loaded.network, loaded.spec), chosen)
    calibrated_on = None
    if calibrate:
        plain, calibrated_on = _calibrated(run, loaded.network, images if data is None else None, plain, chosen)
    predictions = plain if tta is None else predict_views(loaded.network, chosen, tta)
    score, sure, ranks = score_network(predictions, chosen), calibration(predictions, chosen), roc(predictions, chosen)
    gain = None if tta is None else compare(plain, predictions, chosen, names=("plain", f"with {tta}"))
    confused = mistakes(predictions, chosen, pairs=MOST_CONFUSED).pairs
    if json:
        facts = {"network": loaded.header.blueprint.short_name, "data": images.name}
        told = {"calibrated_on": calibrated_on, "views": _views(gain)}
        print_json(facts | _as_json(score) | _more(score, sure, ranks, confused) | told)
        return 0
    say(f"{images.name}: {score}")
    _say_means(score, ranks)
    if calibrated_on is not None:
        say("calibrated on {pictures:,} pictures of val; before: ECE {ece_before:.2%}".format(**calibrated_on))
    say(str(sure))
    if gain is not None:
        say(str(gain))
    if isinstance(score, MultiScore):
        _print_labels(score)
    else:
        _print_classes(score, ranks)
    say(_confusions(confused))
    return 0


def _say_means(score: Score | MultiScore, ranks: Roc) -> None:
    low, high = score.macro_f1_interval
    area = "" if ranks.macro_auc is None else f", macro AUC {ranks.macro_auc:.4f}"
    say(f"macro F1 {score.macro_f1:.2%} (95 % interval {low:.2%} to {high:.2%}){area}")


def _print_labels(score: MultiScore) -> None:
    rows = [
        [
            one.name,
            f"{one.threshold:.3f}",
            f"{one.precision:.1%}",
            f"{one.recall:.1%}",
            f"{one.f1:.1%}",
            "{:.1%} – {:.1%}".format(*one.f1_interval),
            "" if one.average_precision is None else f"{one.average_precision:.1%}",
            f"{one.pictures:,}",
        ]
        for one in score.classes
    ]
    numbers = ["threshold", "precision", "recall", "F1", "95 % interval", "AP", "pictures"]
    print_table(["label", *numbers], rows, numbers=numbers)


def _print_classes(score: Score, ranks: Roc) -> None:
    rows = [
        [
            one.name,
            f"{one.precision:.1%}",
            f"{one.recall:.1%}",
            f"{one.f1:.1%}",
            "{:.1%} – {:.1%}".format(*one.f1_interval),
            "" if rank.auc is None else f"{rank.auc:.4f}",
            f"{one.pictures:,}",
        ]
        for one, rank in zip(score.classes, ranks.classes, strict=True)
    ]
    numbers = ["precision", "recall", "F1", "95 % interval", "AUC", "pictures"]
    print_table(["class", *numbers], rows, numbers=numbers)


def _calibrated(
    run: Path, network: nn.Module, images: ImageSet | None, plain: Predictions, chosen: Split
) -> tuple[Predictions, dict[str, float]]:
    """Write the temperature that fits the run's val into its file; return the predictions with it."""
    val = _val(run, images)
    before = calibration(plain, chosen)
    spec = calibrate_on(network, val).spec
    saved.store_temperature(run, spec.task.temperature)
    contract.remember_spec(network, spec)
    told = {"pictures": len(val), "temperature_before": before.temperature, "ece_before": before.expected_error}
    return replace(plain, task=spec.task), told


def _val(run: Path, images: ImageSet | None) -> Split:
    """Return the pictures that a run chose by and did not learn from.

    Raises:
        DataError: there are none.
    """
    if not run.is_dir():
        raise DataError(
            f"--calibrate needs the val pictures of a run, and {run} is a saved network. Name the run's folder."
        )
    header = checkpoint.read_header(run)
    if header.data.source is None:
        raise DataError(f"{run} was trained on arrays. Calibrate it in Python: calibrate(network, images.val).")
    if header.recipe.get("learn_from") == "train+val":
        raise DataError(
            f"{run} learned from its val pictures too, so none are left to calibrate on. "
            "Train it without --learn-from train+val, or calibrate it in Python on other pictures."
        )
    return (images or load_again(run, header.data.source)).val


def unseen_pictures(run: Path, data: str | None, data_dir: Path | None, pictures: InputSpec) -> tuple[ImageSet, Split]:
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


def _as_json(score: Score | MultiScore) -> dict[str, object]:
    both: dict[str, object] = {
        "pictures": score.pictures,
        "accuracy": score.accuracy,
        "interval": list(score.interval),
        "macro_f1": score.macro_f1,
        "macro_f1_interval": list(score.macro_f1_interval),
    }
    if isinstance(score, Score):
        return both | {
            "top5": score.top5,
            "top5_interval": score.top5_interval and list(score.top5_interval),
            "confusion": score.confusion.tolist(),
        }
    return both | {
        "label_accuracy": score.label_accuracy,
        "mean_average_precision": score.mean_average_precision,
        "mean_average_precision_interval": list(score.mean_average_precision_interval),
        "micro_f1": score.micro_f1,
        "micro_f1_interval": list(score.micro_f1_interval),
        "said_none": score.said_none,
        "have_none": score.have_none,
    }


def _more(
    score: Score | MultiScore, sure: Calibration, ranks: Roc, confused: Sequence[ConfusedPair]
) -> dict[str, object]:
    scores: Sequence[ClassScore | LabelScore] = score.classes
    classes = [
        asdict(one) | {"auc": rank.auc, "auc_interval": list(rank.interval)}
        for one, rank in zip(scores, ranks.classes, strict=True)
    ]
    return {
        "macro_auc": ranks.macro_auc,
        "classes": classes,
        "confused": [
            {"label": one.label, "predicted": one.predicted, "count": one.count, "pictures": one.pictures}
            for one in confused
        ],
        "calibration": {
            "temperature": sure.temperature,
            "ece": sure.expected_error,
            "negative_log_likelihood": sure.negative_log_likelihood,
            "brier": sure.brier,
            "confidence": sure.confidence,
        },
    }


def _views(gain: Comparison | None) -> dict[str, object] | None:
    if gain is None:
        return None
    return {
        "name": gain.names[1].removeprefix("with "),
        "accuracy_before": gain.accuracies[0],
        "difference": gain.difference,
        "interval": list(gain.interval),
        "mended": gain.mended,
        "broken": gain.broken,
        "p_value": gain.p_value,
    }


def _confusions(confused: Sequence[ConfusedPair]) -> str:
    """Return the pairs that were confused most, in words."""
    if not confused:
        return "No picture was confused."
    rows = (f"  {one.count:4} × {one.label}, said to be {one.predicted}" for one in confused)
    return "\n".join(["most confused", *rows])
