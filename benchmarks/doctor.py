"""The doctor on planted faults and on healthy runs: does it name the fault, and does it leave the healthy alone?

Two tables of the same faults. The thresholds were set on the first: digits and CIFAR-10, LeNet-5 and SpeedNet. The
second was measured after that: Fashion-MNIST and photographs of clothes, residual and VGG-like networks. A fault counts
as found where a finding has its name; a healthy run counts as a false alarm where there is any warning or error.

    python benchmarks/doctor.py [set|measured] [part of a name]
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor, nn

import striate as st
from striate.training.doctor.watch import Doctor
from striate.training.events import EVENTS
from trials import data_folder, report, spread, upper_bound

Plant = Callable[[nn.Module, st.ImageSet], tuple[nn.Module, st.ImageSet]]

TRAIN, VAL = 1_500, 500


@final
@dataclass(frozen=True)
class Case:
    """One run.

    Args:
        name: what was done.
        expected: codes of which one must be found; none for a healthy run.
        changes: fields of the recipe.
        model: another network than the table's usual one.
        harder: whether it is done with the table's second pictures.
        rate: what the learning rate is multiplied by.
        plant: what is done to the network and the pictures.
    """

    name: str
    expected: tuple[str, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    harder: bool = False
    rate: float = 1.0
    plant: Plant = lambda network, images: (network, images)


@final
@dataclass(frozen=True)
class Table:
    """What the cases of a table are made of.

    Args:
        data: the usual pictures first.
        models: name → network; ``usual`` is trained where a case names none.
        recipe: of all runs, but for what a case changes.
    """

    data: tuple[str, ...]
    models: dict[str, str]
    recipe: dict[str, Any]


@functools.cache
def pictures(name: str) -> st.ImageSet:
    """Return a few thousand pictures."""
    name, _, side = name.partition("@")
    size = int(side) if side else None
    if name == "cifar10":
        whole = st.load_data(data_folder("cifar10") / "cifar10-jpeg.tar.gz", size=size)
    elif name == "clothing":
        return st.load_data(data_folder("mnist").parent / "clothing.tar.gz", size=size)
    elif name == "digits":
        return st.load_data("digits", size=size)
    else:
        whole = st.load_data(name, data_dir=data_folder(name.replace("_", "-")), size=size)
    return cut(whole, torch.arange(TRAIN), torch.arange(VAL))


def cut(images: st.ImageSet, train: Tensor, val: Tensor | None = None) -> st.ImageSet:
    """Return some of the pictures, after they have been put in a random order."""
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(split), generator=generator) for split in (images.train, images.val)]
    kept = images.val if val is None else images.val[orders[1][val]]
    return st.ImageSet(images.train[orders[0][train]], kept, images.test[:2], name=images.name)


def with_train(images: st.ImageSet, /, **changes: Any) -> st.ImageSet:
    """Return the pictures with another train, of the same Spec."""
    split = images.train
    fields = {"images": split.images, "labels": split.labels, "spec": split.spec, "origins": split.origins} | changes
    return st.ImageSet(st.Split(**fields), images.val, images.test, name=images.name)


# ---------------------------------------------------------------------------------------------------------- faults


@final
class DividesByPixel(nn.Module):
    """Divides by the sum of a row that is black in one picture only, as a home-made contrast normalisation would."""

    def __init__(self, network: nn.Module, level: float) -> None:
        super().__init__()
        self.network, self.level = network, level

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (N, K)."""
        odd = (pictures.flatten(1) == pictures.flatten(1)[:, :1]).all(1).float()[:, None, None, None]
        return self.network(pictures / (1 - odd))  # type: ignore[no-any-return]


@final
class RootOfZero(nn.Module):
    """Adds the norm of what is left of a picture when it is taken from itself: its slope is not defined."""

    def __init__(self, network: nn.Module, weight: nn.Parameter) -> None:
        super().__init__()
        self.network, self.weight = network, weight

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (N, K)."""
        nothing = (self.weight - self.weight.detach()).sum()
        return self.network(pictures) + nothing.abs().sqrt()  # type: ignore[no-any-return]


@final
class Wrapped(nn.Module):
    """Does something to the pictures before a network, or to the logits after it."""

    def __init__(
        self, network: nn.Module, *, before: Callable[[Tensor], Tensor] | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (N, K)."""
        logits = self.network(self.before(pictures) if self.before else pictures)
        return self.after(logits) if self.after else logits


def layers_of(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """Return the layers with weights that learn."""
    return [one for one in network.modules() if isinstance(one, nn.Conv2d | nn.Linear) and one.weight.requires_grad]


def one_black_picture(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Make one picture black, and the network divide by 0 there."""
    changed = images.train.images.clone()
    changed[17] = 0
    return DividesByPixel(network, 0.0), with_train(images, images=changed)


def shuffled(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Shuffle the labels of train."""
    order = torch.randperm(len(images.train), generator=torch.Generator().manual_seed(1))
    return network, with_train(images, labels=images.train.labels[order])


def one_label(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Give all pictures the same label."""
    return network, with_train(images, labels=torch.full_like(images.train.labels, 3))


def not_scaled(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Let the network see pixels from 0 to 255."""
    channels = images.spec.input.channels
    update = {"mean": (0.0,) * channels, "std": (1 / 255,) * channels}
    spec = images.spec.model_copy(update={"input": images.spec.input.model_copy(update=update)})
    splits = [st.Split(one.images, one.labels, spec, one.origins) for one in (images.train, images.val, images.test)]
    return network, st.ImageSet(*splits, name=images.name)


def half_blank(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Make every other picture grey all over."""
    changed = images.train.images.clone()
    changed[::2] = 128
    return network, with_train(images, images=changed)


def few(count: int) -> Plant:
    """Keep few pictures."""
    return lambda network, images: (network, cut(images, torch.arange(count)))


def few_of_some(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Keep 3 % of the pictures of the two classes that are most alike, or that come first."""
    labels = images.train.labels
    rare = (labels == 2) | (labels == 6)
    keep = ~rare | (torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) < 0.03)
    chosen = images.train[keep.nonzero().flatten()]
    return network, st.ImageSet(chosen, images.val, images.test, name=images.name)


def low_biases(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Start one layer's biases, or those of its norm, at −10."""
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    target = norms[1] if len(norms) > 1 else layers_of(network)[1]
    nn.init.constant_(target.bias, -10.0)  # type: ignore[arg-type]
    return network, images


def scaled(factor: float, which: slice) -> Plant:
    """Multiply the weights of some layers."""

    def plant(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
        with torch.no_grad():
            for layer in layers_of(network)[which]:
                layer.weight.mul_(factor)
        return network, images

    return plant


@torch.no_grad()
def copied_filters(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Make half of the second layer's filters copies of the others."""
    weight = layers_of(network)[1].weight
    half = len(weight) // 2
    weight[half : 2 * half] = weight[:half]
    return network, images


def frozen(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Let nothing learn but the last bias."""
    for parameter in list(network.parameters())[:-1]:
        parameter.requires_grad_(False)
    return network, images


def detached(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Cut the first layers off from the gradient."""
    layers_of(network)[1].register_forward_pre_hook(lambda module, inputs: (inputs[0].detach(),))
    return network, images


def slow_norms(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Let the running statistics stay where they are."""
    for one in network.modules():
        if isinstance(one, nn.BatchNorm2d):
            one.momentum = 5e-4
    return network, images


def infinite_weight(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Make the weights of one layer so large that their products are out of range."""
    with torch.no_grad():
        layers_of(network)[-2].weight.mul_(1e30)
        layers_of(network)[-1].weight.mul_(1e30)
    return network, images


PLAIN = "conv 16@3x3 pad 1 relu | maxpool 2 | conv 32@3x3 pad 1 relu | maxpool 2 | fc 64 relu | fc 10"
NORMED = (
    "conv 16@3x3 pad 1 bn relu | maxpool 2 | conv 32@3x3 pad 1 bn relu | maxpool 2 | conv 64@3x3 bn relu | gap | fc 10"
)
FAULTS = (
    Case("learning rate × 100", ("learning-rate-too-high",), rate=100),
    Case("learning rate × 100, no norms", ("learning-rate-too-high",), model=PLAIN, rate=100),
    Case("learning rate × 100, SGD", ("learning-rate-too-high",), {"learning_rate": 5.0, "optimizer": "sgd"}, PLAIN),
    Case("learning rate ÷ 1000", ("learning-rate-too-low",), rate=1e-3),
    Case("learning rate ÷ 1000, SGD", ("learning-rate-too-low",), {"learning_rate": 5e-5, "optimizer": "sgd"}, NORMED),
    Case("learning rate 0", ("nothing-moves",), {"learning_rate": 0.0}),
    Case("division by 0 in one picture", ("non-finite-picture",), plant=one_black_picture),
    Case("logits out of range", ("overflow", "non-finite-loss"), model=PLAIN, plant=infinite_weight),
    Case(
        "square root at 0", ("non-finite-gradient",), model=PLAIN,
        plant=lambda network, images: (RootOfZero(network, layers_of(network)[0].weight), images),
    ),
    Case("labels shuffled", ("labels-shuffled",), plant=shuffled),
    Case("labels shuffled, long", ("labels-shuffled",), {"epochs": 12}, PLAIN, plant=shuffled),
    Case("pixels not scaled", ("input-not-normalised",), plant=not_scaled),
    Case(
        "pixels × 255 in the network", ("input-not-normalised",), model=PLAIN,
        plant=lambda network, images: (Wrapped(network, before=lambda pictures: pictures * 255), images),
    ),
    Case("all labels one class", ("one-label-only",), plant=one_label),
    Case("dead ReLUs by biases of −10", ("dead-units",), model=PLAIN, plant=low_biases),
    Case("dead ReLUs by a norm's biases of −10", ("dead-units",), model=NORMED, plant=low_biases),
    Case("l2 of 1", ("penalty-out-of-scale",), {"l2": 1.0}),
    Case("weight decay of 1", ("penalty-out-of-scale",), {"weight_decay": 1.0}, NORMED),
    Case("no non-linearity", ("no-non-linearity",), model=PLAIN.replace(" relu", "").replace("maxpool", "avgpool")),
    Case("60 pictures", ("tiny-training-set",), {"batch_size": 16}, plant=few(60)),
    Case("filters copied", ("duplicate-filters",), model=NORMED, plant=copied_filters),
    Case(
        "ten sigmoids deep", ("vanishing-gradients",),
        model="conv 16@3x3 pad 1 sigmoid | maxpool 2 | 9x(conv 16@3x3 pad 1 sigmoid) | gap | fc 10",
    ),
    Case(
        "weights × 8 through twelve layers", ("exploding-gradients", "loss-far-from-chance"),
        model="conv 16@3x3 pad 1 relu | maxpool 2 | 10x(conv 16@3x3 pad 1 relu) | gap | fc 10",
        plant=scaled(8.0, slice(None)),
    ),
    Case("softmax before the loss", ("softmax-before-loss",), model=f"{PLAIN} softmax"),
    Case("every other picture blank", ("constant-pictures",), plant=half_blank),
    Case("batches of 2 with batch norm", ("batch-norm-small-batch",), {"batch_size": 2, "epochs": 1}, NORMED,
         plant=few(600)),
    Case("momentum 0.999", ("momentum-too-high",), {"momentum": 0.999, "optimizer": "sgd", "learning_rate": 0.02},
         NORMED),
    Case("frozen at random weights", ("frozen-weights",), model=NORMED, plant=frozen),
    Case("head × 100", ("loss-far-from-chance",), plant=scaled(100.0, slice(-1, None))),
    Case(
        "tanh × 50", ("saturated-units",), plant=scaled(50.0, slice(0, 2)),
        model=PLAIN.replace("relu", "tanh"),
    ),
    Case("the whole set in a batch", ("batch-too-large",), {"batch_size": 2_000, "learning_rate": 0.1}, PLAIN),
    Case("300 pictures by heart", ("overfitting",), {"epochs": 30, "batch_size": 32, "weight_decay": 0.0}, PLAIN,
         harder=True, plant=few(300)),
    Case("two filters", ("underfitting",), {"epochs": 10}, "conv 2@5x5 stride 2 bn relu | gap | fc 10", harder=True),
    Case("two rare classes", ("rare-classes-ignored",), model=NORMED, plant=few_of_some),
    Case("first layers cut off", ("no-gradient",), model=NORMED, plant=detached),
    Case("batch norm momentum 0.0005", ("batch-norm-momentum",), model=NORMED, plant=slow_norms),
)  # fmt: skip

WIDE = NORMED.replace("16@", "32@").replace(
    "32@3x3 pad 1 bn relu | maxpool 2 | conv 64", "64@3x3 pad 1 bn relu | maxpool 2 | conv 64"
)


def healthy_of(first: str, second: str) -> tuple[Case, ...]:
    """Return runs in which nothing is wrong, with the networks of a table."""
    return (
        Case("as it is"),
        Case("other pictures", harder=True),
        Case("first network", model=first),
        Case("second network", changes={"epochs": 3}, model=second, harder=True),
        Case("1 epoch", changes={"epochs": 1, "batch_size": 32}),
        Case("12 epochs", changes={"epochs": 12}),
        Case("SGD at 0.1", changes={"optimizer": "sgd", "learning_rate": 0.1}, model=NORMED),
        Case("SGD at 0.1 with l2", changes={"optimizer": "sgd", "learning_rate": 0.1, "l2": 5e-4, "weight_decay": 0.0},
             model=NORMED, harder=True),
        Case("SGD at 0.02 without norms", changes={"optimizer": "sgd", "learning_rate": 0.02, "epochs": 8},
             model=PLAIN),
        Case("AdamW at 1e-3", changes={"learning_rate": 1e-3}),
        Case("AdamW at 1e-3 without norms", changes={"learning_rate": 1e-3, "epochs": 8}, model=PLAIN),
        Case("AdamW with weight decay 0.1", changes={"weight_decay": 0.1}, model=NORMED),
        Case("Muon", changes={"optimizer": "muon", "learning_rate": 0.02}, model=NORMED),
        Case("RMSprop", changes={"optimizer": "rmsprop", "learning_rate": 1e-3}, model=NORMED),
        Case("constant rate", changes={"schedule": "constant", "learning_rate": 1e-3}, model=NORMED),
        Case("batches of 16", changes={"batch_size": 16, "epochs": 2}, model=NORMED),
        Case("batches of 256", changes={"batch_size": 256, "epochs": 8}),
        Case("augmented", changes={"flip": "random", "shift": 1, "epochs": 8}, model=NORMED),
        Case("mixup and smoothing", changes={"mixup": 0.2, "label_smoothing": 0.1, "epochs": 8}),
        Case("averaged weights", changes={"average": "ema", "epochs": 8}, model=NORMED),
        Case("tanh", changes={"epochs": 8}, model=NORMED.replace("relu", "tanh")),
        Case("hinge", changes={"loss": "hinge"}, model=NORMED),
        Case("focal", changes={"loss": "focal", "epochs": 8}, model=NORMED),
        Case("one label for itself", changes={"loss": "bce", "epochs": 8}, model=NORMED),
        Case("wide", model=WIDE),
        Case("dropout", model=PLAIN.replace("fc 64 relu", "fc 64 relu dropout 0.3"), changes={"epochs": 8}),
        Case("500 pictures", changes={"batch_size": 32, "epochs": 8, "weight_decay": 0.05}, model=NORMED,
             plant=few(500)),
        Case("classes of unlike size", changes={"epochs": 10}, model=NORMED, plant=unlike_sizes),
        Case("25 epochs", changes={"epochs": 25, "flip": "random", "shift": 1}, model=NORMED),
    )  # fmt: skip


def unlike_sizes(network: nn.Module, images: st.ImageSet) -> tuple[nn.Module, st.ImageSet]:
    """Keep a third of the pictures of every other class."""
    labels = images.train.labels
    keep = (labels % 2 == 0) | (torch.rand(len(labels), generator=torch.Generator().manual_seed(0)) < 0.33)
    chosen = images.train[keep.nonzero().flatten()]
    return network, st.ImageSet(chosen, images.val, images.test, name=images.name)


RESIDUAL = (
    "conv 16@3x3 stride 2 pad 1 bn relu | add(conv 16@3x3 pad 1 bn relu | conv 16@3x3 pad 1 bn) relu | "
    "add(conv 32@3x3 stride 2 pad 1 bn relu | conv 32@3x3 pad 1 bn; conv 32@1x1 stride 2 bn) relu | "
    "add(conv 64@3x3 stride 2 pad 1 bn relu | conv 64@3x3 pad 1 bn; conv 64@1x1 stride 2 bn) relu | gap | fc 10"
)
VGG = (
    "conv 16@3x3 pad 1 bn relu | maxpool 2 | 2x(conv 32@3x3 pad 1 bn relu) | maxpool 2 | "
    "2x(conv 64@3x3 pad 1 bn relu) | maxpool 2 | fc 64 relu dropout 0.3 | fc 10"
)
TABLES = {
    "set": Table(
        ("digits@16", "cifar10@16"), {"usual": "speednet_small", "first": "lenet5", "second": "speednet_small"},
        {"epochs": 5, "batch_size": 64, "learning_rate": 3e-3},
    ),
    "measured": Table(
        ("fashion_mnist@16", "clothing@24"), {"usual": RESIDUAL, "first": VGG, "second": "resnet20_cifar10"},
        {"epochs": 5, "batch_size": 64, "learning_rate": 3e-3},
    ),
}  # fmt: skip


def run_case(case: Case, table: Table, images: st.ImageSet | None = None) -> dict[str, Any]:
    """Train it, and say what was found; on other pictures than the table's, where they are given."""
    model = case.model or table.models["usual"]
    if images is None:
        images = pictures(table.data[case.harder])
    if model == "lenet5" and images.spec.input.height < 28:
        images = pictures("digits@28")  # it needs as much
    changes = {**table.recipe, **case.changes}
    changes["learning_rate"] *= case.rate
    torch.manual_seed(0)
    network, images = case.plant(st.build(model, images.spec, seed=0), images)
    found: list[st.Run] = []
    start, stopped = time.perf_counter(), ""
    with tempfile.TemporaryDirectory() as folder:
        recipe = st.Recipe(**changes)
        try:
            st.fit(network, images, recipe, folder=f"{folder}/run", progress=False, observers=[Keep(found)])
        except st.StriateError as error:
            stopped = str(error).replace(f"{folder}/", "")
    # What is refused before it begins has no run; the refusal is in the words of the error.
    findings = {one.code: one.severity for one in found[0].findings} if found else {"refused": "error"}
    history = found[0].history if found else []
    return {
        "name": case.name,
        "expected": list(case.expected),
        "findings": findings,
        "right": bool(set(case.expected) & set(findings))
        if case.expected
        else not stopped and all(s == "note" for s in findings.values()),
        "stopped": stopped,
        "loss": history[-1]["loss"] if history else None,
        "val_accuracy": history[-1].get("val_accuracy") if history else None,
        "seconds": time.perf_counter() - start,
    }


@final
class Keep(st.Observer):
    """Keeps the run, however it ends."""

    def __init__(self, found: list[st.Run]) -> None:
        self.found = found

    def on_train_begin(self, run: st.Run) -> None:
        """Keep it."""
        self.found.append(run)


def clocked(doctor: Doctor, seconds: list[float]) -> Doctor:
    """Put a clock around all that the doctor is told."""

    def timed(tell: Callable[[st.Run], None], run: st.Run) -> None:
        start = time.perf_counter()
        tell(run)
        seconds.append(time.perf_counter() - start)

    for event in EVENTS:
        setattr(doctor, event, functools.partial(timed, getattr(doctor, event)))
    return doctor


def cost(model: str, runs: int = 15) -> dict[str, Any]:
    """Return how many times as long training takes with the doctor: 600 steps of 128 pictures of MNIST.

    The runs are short, so that the first looks weigh as much as they ever do. What it takes is clocked: on a machine
    that others use too, whole runs in turns differ by more than that.
    """
    whole = st.load_data("mnist", data_dir=data_folder("mnist"))
    images = cut(whole, torch.arange(128 * 100), torch.arange(100))
    recipe = st.Recipe(epochs=6, batch_size=128, precision="fp32", memory_format="channels_last")
    ratios = []
    for seed in range(runs):
        network, seconds = st.build(model, images.spec, seed=seed), list[float]()
        doctor = clocked(Doctor(), seconds)
        with tempfile.TemporaryDirectory() as folder:
            run = st.fit(
                network, images, recipe, folder=f"{folder}/run", progress=False, doctor=False, observers=[doctor]
            )
        ratios.append(run.train_seconds / (run.train_seconds - sum(seconds)))
    return {**spread(ratios), "upper_bound": upper_bound(ratios)}


def main() -> None:
    """Run the tables and the cost, or a part of a table."""
    chosen = [sys.argv[1]] if len(sys.argv) > 1 else list(TABLES)
    part = sys.argv[2] if len(sys.argv) > 2 else ""
    trials, figures, holds = [], {}, True
    for name in chosen:
        table = TABLES[name]
        healthy = healthy_of(table.models["first"], table.models["second"])
        rows = []
        for case in (*FAULTS, *healthy):
            if part in case.name:
                rows.append({"table": name, **run_case(case, table)})
                print(rows[-1], flush=True)
        planted, fine = [r for r in rows if r["expected"]], [r for r in rows if not r["expected"]]
        recall = sum(r["right"] for r in planted) / max(1, len(planted))
        alarms = sum(not r["right"] for r in fine)
        figures[name] = {"faults": len(planted), "recall": recall, "healthy": len(fine), "false_alarms": alarms}
        holds &= recall >= 0.9 and alarms <= len(fine) / 20
        trials += rows
    claim = (
        "of planted faults, 0.9 or more are named, at most one of 20 healthy runs has a warning, and training takes "
        "less than 1.03 times as long"
    )
    if len(chosen) == len(TABLES) and not part:
        costs = {model: cost(model) for model in ("lenet5", "speednet_small")}
        holds &= all(one["upper_bound"] < 1.03 for one in costs.values())
        report("doctor", claim, holds, trials, tables=figures, cost=costs)
    print(figures)


if __name__ == "__main__":
    main()
