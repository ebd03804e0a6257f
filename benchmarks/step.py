"""A step of `fit` against a bare loop of the same network: what the engine itself costs, or spares.

Run ``python benchmarks/step.py [--quick]``. The bare loop is as lean as a person would write it who knows the machine:
the set as one float tensor, normalised beforehand, the memory format and precision that were measured for `fit`,
PyTorch's fused optimiser, the loss read at every step, nothing else. Both run in one process, in turns of some steps:
an observer stops the clock of `fit` while the bare loop takes its turn. Validation after an epoch is not counted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn

import striate as st
from striate.core import machine
from striate.core.machine import Execution
from striate.training.events import Observer
from striate.training.run import Run
from trials import quick, report, say, spread, upper_bound

BOUND = 1.03
QUICK_PAIRS = 2
CLASSES = 10
# network, shape of a picture, batch size, optimiser, steps in a turn, pairs of turns: more of those that are short
CASES = (
    ("lenet5", (1, 28, 28), 128, "sgd", 10, 600),
    ("speednet_small", (1, 28, 28), 256, "adamw", 8, 300),
    ("speednet", (3, 32, 32), 128, "sgd", 1, 150),
    ("resnet18", (3, 64, 64), 64, "sgd", 1, 150),
    ("resnet18", (3, 32, 32), 64, "sgd", 2, 150),
)


def bare_loop(
    network: nn.Module, images: Tensor, labels: Tensor, batch_size: int, optimizer: str, execution: Execution
) -> Iterator[None]:
    """Take one step of plain PyTorch each time the next is asked for, for ever."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    update: torch.optim.Optimizer
    if optimizer == "sgd":
        update = torch.optim.SGD(learning, lr=1e-4, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)
    else:
        update = torch.optim.AdamW(learning, lr=1e-4, weight_decay=1e-4, fused=True)
    network.train()
    while True:
        for index in torch.randperm(len(images), device=images.device).split(batch_size):
            with execution.autocast():
                logits = network(images[index])
            loss = nn.functional.cross_entropy(logits.float(), labels[index])
            loss.backward()  # type: ignore[no-untyped-call]
            update.step()
            update.zero_grad()
            loss.item()
            yield


@final
class Turns(Observer):
    """Takes the time of some steps of `fit`, then of as many of the bare loop, and so on."""

    def __init__(self, pictures: Tensor, labels: Tensor, optimizer: str, steps: int, pairs: int) -> None:
        self._pictures, self._labels, self._optimizer = pictures, labels, optimizer
        self._steps, self._pairs = steps, pairs
        self._bare: Iterator[None] = iter(())
        self._began: float | None = None
        self._taken = 0
        self.trials: list[dict[str, float]] = []

    def on_train_begin(self, run: Run) -> None:
        """Set the bare loop up as the run was resolved."""
        recipe, spec = run.recipe, run.spec
        assert recipe.precision is not None
        assert recipe.memory_format is not None
        execution = Execution(recipe.precision, recipe.memory_format)
        network = execution.place(st.build(run.blueprint.short_name, spec, seed=1))
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.input.mean, spec.input.std))
        images = execution.arrange((self._pictures / 255 - mean) / std)
        labels = self._labels.to(images.device)
        self._bare = bare_loop(network, images, labels, recipe.batch_size, self._optimizer, execution)

    def on_batch_end(self, run: Run) -> None:
        """After a turn of `fit` within one epoch, let the bare loop take its turn; one more to warm up."""
        if run.ends_epoch:
            self._began = None
            return
        self._taken += 1
        if self._began is not None and self._taken < self._steps:
            return
        if self._began is not None:
            ours = _now() - self._began
            start = _now()
            for _ in range(self._steps):
                next(self._bare)
            self.trials.append({"fit": ours / self._steps, "bare": (_now() - start) / self._steps})
            if len(self.trials) > self._pairs:
                run.stop("measured")
        self._began, self._taken = _now(), 0


def _now() -> float:
    if machine.device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(
    model: str, shape: tuple[int, int, int], batch_size: int, optimizer: str, steps: int, pairs: int
) -> dict[str, Any]:
    """Return the ratios of a step of `fit` to one of the bare loop."""
    count = batch_size * max(50, 4 * steps)
    draw = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=draw)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    images = st.load_data({"train": (pictures, labels), "val": (pictures[:100], labels[:100])})
    turns = Turns(pictures, labels, optimizer, steps, pairs)
    with tempfile.TemporaryDirectory() as folder:
        run = st.fit(
            st.build(model, images.spec, seed=1),
            images,
            folder=f"{folder}/run",
            epochs=1000,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=1e-4,
            observers=[turns],
        )
    trials = turns.trials[1:]
    ratios = [trial["fit"] / trial["bare"] for trial in trials]
    result = {
        "network": model,
        "shape": shape,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "precision": run.recipe.precision,
        "memory_format": run.recipe.memory_format,
        "steps_in_a_turn": steps,
        "pairs": len(trials),
        "ratio": statistics.median(ratios),
        "ratio_upper_bound": upper_bound(ratios),
        "bare_ms": spread(1e3 * trial["bare"] for trial in trials),
        "fit_ms": spread(1e3 * trial["fit"] for trial in trials),
    }
    line = "{network} {shape} batch {batch_size}: ratio {ratio:.3f}, at most {ratio_upper_bound:.3f}".format(**result)
    say(line, f"({result['bare_ms']['median']:.2f} ms bare)")
    return result


def main() -> None:
    """Compare each network."""
    trials = [compare(*case, QUICK_PAIRS if quick() else pairs) for *case, pairs in CASES]
    report(
        "step",
        f"a step of fit against a bare loop of the same network: upper bound of the ratio ≤ {BOUND}",
        all(trial["ratio_upper_bound"] <= BOUND for trial in trials),
        trials,
        ratios={
            f"{one['network']} at {one['shape'][1]}×{one['shape'][2]}": [one["ratio"], one["ratio_upper_bound"]]
            for one in trials
        },
    )


if __name__ == "__main__":
    main()
