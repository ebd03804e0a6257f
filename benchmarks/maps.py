"""Looking inside: the maps of every layer of ResNet-50 for one picture take at most twice its plain forward pass."""

from __future__ import annotations

import torch

import striate as st
from trials import alternate, report, spread, upper_bound

PAIRS = 15
BOUND = 2.0


def main() -> None:
    """Time both alternately; what is timed of ours includes the normalisation of the picture."""
    spec = st.Spec.of((3, 224, 224), 1000)
    network = st.build("resnet50", spec)
    classifier = st.Classifier(network, spec)
    picture = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs = picture / 255

    def forward() -> None:
        with torch.no_grad():
            network(inputs)

    trials = alternate({"forward": forward, "maps": lambda: st.feature_maps(classifier, picture)}, PAIRS)
    ratios = [trial["maps"] / trial["forward"] for trial in trials]
    report(
        "maps",
        f"the maps of every layer of ResNet-50 for one 224×224 picture: upper bound of the ratio to its forward pass "
        f"≤ {BOUND:g}",
        upper_bound(ratios) <= BOUND,
        trials,
        ratio=spread(ratios),
        ratio_upper_bound=upper_bound(ratios),
        layers=len(st.feature_maps(classifier, picture).layers),
    )


if __name__ == "__main__":
    main()
