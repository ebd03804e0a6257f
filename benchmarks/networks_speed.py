"""Networks: forward and backward of ResNet-50 and DenseNet-121 are no slower than torchvision's own modules."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

import peers
import striate as st
from trials import report, spread, upper_bound

PAIRS = 60
BATCH, SIDE, CLASSES = 4, 224, 1000
NETWORKS = ("resnet50", "densenet121")
BOUND = 1.03


def step_seconds(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return how long one forward and one backward pass take."""
    network.zero_grad()
    start = time.perf_counter()
    nn.functional.cross_entropy(network(images), labels).backward()
    return time.perf_counter() - start


def compare(name: str) -> dict[str, object]:
    """Alternate both, in an order that changes from pair to pair, and return the ratios of ours to theirs."""
    ours = st.build(name, st.Spec.of((3, SIDE, SIDE), CLASSES)).train()
    theirs = getattr(peers.torchvision().models, name)().train()
    theirs.load_state_dict(ours.state_dict())
    images, labels = torch.randn(BATCH, 3, SIDE, SIDE), torch.randint(CLASSES, (BATCH,))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for pair in range(PAIRS + 2):
        contestants = [("ours", ours), ("theirs", theirs)]
        for who, network in contestants if pair % 2 else reversed(contestants):
            taken = step_seconds(network, images, labels)
            if pair >= 2:  # the first two warm up
                seconds[who].append(taken)
    ratios = [one / other for one, other in zip(seconds["ours"], seconds["theirs"], strict=True)]
    return {
        "network": name,
        "ratio": statistics.median(ratios),
        "ratio_upper_bound": upper_bound(ratios),
        "ours_seconds": spread(seconds["ours"]),
        "theirs_seconds": spread(seconds["theirs"]),
    }


def main() -> None:
    """Compare each network."""
    trials = [compare(name) for name in NETWORKS]
    report(
        "networks_speed",
        f"forward and backward, batch {BATCH} at {SIDE}×{SIDE}: upper bound of the ratio to torchvision's ≤ {BOUND}",
        all(float(str(trial["ratio_upper_bound"])) <= BOUND for trial in trials),
        trials,
        ratios={str(trial["network"]): [trial["ratio"], trial["ratio_upper_bound"]] for trial in trials},
    )


if __name__ == "__main__":
    main()
