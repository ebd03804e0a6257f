"""``striate predict``: labels for picture files."""

from __future__ import annotations

import csv
import glob
import io
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from striate.cli.output import Json, print_json, print_table, say
from striate.core import files
from striate.core.errors import DataError
from striate.data.decode import EXTENSIONS
from striate.prediction.predictor import Prediction, load_classifier


def predict(
    run: Path,
    /,
    *pictures: str,
    top: Annotated[int, Parameter(name="--top")] = 3,
    csv_file: Annotated[Path | None, Parameter(name="--csv")] = None,
    abstain_below: float = 0.0,
    json: Json = False,
) -> int:
    """Label pictures with a trained network.

    Example: `striate predict runs/digits-speednet-1 seven.png`

    JSON keys: predictions, each with picture, label (null where it abstains), probability and top (class, probability).

    Args:
        run: The folder of a run, or a saved network.
        pictures: Picture files, folders of them, or patterns such as "photos/*.jpg".
        top: How many classes to name for each picture.
        csv_file: Write the predictions to this file as well.
        abstain_below: Give no label where the most probable class has a probability below this, 0 to 1.
    """
    if not 0 <= abstain_below <= 1:
        raise DataError(f"--abstain-below must be a probability from 0 to 1, got {abstain_below:g}.")
    paths = _paths(pictures)
    predictions = load_classifier(run).predict_many(paths, top=top)
    if csv_file is not None:
        _write(csv_file, paths, predictions, abstain_below)
    if json:
        pairs = zip(paths, predictions, strict=True)
        print_json({"predictions": [_as_json(*pair, abstain_below) for pair in pairs]})
        return 0
    rows = [
        [
            str(path),
            _label(prediction, abstain_below) or f"unsure ({prediction.label}?)",
            f"{prediction.probability:.1%}",
            _others(prediction),
        ]
        for path, prediction in zip(paths, predictions, strict=True)
    ]
    print_table(["picture", "label", "probability", "else"], rows, numbers=["probability"])
    if csv_file is not None:
        say(f"written to {csv_file}")
    return 0


def _paths(words: tuple[str, ...]) -> list[Path]:
    """Return the picture files that the words mean, in order.

    Raises:
        DataError: one of them means none.
    """
    if not words:
        raise DataError("There must be at least one picture, got none: striate predict RUN PICTURE.")
    return [path for word in words for path in _of_word(word)]


def _of_word(word: str) -> list[Path]:
    path = Path(word)
    if path.is_file():
        return [path]
    inside = path.rglob("*") if path.is_dir() else map(Path, glob.glob(word, recursive=True))
    found = sorted(one for one in inside if one.is_file() and one.suffix.lower() in EXTENSIONS and one.name[0] != ".")
    if not found:
        what = "no picture in the folder" if path.is_dir() else "no such picture"
        raise DataError(
            f"There is {what} {word!r}. Name a picture, a folder of them, or a pattern such as 'photos/*.jpg'."
        )
    return found


def _label(prediction: Prediction, abstain_below: float) -> str | None:
    """Return the label, or None where it is less probable than is asked for."""
    return prediction.label if prediction.probability >= abstain_below else None


def _others(prediction: Prediction) -> str:
    return ", ".join(f"{name} {probability:.1%}" for name, probability in prediction.top[1:])


def _as_json(path: Path, prediction: Prediction, abstain_below: float) -> dict[str, object]:
    return {
        "picture": str(path),
        "label": _label(prediction, abstain_below),
        "probability": prediction.probability,
        "top": [list(pair) for pair in prediction.top],
    }


def _write(path: Path, paths: list[Path], predictions: list[Prediction], abstain_below: float) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "label", "probability"])
    rows = zip(paths, predictions, strict=True)
    writer.writerows([one, _label(p, abstain_below) or "", f"{p.probability:.6f}"] for one, p in rows)
    files.write_text(path, text.getvalue())
