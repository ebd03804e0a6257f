"""Rare classes: of 6,000 pictures of Fashion-MNIST, one class keeps 2 % of its own. What finds it on the balanced test?

Each way of training sees the same pictures with the same seeds; val is cut likewise, as it would be.
"""

from __future__ import annotations

import statistics
import tempfile
from typing import Any

import torch

import striate as st
from striate.prediction.predictor import compute_logits
from trials import data_folder, report, spread

RARE = ("Shirt", "Bag")  # like four other classes, and like none
KEPT, TRAIN, VAL = 0.02, 6_000, 1_000
SEEDS = range(3)
MODEL = "conv 16@5x5 stride 2 pad 2 bn relu | conv 32@3x3 stride 2 pad 1 bn relu | conv 64@3x3 bn relu | gap | fc 10"
RECIPE = st.Recipe(epochs=4, batch_size=64, learning_rate=0.01, shift=1, flip="random")
WAYS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "class_weights = balanced": {"class_weights": "balanced"},
    "sampling = balanced": {"sampling": "balanced"},
    "loss = focal": {"loss": "focal"},
}


def cut(split: st.Split, pictures: int, rare: int, seed: int) -> st.Split:
    """Return some pictures of a split, and of one class only few of those."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:pictures]
    own = split.labels[order] == rare
    few = max(1, round(KEPT * int(own.sum())))
    return split[torch.cat([order[~own], order[own][:few]])]


def one(whole: st.ImageSet, rare: str, way: str, seed: int) -> dict[str, Any]:
    """Train, and score all pictures of test."""
    number = whole.spec.task.class_names.index(rare)
    train, val = cut(whole.train, TRAIN, number, seed), cut(whole.val, VAL, number, seed)
    images = st.ImageSet(train, val, whole.test, name="imbalanced")
    with tempfile.TemporaryDirectory() as folder:
        network = st.build(MODEL, images.spec, seed=seed)
        recipe = RECIPE.changed(seed=seed, **WAYS[way])
        run = st.fit(network, images, recipe, folder=f"{folder}/run", progress=False)
    said = compute_logits(run.network, whole.test.images, whole.spec.input).argmax(1)
    right = said == whole.test.labels
    recalls = [right[whole.test.labels == k].double().mean().item() for k in range(whole.spec.task.classes)]
    return {
        "rare": rare,
        "way": way,
        "seed": seed,
        "pictures_of_the_rare": int((train.labels == number).sum()),
        "recall_of_the_rare": recalls[number],
        "precision_of_the_rare": right[said == number].double().mean().item() if (said == number).any() else 0.0,
        "recall_of_the_others": statistics.fmean(recalls[:number] + recalls[number + 1 :]),
        "macro_recall": statistics.fmean(recalls),
        "train_seconds": run.train_seconds,
    }


def main() -> None:
    """Train each way with each seed and each rare class, in turns."""
    whole = st.load_data("fashion_mnist", data_dir=data_folder("fashion-mnist"))
    trials = [one(whole, rare, way, seed) for rare in RARE for seed in SEEDS for way in WAYS]
    figures = {
        rare: {
            way: {
                name: spread(t[name] for t in trials if (t["rare"], t["way"]) == (rare, way))
                for name in ("recall_of_the_rare", "precision_of_the_rare", "recall_of_the_others", "macro_recall")
            }
            for way in WAYS
        }
        for rare in RARE
    }
    holds = all(
        figures[rare][way]["recall_of_the_rare"]["mean"] > figures[rare]["nothing"]["recall_of_the_rare"]["mean"]
        for rare in RARE
        for way in ("class_weights = balanced", "sampling = balanced")
    )
    claim = (
        "class weights and balanced sampling find more of a class that has 2 % of its pictures, as a mean of 3 seeds"
    )
    report("imbalance", claim, holds, trials, **figures)


if __name__ == "__main__":
    main()
