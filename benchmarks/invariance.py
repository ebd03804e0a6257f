"""Invariance: blurring before subsampling keeps more answers as they are when a picture is shifted."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import striate as st
from striate.inspection.invariance import invariance
from trials import data_folder, report, spread

SEEDS = range(3)
TRAINED, EPOCHS = 5000, 4  # pictures that are learned from: this is about the pools, not about the accuracy
PICTURES = 256  # of test, on which the shift consistency is measured
POOLS = {"maxpool": "maxpool 2", "max-blur": "maxpool 2 stride 1 | blurpool 3 stride 2 pad 1"}
NETWORK = "conv 8@3x3 pad 1 relu | {0} | conv 16@3x3 pad 1 relu | {0} | conv 32@3x3 pad 1 relu | {0} | flatten | fc 10"


def measure(images: st.ImageSet, pool: str, seed: int) -> dict[str, Any]:
    """Train one network and look at it on the test split."""
    start = time.perf_counter()
    network = st.build(NETWORK.format(POOLS[pool]), images.spec, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        run = st.fit(network, images, folder=f"{folder}/run", epochs=EPOCHS, seed=seed, progress=False)
    seen = invariance(run.network, images.test, count=PICTURES)
    return {
        "pool": pool,
        "seed": seed,
        "accuracy": st.evaluate(run.network, images.test).accuracy,
        "shift_consistency": seen.consistency,
        "areas": {kind: effect.area for kind, effect in seen.effects.items()},
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """Train both with each seed and compare them in pairs."""
    whole = st.load_data("fashion-mnist", data_dir=data_folder("fashion-mnist"))
    images = st.ImageSet(whole.train[:TRAINED], whole.val[:1000], whole.test, name="part of Fashion-MNIST")
    trials = [measure(images, pool, seed) for seed in SEEDS for pool in POOLS]
    figures = {
        name: {pool: spread(one[name] for one in trials if one["pool"] == pool) for pool in POOLS}
        for name in ("accuracy", "shift_consistency")
    }
    pairs = list(zip(trials[::2], trials[1::2], strict=True))
    gains = {
        f"{name}_gain": spread(blurred[name] - plain[name] for plain, blurred in pairs)
        for name in ("accuracy", "shift_consistency")
    }
    report(
        "invariance",
        "max-blur pooling has a higher shift consistency than max pooling on Fashion-MNIST, with every seed",
        gains["shift_consistency_gain"]["min"] > 0,
        trials,
        network=NETWORK,
        pools=POOLS,
        trained_pictures=TRAINED,
        epochs=EPOCHS,
        pictures=PICTURES,
        **figures,
        **gains,
    )


if __name__ == "__main__":
    main()
