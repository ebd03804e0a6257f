"""Looking inside: the maps of every layer of ResNet-50 for one picture take at most twice its plain forward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

import striate as st
from striate.inspection.maps import feature_maps
from trials import report, spread

PAIRS, RESAMPLES = 15, 2_000


def main() -> None:
    """Time both alternately, in pairs whose order alternates too; what `report` says includes the normalisation."""
    spec = st.Spec.of((3, 224, 224), 1000)
    network = st.build("resnet50", spec, seed=0).eval()
    classifier = st.Classifier(network, spec)
    picture = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs = picture.float() / 255

    def forward() -> None:
        with torch.no_grad():
            network(inputs)

    contestants: dict[str, Callable[[], object]] = {
        "forward": forward,
        "layers": lambda: feature_maps(classifier, picture),
        "stages": lambda: feature_maps(classifier, picture, list(network.stages)),  # type: ignore[arg-type, call-overload]
    }
    for contestant in contestants.values():
        contestant()
    trials = []
    for pair in range(PAIRS):
        order = list(contestants) if pair % 2 else list(contestants)[::-1]
        trials.append({name: _seconds(contestants[name]) for name in order})
    ratios = {name: [trial[name] / trial["forward"] for trial in trials] for name in contestants if name != "forward"}
    bounds = {name: _upper_bound(found) for name, found in ratios.items()}
    kept = feature_maps(classifier, picture).layers
    report(
        "maps",
        "the maps of every layer of ResNet-50 for one 224×224 picture take at most 2× its forward pass "
        "(upper end of the 95 % interval of the median ratio)",
        bounds["layers"] <= 2,
        trials,
        seconds={name: spread(trial[name] for trial in trials) for name in contestants},
        ratios={name: {**spread(found), "upper_95": bounds[name]} for name, found in ratios.items()},
        layers=len(kept),
        threads=torch.get_num_threads(),
    )


def _seconds(contestant: Callable[[], object]) -> float:
    start = time.perf_counter()
    contestant()
    return time.perf_counter() - start


def _upper_bound(ratios: list[float]) -> float:
    """Return the upper end of the bootstrap's 95 % interval of the median."""
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    return float(np.quantile([statistics.median(row) for row in drawn], 0.975))


if __name__ == "__main__":
    main()
