"""Units: the nine pictures that excite every unit of a ResNet-20 most, of 10,000, at half the speed of evaluation."""

from __future__ import annotations

import statistics
import time

import torch
from torch.nn import functional as F

import striate as st
from striate.inspection.units.top import top_pictures
from striate.prediction.predictor import compute_logits
from trials import report, spread

PAIRS = 5
PICTURES, SIDE, CLASSES = 10_000, 32, 10
BOUND = 2.0


def main() -> None:
    """Alternate a plain evaluation and the search, in an order that changes from pair to pair."""
    spec = st.Spec.of((3, SIDE, SIDE), CLASSES)
    network = st.build("resnet20_cifar10", spec)
    coarse = torch.rand(PICTURES, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    images = (F.interpolate(coarse, (SIDE, SIDE), mode="bilinear") * 255).to(torch.uint8)
    contestants = {
        "evaluation": lambda shown: compute_logits(network, shown, spec.input),
        "search": lambda shown: top_pictures(network, shown),
    }
    for run in contestants.values():
        run(images[:512])  # warms up
    trials: list[dict[str, float]] = []
    for pair in range(PAIRS):
        trial = {}
        for name in contestants if pair % 2 else reversed(contestants):
            start = time.perf_counter()
            contestants[name](images)
            trial[name] = time.perf_counter() - start
        trials.append({**trial, "ratio": trial["search"] / trial["evaluation"]})
    ratio = statistics.median(trial["ratio"] for trial in trials)
    report(
        "units",
        f"the nine best of {PICTURES:,} pictures for every unit of a ResNet-20 take at most {BOUND:g} evaluations",
        ratio <= BOUND,
        trials,
        ratio=spread(trial["ratio"] for trial in trials),
        evaluation_seconds=spread(trial["evaluation"] for trial in trials),
        search_seconds=spread(trial["search"] for trial in trials),
        units=sum(len(best.values) for best in top_pictures(network, images[:9]).layers.values()),
    )


if __name__ == "__main__":
    main()
