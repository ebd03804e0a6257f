"""Augmentation: less than 10 % of a training step of ResNet-18 at 64×64, for any sensible policy."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import nn

import striate as st
from striate.core import machine
from striate.core.machine import Execution
from striate.data.augment.augment import training_batch
from striate.data.augment.policy import Augmentation
from striate.data.batches import Batch
from striate.data.preprocess import normalise
from trials import alternate, report, spread, upper_bound

PAIRS = 60
BATCH, SIDE, CLASSES = 64, 64, 10
STORED = 80  # what crops are cut from: 1.25 times as large
BOUND = 1.10
POLICIES = {
    "photographs": Augmentation(flip="random", shift=SIDE // 12),
    "crop": Augmentation(flip="random"),
    "resized crop": Augmentation(flip="random", crop_area=0.35),
    "affine": Augmentation(flip="random", shift=5, rotation=15, zoom=1.2, shear=8),
    "colour": Augmentation(flip="random", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.1),
    "trivial augment": Augmentation(flip="random", trivial_augment=True, erase=0.25),
    "mixup and cutmix": Augmentation(flip="random", mixup=0.2, cutmix=1.0),
    "heaviest": Augmentation(
        flip="random",
        crop_area=0.35,
        rotation=15,
        zoom=1.2,
        shear=8,
        trivial_augment=True,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        grey=0.1,
        erase=0.25,
        mixup=0.2,
        cutmix=1.0,
    ),
}
LARGER = ("crop", "resized crop", "heaviest")  # policies whose pictures are stored larger


def fastest(network: nn.Module, batch: Batch) -> Execution:
    """Return how `fit` would run the network on batches like this."""
    spec = st.Spec.of((3, SIDE, SIDE), CLASSES)

    def train_once(trial: nn.Module, execution: Execution) -> None:
        with execution.autocast():
            logits = trial(execution.arrange(normalise(batch.images, spec.input)))
        nn.functional.cross_entropy(logits.float(), batch.labels).backward()

    execution, _ = machine.fastest_execution(
        network, train_once, precision=None, memory_format=None, compiled=None, steps=PAIRS, key="augmentation"
    )
    return execution


def main() -> None:
    """Alternate a training step with and without each policy."""
    machine.keep_buffers()
    spec = st.Spec.of((3, SIDE, SIDE), CLASSES)
    device = machine.device()
    labels, index = torch.randint(CLASSES, (BATCH,)), torch.arange(BATCH)
    batches = {
        side: Batch(torch.randint(0, 256, (BATCH, 3, side, side), dtype=torch.uint8), labels, index)
        for side in (SIDE, STORED)
    }
    network = st.build("resnet18", spec).train()
    execution = fastest(network, batches[SIDE])
    execution.place(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step(policy: Augmentation, side: int) -> Callable[[], None]:
        def once() -> None:
            batch = batches[side]
            batch = Batch(batch.images.to(device), batch.labels.to(device), batch.index.to(device))
            pictures, targets = training_batch(batch, policy, spec, size=(SIDE, SIDE), epoch=0, seed=0)
            with execution.autocast():
                logits = network(execution.arrange(pictures))
            nn.functional.cross_entropy(logits.float(), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return once

    contestants = {"none": step(Augmentation(), SIDE)}
    contestants |= {name: step(policy, STORED if name in LARGER else SIDE) for name, policy in POLICIES.items()}
    trials = alternate(contestants, PAIRS)
    ratios = {name: [trial[name] / trial["none"] for trial in trials] for name in POLICIES}
    bounds = {name: upper_bound(of_policy) for name, of_policy in ratios.items()}
    report(
        "augmentation",
        f"a ResNet-18 step with augmentation, batch {BATCH} at {SIDE}×{SIDE}: upper bound of the ratio ≤ {BOUND}",
        max(bounds.values()) <= BOUND,
        trials,
        step_seconds=spread(trial["none"] for trial in trials),
        execution=repr(execution),
        ratios={name: [statistics.median(ratios[name]), bounds[name]] for name in POLICIES},
    )


if __name__ == "__main__":
    main()
