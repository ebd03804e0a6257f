"""How much augmentation do few photographs want, and how much do many? Chosen on val: test is not read.

Run ``python benchmarks/policies.py``: 300 clothing photographs at 64×64, and 5,000 and 20,000 of CIFAR-10's JPEGs at
32×32. Every policy has the same network, epochs and seeds.
"""

from __future__ import annotations

import json
import tempfile
from typing import Any, NamedTuple

import torch

import striate as st
from trials import data_folder, report, spread

SEEDS = range(2)
COLOURS: dict[str, Any] = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
RECIPE = st.Recipe(batch_size=64, learning_rate=5e-3, momentum=0.85, beta2=0.95, weight_decay=0.05, label_smoothing=0.1)


class Data(NamedTuple):
    """Pictures to learn from, and what learns them for how long."""

    source: str
    side: int
    train: int
    val: int
    epochs: int
    model: str


SETS = {
    "clothing, 300": Data("clothing.tar.gz", 64, 300, 341, 30, "speednet_small(widths=(32,64,128))"),
    "CIFAR-10, 5,000": Data("cifar10/cifar10-jpeg.tar.gz", 32, 5_000, 2_000, 8, "speednet_small(widths=(16,32,64))"),
    "CIFAR-10, 20,000": Data("cifar10/cifar10-jpeg.tar.gz", 32, 20_000, 2_000, 4, "speednet_small(widths=(16,32,64))"),
}


def policies(side: int) -> dict[str, dict[str, Any]]:
    """Return what is compared, from the least change to the most."""
    shifted = {"flip": "random", "shift": side // 12}
    return {
        "nothing": {},
        "flip": {"flip": "random"},
        "flip, shift": shifted,
        "flip, shift, colours": {**shifted, **COLOURS},
        "flip, resized crops": {"flip": "random", "crop_area": 0.5},
        "flip, shift, TrivialAugment": {**shifted, "trivial_augment": True},
    }


def some(split: st.Split, count: int) -> st.Split:
    """Return so many pictures of a split, the same ones every time."""
    return split[torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]]


def main() -> None:
    """Train every policy with every seed, in turns."""
    trials: list[dict[str, Any]] = []
    for name, data in SETS.items():
        whole = st.load_data(data_folder(".") / data.source, size=data.side)
        images = st.ImageSet(some(whole.train, data.train), some(whole.val, data.val), whole.test, name="some")
        for seed in SEEDS:
            for policy, fields in policies(data.side).items():
                recipe = RECIPE.changed(epochs=data.epochs, seed=seed, **fields)
                network = st.build(data.model, images.spec, seed=seed)
                with tempfile.TemporaryDirectory() as folder:
                    run = st.fit(network, images, recipe, folder=f"{folder}/run", progress=False)
                last = run.history[-1]
                trial = {"data": name, "policy": policy, "seed": seed, "val_accuracy": run.val_accuracy}
                trials.append({**trial, "last_val_accuracy": last["val_accuracy"], "train_accuracy": last["accuracy"]})
                print(json.dumps(trials[-1]), flush=True)
    figures = {
        name: {
            policy: spread(t["val_accuracy"] for t in trials if (t["data"], t["policy"]) == (name, policy))
            for policy in policies(data.side)
        }
        for name, data in SETS.items()
    }
    few = figures["clothing, 300"]
    holds = max(few, key=lambda policy: few[policy]["mean"]) != "nothing"
    report(
        "policies", "300 photographs are learned better with some augmentation than with none", holds, trials, **figures
    )


if __name__ == "__main__":
    main()
