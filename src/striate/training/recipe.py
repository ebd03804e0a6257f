"""Recipe: every hyper-parameter of a run, validated when it is made."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from striate.core import files
from striate.core.errors import FileError, RecipeError, suggest
from striate.core.machine import DeviceKind, MemoryFormat, Precision
from striate.data.augment.policy import Augmentation

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
MOST_EPOCHS = 1_000_000
_ROUNDING = 1e-9  # of epochs: 3 · 5 / 3 is no less than 5
Epochs = Annotated[float, Field(gt=0, le=MOST_EPOCHS, allow_inf_nan=False)]
Loss = Literal["cross_entropy", "hinge", "focal", "bce"]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Optimizer = Literal["sgd", "adamw", "rmsprop", "muon"]
Schedule = Literal["one_cycle", "cosine", "exponential", "step", "plateau", "constant"]


_ONLY_WITH = {  # field → another field, and its values with which the first counts for something
    "alpha": ("optimizer", ("rmsprop",)),
    "average_decay": ("average", ("ema",)),
    "beta2": ("optimizer", ("adamw", "muon")),
    "focal_gamma": ("loss", ("focal",)),
    "plateau_epochs": ("schedule", ("plateau",)),
    "step_epochs": ("schedule", ("step", "exponential")),
    "step_factor": ("schedule", ("step", "exponential", "plateau")),
}


class Phase(BaseModel):
    """A part of the run: progressive resizing and fine-tuning are phases, not special cases.

    Args:
        epochs: how many; only the last phase may end within one.
        resolution: height and width in pixels that the pictures are trained at; None for the network's own.
        frozen: stages of the network whose weights stay as they are.
        learning_rates: stage → factor on the learning rate; 1 where a stage is not named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Epochs
    resolution: Positive | None = None
    frozen: tuple[str, ...] = ()
    learning_rates: dict[str, Rate] = {}

    @model_validator(mode="after")
    def _what_is_frozen_has_no_rate(self) -> Phase:
        for stage in self.frozen:
            if stage in self.learning_rates:
                raise ValueError(f"{stage} must not be frozen and have a learning rate: leave one of them out")
        return self


class Recipe(Augmentation):
    """Every hyper-parameter of a run. Frozen; `changed` returns another one.

    The command line's flags are made from these fields; ``Parameter`` adds their other names.

    ``None`` for precision, memory format, compile and threads means: measure, and take the fastest here; for the
    device: the GPU where there is one; for the loss: the usual one of the labels. A run writes the resolved recipe to
    ``recipe.toml``.
    """

    epochs: Epochs = Field(10, description="Passes over the training pictures; 1.5 ends in the middle of the second.")
    batch_size: Annotated[Positive, Parameter(alias="-b")] = Field(128, description="Pictures per step.")
    optimizer: Annotated[Optimizer, Parameter(alias="--opt")] = Field(
        "adamw",
        description="SGD with Nesterov momentum, AdamW, RMSprop, or Muon for filters and matrices within the network "
        "and AdamW for the rest.",
    )
    learning_rate: Annotated[Rate, Parameter(alias="--lr")] = Field(3e-3, description="At the top of the schedule.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.9, description="Of SGD, RMSprop and Muon; the first beta of AdamW."
    )
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.999, description="The second beta of AdamW: short runs do better with less."
    )
    alpha: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="For RMSprop: part of the mean square that each step keeps."
    )
    bias_rate_factor: Rate = Field(1.0, description="Factor on the learning rate of norms and biases.")
    clip_gradient_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Scale the gradient of all parameters down to this norm where it is longer."
    )
    weight_decay: Rate = Field(
        0.01, description="Decoupled: each step shrinks the weights by learning rate × this. Not norms and biases."
    )
    l2: Rate = Field(0.0, description="λ of the penalty ½λΣw² that is added to the loss. Not norms and biases.")
    l1: Rate = Field(0.0, description="λ of the penalty λΣ|w| that is added to the loss. Not norms and biases.")
    schedule: Annotated[Schedule, Parameter(alias="--sched")] = Field(
        "one_cycle", description="The learning rate over the run, after the warm-up."
    )
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="Part of all steps in which the learning rate rises from 0 to its top."
    )
    step_epochs: Positive | None = Field(
        None,
        description="For the step schedule: epochs between two drops; for the exponential one: epochs of a drop; a "
        "third of the run when not given.",
    )
    step_factor: Fraction = Field(
        0.1, description="For the step, exponential and plateau schedules: what each drop multiplies by."
    )
    plateau_epochs: Positive = Field(
        3, description="For the plateau schedule: epochs in which the loss on val has not improved before each drop."
    )
    loss: Loss | None = Field(
        None,
        description="Softmax with cross-entropy, the hinge of a linear SVM, the focal loss, or bce: each label for "
        "itself. When not given, cross_entropy, or bce where pictures may have several labels.",
    )
    focal_gamma: Annotated[float, Field(ge=0, le=10)] = Field(
        2.0, description="For the focal loss: how little the pictures count that are right already; 0 for not less."
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Part of the target that is spread over all classes, in bce towards ½; a hinge has none."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare classes count more in the loss, so that all count the same in sum."
    )
    sampling: Literal["uniform", "balanced"] = Field(
        "uniform", description="balanced: each epoch draws pictures with replacement, of all classes alike."
    )
    stored_size: Annotated[float, Field(ge=1, le=4)] = Field(
        1.0, description="Training pictures from files are kept this many times as large, and crops are cut from them."
    )
    sync_norm: bool = Field(
        False, description="Several processes: batch norms see the pictures of all, not of each process alone."
    )
    average: Literal["none", "ema"] = Field("none", description="Average the weights over steps, and use the average.")
    average_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="Part of the average that each step keeps."
    )
    early_stopping_epochs: Annotated[Positive | None, Parameter(alias="--patience")] = Field(
        None, description="Stop when val has not improved for this many epochs."
    )
    target_error: Fraction | None = Field(None, description="Stop when the error on val is at most this.")
    learn_from: Literal["train", "train+val"] = Field(
        "train", description="train+val, once the recipe is fixed: nothing is chosen, the last weights are kept."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="Of every random draw.")
    precision: Precision | None = Field(None, description="fp32 or bf16; measured when not given.")
    memory_format: MemoryFormat | None = Field(
        None, description="contiguous or channels_last; measured when not given."
    )
    compile: bool | None = Field(
        None, description="Compile the network; when not given, on a GPU where it is measured to pay for the run."
    )
    device: DeviceKind | None = Field(None, description="cpu or cuda; the GPU where there is one when not given.")
    keep_buffers: bool = Field(
        True, description="Do not give large buffers back to the system after every step: faster, for more memory."
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Of the processor; PyTorch's own choice when not given."
    )
    phases: Annotated[tuple[Phase, ...], Parameter(parse=False)] = Field(
        (), description="Parts of the run; their epochs add up to epochs."
    )
    pace: Annotated[tuple[tuple[Epochs, Epochs], ...], Parameter(parse=False)] = Field(
        (),
        description="Plans that a budget gave up: until so many epochs were done, the schedule was for so many in all; "
        "from there on, what was left of it is spread over the rest.",
    )

    def __init__(self, **fields: Any) -> None:
        unknown = [name for name in fields if name not in type(self).model_fields]
        if unknown:
            near = suggest(unknown[0], type(self).model_fields)
            raise RecipeError(f"A recipe has no field {unknown[0]!r}.{near}")
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RecipeError(in_words(error)) from error

    @model_validator(mode="after")
    def _phases_make_the_run(self) -> Recipe:
        total = sum(phase.epochs for phase in self.phases)
        if self.phases and total != self.epochs:
            raise ValueError(f"epochs must be the sum of the phases' epochs ({total:g}), got {self.epochs:g}")
        if any(phase.epochs % 1 for phase in self.phases[:-1]):
            raise ValueError("epochs of all phases but the last must be whole numbers")
        return self

    @model_validator(mode="after")
    def _pace_only_rises(self) -> Recipe:
        done = [0.0, *(done for done, _ in self.pace), self.epochs]
        if any(a >= b for a, b in itertools.pairwise(done)) or any(done >= planned for done, planned in self.pace):
            raise ValueError(f"pace must rise and end before epoch {self.epochs:g}, each plan after it was given up")
        return self

    @model_validator(mode="after")
    def _shares_have_a_loss(self) -> Recipe:
        for field in ("mixup", "cutmix"):
            if getattr(self, field) and self.loss == "hinge":
                raise ValueError(f"{field} needs a loss of shares of classes: take cross_entropy instead of hinge")
            if getattr(self, field) and self.batch_size == 1:
                raise ValueError(f"{field} needs a batch_size of at least 2: a picture is mixed with others")
        return self

    @model_validator(mode="after")
    def _val_is_left_to_choose_by(self) -> Recipe:
        for field in ("early_stopping_epochs", "target_error"):
            if self.learn_from == "train+val" and getattr(self, field) is not None:
                raise ValueError(f"{field} needs val to stop by: leave it out where learn_from is train+val")
        if self.learn_from == "train+val" and self.schedule == "plateau":
            raise ValueError("schedule must not be plateau where learn_from is train+val, which leaves no val to watch")
        return self

    @model_validator(mode="after")
    def _classes_are_balanced_once(self) -> Recipe:
        if self.class_weights == self.sampling == "balanced":
            raise ValueError("class_weights and sampling must not both be balanced, each does it alone: leave one out")
        return self

    @property
    def plan(self) -> tuple[Phase, ...]:
        """The phases; one of all epochs where none is named."""
        return self.phases or (Phase(epochs=self.epochs),)

    @property
    def prepared_by(self) -> int:
        """The epochs of the first phases that freeze something: they are not judged by whether val still improves."""
        preparing = itertools.takewhile(lambda phase: phase.frozen, self.plan[:-1])
        return int(sum(phase.epochs for phase in preparing))

    def changed(self, **fields: Any) -> Recipe:
        """Return a recipe with other values. New ``epochs`` alone are shared out among the phases, at even pace.

        Raises:
            RecipeError: there is no such field, its value is out of range, or it would count for nothing.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields} | fields
        if "epochs" in fields and "phases" not in fields and self.phases:
            epochs = Recipe(epochs=fields["epochs"]).epochs  # or refused
            whole = whole_epochs(self.phases[:-1], epochs / self.epochs)
            phases = zip(self.phases, [*whole, epochs - sum(whole)], strict=True)
            values["phases"] = tuple(phase.model_copy(update={"epochs": own}) for phase, own in phases if own)
        if "epochs" in fields and "pace" not in fields:
            values["pace"] = ()
        recipe = Recipe(**values)
        for field, (other, needed) in _ONLY_WITH.items():
            if getattr(recipe, field) != getattr(self, field) and (value := getattr(recipe, other)) not in needed:
                raise RecipeError(
                    f"{field} counts only where {other} is {' or '.join(needed)}, got {other} {value}. "
                    f"Set that too, or leave {field} out."
                )
        return recipe

    def write(self, path: Path) -> None:
        """Write the recipe as TOML; fields that are None are left out."""
        files.write_text(path, tomli_w.dumps(self.model_dump(exclude_none=True, mode="json")))


def whole_epochs(phases: Sequence[Phase], times: float) -> list[float]:
    """Return the epochs of phases that get so many times theirs: whole ones, 0 for a phase that is to be left out.

    All but the last of a run's phases end with an epoch; the last takes what is left.
    """
    return [float(math.floor(times * phase.epochs + _ROUNDING)) for phase in phases]


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file; fields it does not name have their defaults.

    Raises:
        FileError: it cannot be read or is not TOML.
        RecipeError: an unknown field, or a value out of its range.
    """
    return Recipe(**read_fields(path))


def read_fields(path: str | Path) -> dict[str, Any]:
    """Read the fields of a recipe from a TOML file, as they stand there. See `read_recipe`."""
    try:
        with open(path, "rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise FileError(f"Cannot read the recipe {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"The recipe {path} must be TOML: {error}.") from error


def in_words(error: ValidationError) -> str:
    """Return the first problem as one sentence that names the field, what must hold and what was received."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    problem = first["msg"].removeprefix("Value error, ")
    problem = problem.replace("Input should be", "must be").replace("Extra inputs are not permitted", "is not a field")
    got = "" if first["type"] in ("value_error", "extra_forbidden") else f", got {first['input']!r}"
    return f"{where} {problem}{got}.".strip()
