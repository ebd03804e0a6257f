"""``striate train``: from pictures to a trained, saved, scored network."""

from __future__ import annotations

import csv
import io
import itertools
import math
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, final

from cyclopts import Parameter
from torch import nn

from striate.cli.audit import audit_before_training, keep_findings, say_worst
from striate.cli.evaluate import load_again
from striate.cli.output import Json, print_json, print_warnings, say
from striate.core import files, machine, processes
from striate.core.errors import FileError, NetworkError, RecipeError
from striate.core.spec import InputSpec
from striate.data.audit.remembered import Short
from striate.data.augment.preview import EPOCHS, preview
from striate.data.balance import balancing_shares
from striate.data.imageset import ImageSet, Split
from striate.data.load import load_data
from striate.evaluation.metrics import Score, evaluate
from striate.evaluation.multilabel import MultiScore
from striate.evaluation.predictions import predictions_of, write_predictions
from striate.networks.build import build, build_blueprint, build_on_meta, read_model
from striate.networks.pretrained import default_pretrained
from striate.reporting.report import write_report
from striate.training import checkpoint
from striate.training.batch_size import choose_batch_size
from striate.training.budget import budget_seconds
from striate.training.events import Observer
from striate.training.fit import fit
from striate.training.interruption import EXIT_STATUS
from striate.training.presets import read_preset, recommended_model, recommended_preset
from striate.training.range_test import learning_rate_range
from striate.training.recipe import Recipe
from striate.training.run import Run, check_free, checkpoints_in

PREDICTIONS_FILE = "predictions.csv"
_LOOKS = {"preview": (".png", "sheet"), "lr-range": (".svg", "drawing")}  # flags: how the file ends, and what it is


@processes.as_one()
def train(
    data: str | None = None,
    /,
    *,
    model: str | None = None,
    pretrained: bool = False,
    size: int | None = None,
    channels: int | None = None,
    data_dir: Path | None = None,
    group_by: str | None = None,
    skip_unreadable: Annotated[bool, Parameter(negative="")] = False,
    output: Path | None = None,
    resume: Path | None = None,
    config: str | None = None,
    budget: str | None = None,
    auto_batch_size: Annotated[bool, Parameter(negative="")] = False,
    preview_file: Annotated[Path | None, Parameter(name="--preview")] = None,
    lr_range: Path | None = None,
    recipe: Annotated[Recipe, Parameter(name="*", group="Recipe")] = Recipe(),  # noqa: B008  (frozen)
    no_report: Annotated[bool, Parameter(negative="")] = False,
    no_audit: Annotated[bool, Parameter(negative="")] = False,
    no_doctor: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> int:
    """Train a network and save it.

    Known data sets train with a network and a recipe of their own; photographs and other networks with a general one.
    The run's recipe.toml says which, and every flag changes one field of it.

    Example: `striate train mnist --model lenet5 --epochs 5`

    JSON keys: run, network, val_accuracy (null where val was learned from too), test_accuracy, test_interval,
    train_seconds, epochs, parameters. Where a picture may have several labels also val_mean_average_precision and
    test_mean_average_precision; both accuracies are then of pictures with all labels right. Where the recipe balances
    the classes also val_balanced_accuracy, the mean recall of the classes, by which the weights were chosen.

    Args:
        data: A data set's name, a folder of pictures per class, a zip or tar of one, a table, a .csv or .tsv with
            the columns path and label, or shards: a folder of them, or its address on a web server. Default: digits.
        model: A zoo name (`striate models`), a network text, or a .txt file that holds one.
        pretrained: Start from the published weights of the zoo network that --model names. Pictures then get the
            size, channels and normalisation that they were trained with; --size and --channels change the first two.
        size: Height and width in pixels that pictures are resized to.
        channels: 1 for grey, 3 for RGB.
        data_dir: Where the files of a named data set are.
        group_by: A regular expression that finds in a picture's path what it belongs to, such as '(patient[0-9]+)_';
            pictures that belong together stay in one split.
        skip_unreadable: Leave out picture files that cannot be read, and say which.
        output: The folder to write. Default: runs/DATA-NETWORK-NUMBER.
        resume: The folder of a run that was stopped, to go on with.
        config: A preset's name, such as mnist_994, or a recipe.toml to start from; flags change single fields.
        budget: The training time, such as 90s, 20m or 1h30m: it chooses the epochs, and corrects them on the way so
            that the schedule ends on time.
        auto_batch_size: Measure which batches are fast and fit in memory, and scale the learning rate with them.
        preview_file: Write pictures as the network will see them in the first epochs to this .png, and do not train.
        lr_range: Write how the loss goes as the learning rate rises from very low to too high to this .svg, with the
            rates that it suggests, and do not train.
        no_report: Leave out the page about the run, report.html; `striate report` writes it later.
        no_audit: Train without a look at the pictures first, or in spite of what it found; `striate audit` says more.
        no_doctor: Do not look for what is wrong while it trains; `striate doctor RUN` then has nothing to say.
    """
    _check_contradictions(
        recipe,
        looks={"preview": preview_file, "lr-range": lr_range},
        output=output,
        budget=budget,
        auto_batch_size=auto_batch_size,
    )
    asked: dict[str, Any] = {"model": model, "pretrained": pretrained, "group_by": group_by}
    asked |= {"skip_unreadable": skip_unreadable, "size": size, "channels": channels}
    if resume is not None:
        new = {"output": output, "config": config, "budget": budget, "auto_batch_size": auto_batch_size}
        _check_left_out(recipe, **asked, **new, preview=preview_file, lr_range=lr_range)
    elif (begun := _before_restart()) is not None:
        resume, data, data_dir = begun, None, None
    elif output is not None:
        check_free(output)
    if resume is not None:
        with processes.first_of_machine_first():
            network, images = _stopped(resume, data, data_dir)
        run = fit(network, images, resume=resume, doctor=not no_doctor)
    else:
        data = data or "digits"
        images, model, chosen, weights = _chosen(data, recipe, config=config, data_dir=data_dir, **asked)
        if preview_file is not None:
            return _write_preview(preview_file, images, chosen, json)
        machine.use_device(chosen.device)  # before the network asks for memory
        with processes.first_of_machine_first():
            network = build(model, images.spec, seed=chosen.seed, weights=weights)
        print_warnings(network)
        audited = None if no_audit or not processes.first() else audit_before_training(images)
        if auto_batch_size:
            chosen = _with_batch_size(network, images, chosen, json)
        if lr_range is not None:
            return _write_range(lr_range, network, images, chosen, json)
        plan = SayFirst(images, model, audited, data, json)
        run = fit(network, images, chosen, folder=output, observers=[plan], budget=budget, doctor=not no_doctor)
    if run.interrupted:
        resume_words = f"striate train --resume {shlex.quote(str(run.folder))}"
        say(f"Stopped at step {run.step}. Go on with: {resume_words}", json_wanted=True)
        return EXIT_STATUS[str(run.stop_reason)]
    _report(run, images.test, json)
    if not no_report and processes.first():
        _write_page(run, images, json)
    return 0


def _chosen(
    data: str,
    recipe: Recipe,
    *,
    config: str | None,
    model: str | None,
    pretrained: bool,
    size: int | None,
    channels: int | None,
    **options: Any,
) -> tuple[ImageSet, str, Recipe, str | None]:
    """Return the pictures, the network, the recipe for both, and the weights to start from.

    What is left open is chosen by the pictures. ``recipe`` holds what single flags say, ``options`` how to load.
    """
    base = read_preset(config) if config else None
    if base and base.fine_tuning and not pretrained:
        raise RecipeError(f"The recipe {config} is for weights that know something already: add --pretrained.")
    changes = {name: getattr(recipe, name) for name in recipe.model_fields_set}
    said = base.recipe.changed(**changes) if base else recipe  # the rest is chosen when the pictures are known
    like, weights = _published(model, size, channels) if pretrained else (None, None)
    size, channels = (None, None) if pretrained else (size, channels)  # like has them
    with processes.first_of_machine_first():
        images = load_data(
            data, size=size, channels=channels, seed=said.seed, like=like, stored_size=said.stored_size, **options
        )
    model = model or (base.model if base else None) or recommended_model(images)
    base = base or recommended_preset(images, model, pretrained=pretrained)
    return images, model, base.recipe_for(build_on_meta(model, images.spec), images.spec.input, **changes), weights


def _write_preview(path: Path, images: ImageSet, recipe: Recipe, json: bool) -> int:
    """Write what the network would see."""
    split = images.train_and_val if recipe.learn_from == "train+val" else images.train
    by_phase = ([phase.resolution] * math.ceil(phase.epochs) for phase in recipe.plan)
    resolutions = list(itertools.islice(itertools.chain.from_iterable(by_phase), EPOCHS))
    sheet = preview(
        split,
        recipe,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        sizes=[(side, side) if side else None for side in resolutions],
        shares=balancing_shares(split.labels, images.spec.task.classes) if recipe.sampling == "balanced" else None,
    )
    if processes.first():
        sheet.write(path)
    say(f"preview   {path}", json_wanted=json)
    if json:
        print_json({"preview": str(path)})
    return 0


def _published(model: str | None, size: int | None, channels: int | None) -> tuple[InputSpec, str]:
    """Return the pictures that the published weights of a network take, and the weights' name."""
    if model is None:
        raise NetworkError("--pretrained needs the network that the weights are of: add --model, such as resnet18.")
    entry = default_pretrained(read_model(model).name)
    return entry.input_spec(channels=channels or 3, size=size), entry.name


@final
class SayFirst(Observer):
    """Prints the plan when training begins, after the worst of an audit: all that could be refused has been by then."""

    def __init__(self, images: ImageSet, model: str, audited: Short | None, data: str, json_wanted: bool) -> None:
        self._images, self._model, self._audited = images, model, audited
        self._data, self._json_wanted = data, json_wanted

    def on_train_begin(self, run: Run) -> None:
        """Print them."""
        if self._audited is not None:
            say_worst(self._audited, self._data)
            keep_findings(self._audited, run.folder)
        say(_plan(self._images, self._model, run), json_wanted=self._json_wanted)


def _check_contradictions(
    recipe: Recipe,
    *,
    looks: dict[str, Path | None],
    output: Path | None,
    budget: str | None,
    auto_batch_size: bool,
) -> None:
    """Refuse flags of which one leaves nothing to another.

    ``looks`` are the files that are written in the place of training, by `_LOOKS`; they must end as they should.
    """
    if budget is not None and "epochs" in recipe.model_fields_set:
        raise RecipeError("--budget chooses the epochs: leave out --epochs, or --budget.")
    if auto_batch_size and "batch_size" in recipe.model_fields_set:
        raise RecipeError("--auto-batch-size chooses the batches: leave out --batch-size, or --auto-batch-size.")
    budget_seconds(budget)
    for look, written in looks.items():
        if written is None:
            continue
        measuring = auto_batch_size and look == "preview"
        others = {"budget": budget, "output": output, "auto-batch-size": measuring or None, **looks, look: None}
        for other in (name for name, value in others.items() if value is not None):
            raise RecipeError(f"--{look} does not train, so --{other} must be left out with it.")
        files.check_ending(written, *_LOOKS[look])


def _check_left_out(recipe: Recipe, **flags: object) -> None:
    """Refuse what a resumed run has already."""
    own = (name for name, value in flags.items() if value is not None and value is not False)
    if given := [*sorted(recipe.model_fields_set), *own]:
        flag = given[0].replace("_", "-")
        raise RecipeError(f"A resumed run keeps what it began with, so --{flag} must be left out with --resume.")


def _before_restart() -> Path | None:
    """Return the folder of the run that these processes go on with, where torchrun started them anew; else None.

    A folder that has no checkpoint yet is emptied: it was new or empty when the run began, and nothing is lost.
    """
    folder = processes.kept("folder")
    if folder is None:
        return None
    if processes.from_first(lambda: bool(checkpoints_in(Path(folder)))):
        return Path(folder)
    if processes.first():
        shutil.rmtree(folder, ignore_errors=True)
    processes.wait()
    return None


def _stopped(folder: Path, data: str | None, data_dir: Path | None) -> tuple[nn.Module, ImageSet]:
    """Return the network and the pictures of a run that was stopped; DATA says where they are now, if they moved."""
    header = checkpoint.read_header(folder)
    machine.use_device(header.recipe["device"])  # before the network asks for memory
    source = header.data.source
    if source is None:
        raise FileError(f"{folder} was trained on arrays. Resume it in Python: fit(network, images, resume=folder).")
    if header.blueprint.kind == "foreign":
        raise FileError(
            f"{folder} was trained with a network of its own, {header.blueprint.name}, or one that was changed after "
            "it was built. Resume it in Python: fit(network, images, resume=folder)."
        )
    moved = {name: value for name, value in (("data", data), ("data_dir", data_dir)) if value is not None}
    return build_blueprint(header.blueprint, header.spec), load_again(folder, source, **moved)


def _plan(images: ImageSet, model: str, run: Run) -> str:
    """Return what is about to happen."""
    recipe, parameters = run.recipe, sum(parameter.numel() for parameter in run.network.parameters())
    shape = "×".join(str(number) for number in images.spec.input.shape)
    held_out = " (held out of train)" if images.held_out else ""
    use = "to learn from too" if recipe.learn_from == "train+val" else f"to choose by{held_out}"
    return "\n".join(
        (
            f"pictures  {images.name}: {len(images.learned):,} to train, {len(images.val):,} {use}, "
            f"{len(images.test):,} to test; {shape}, {images.spec.task.classes} classes",
            f"network   {model}: {parameters:,} parameters",
            f"recipe    {recipe.epochs:g} epoch{'s' * (recipe.epochs != 1)}, batches of {recipe.batch_size}, "
            f"{recipe.optimizer} at {recipe.learning_rate:g} ({recipe.schedule}), seed {recipe.seed}",
            f"memory    about {machine.in_words(run.expected_bytes)}{' in each process' * (processes.world() > 1)}",
        )
    )


def _with_batch_size(network: nn.Module, images: ImageSet, recipe: Recipe, json: bool) -> Recipe:
    """Return the recipe with the batches that are fastest here, and say so."""
    choice = choose_batch_size(network, images, recipe)
    say(f"batches   {choice}", json_wanted=json)
    return choice.recipe


def _write_range(path: Path, network: nn.Module, images: ImageSet, recipe: Recipe, json: bool) -> int:
    """Write how the loss goes with the learning rate, and say which rates it suggests."""
    found = learning_rate_range(network, images, recipe)
    if processes.first():
        found.draw().write(path)
    say(f"range     {path}", json_wanted=json)
    say(
        f"try       --lr {found.steepest:.2g} (steepest) or {found.tenth:.2g} (a tenth of the minimum's)",
        json_wanted=json,
    )
    if json:
        print_json({"lr_range": str(path), "steepest": found.steepest, "tenth": found.tenth})
    return 0


def _report(run: Run, test: Split, json: bool) -> None:
    """Write what was predicted for the test pictures, and say how the run did and what to do with it."""
    predictions = predictions_of(run.network, test, together=True)
    if not processes.first():
        return
    score = evaluate(predictions, test)
    write_predictions(run.folder, predictions, run.network, test)
    _write_predictions(run.folder / PREDICTIONS_FILE, score, test)
    result = {
        "run": str(run.folder),
        "network": run.blueprint.short_name,
        "val_accuracy": run.val_accuracy,
        "test_accuracy": score.accuracy,
        "test_interval": list(score.interval),
        "train_seconds": run.train_seconds,
        "epochs": len(run.history),
        "parameters": sum(parameter.numel() for parameter in run.network.parameters()),
    }
    if run.val_balanced_accuracy is not None:
        result["val_balanced_accuracy"] = run.val_balanced_accuracy
    if isinstance(score, MultiScore):
        result["val_mean_average_precision"] = run.val_mean_average_precision
        result["test_mean_average_precision"] = score.mean_average_precision
    if run.stop_reason:
        say(f"stopped   {run.stop_reason}", json_wanted=json)
    say("test      " + str(score).replace("\n", "\n          "), json_wanted=json)
    say(f"run       {run.folder}  ({run.train_seconds:.1f} s of training)", json_wanted=json)
    say(f"try       striate predict {shlex.quote(str(run.folder))} PICTURE", json_wanted=json)
    if json:
        print_json(result)


def _write_page(run: Run, images: ImageSet, json: bool) -> None:
    """Write the report. The run is trained, scored and saved: whatever fails here is said and costs nothing of it."""
    try:
        say(f"report    {write_report(run, images).path}", json_wanted=json)
    except Exception as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        say(f"The run is complete, its report could not be written: {words}", json_wanted=True)


def _write_predictions(path: Path, score: Score | MultiScore, test: Split) -> None:
    rows = _rows(score, test) if isinstance(score, Score) else _label_rows(score, test)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    files.write_text(path, text.getvalue())


def _rows(score: Score, test: Split) -> Iterator[list[str]]:
    names = test.spec.task.class_names
    yield ["picture", "label", "predicted", "probability"]
    rows = zip(test.origins, test.labels.tolist(), score.predicted.tolist(), score.probability.tolist(), strict=True)
    for origin, label, said, probability in rows:
        yield [origin, names[label], names[said], f"{probability:.6f}"]


def _label_rows(score: MultiScore, test: Split) -> Iterator[list[str]]:
    """Yield rows whose cells hold several labels, and the probabilities of those that are said, joined by ``|``."""
    names = test.spec.task.class_names
    yield ["picture", "labels", "predicted", "probabilities"]
    for origin, own, said, row in zip(test.origins, test.labels, score.predicted, score.probabilities, strict=True):
        numbers = [mask.nonzero().flatten().tolist() for mask in (own, said)]
        probabilities = [f"{float(row[k]):.6f}" for k in numbers[1]]
        yield [origin, *("|".join(names[k] for k in each) for each in numbers), "|".join(probabilities)]
