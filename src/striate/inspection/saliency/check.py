"""The checks that every map comes with, whatever made it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.spec import TaskSpec
from striate.inspection.saliency import deletion, sanity
from striate.inspection.saliency.registry import Explain
from striate.networks import contract


@dataclass(frozen=True, eq=False)
class Check:
    """What is known of how far maps can be trusted.

    Args:
        randomisation: whether they depend on what the network has learned.
        removal: whether the pixels that they point at are those that the answers rest on.
    """

    randomisation: sanity.Randomisation
    removal: deletion.Removal

    @property
    def passes(self) -> Tensor:
        """(N,) bool: both checks."""
        return self.randomisation.passes & self.removal.passes

    def warnings(self, number: int) -> list[str]:
        """Return what speaks against one map, in sentences; empty where nothing does."""
        if self.randomisation.constant[number]:
            return ["This map is the same everywhere: it says nothing about what the answer rests on."]
        found = []
        if not self.randomisation.passes[number]:
            found.append(
                f"Do not trust this map: with random weights it is too much the same (ρ = {self._correlation(number)}, "
                f"at most ±{sanity.HIGHEST_CORRELATION} passes), so it does not show what the network has learned."
            )
        if not self.removal.passes[number]:
            found.append(
                "Not shown to beat chance: covering and uncovering the pixels that the map points at moves the "
                "probability no more than a random map of the same grain may."
            )
        return found

    def randomisation_in_words(self, number: int) -> str:
        """Return what random weights did to one map."""
        verdict = "passes" if self.randomisation.passes[number] else "⚠ too much the same"
        return f"with random weights (own colours)\nρ = {self._correlation(number)}: {verdict}"

    def removal_in_words(self, number: int) -> str:
        """Return what covering and uncovering pixels did to the probability, in lines."""
        removal = self.removal
        lines = [
            f"deletion {removal.deletion[number]:.2f} (random {_between(removal.deletion_interval[number])})",
            f"insertion {removal.insertion[number]:.2f} (random {_between(removal.insertion_interval[number])})",
        ]
        return "\n".join(lines if removal.passes[number] else [*lines, "⚠ no better than random maps"])

    def words(self, number: int) -> str:
        """Return the numbers of one map in a line."""
        removal = self.removal
        return (
            f"random weights: ρ = {self._correlation(number)}; "
            f"deletion {removal.deletion[number]:.2f} (random {_between(removal.deletion_interval[number])}, "
            "lower is better); "
            f"insertion {removal.insertion[number]:.2f} (random {_between(removal.insertion_interval[number])}, "
            "higher is better)"
        )

    def _correlation(self, number: int) -> str:
        return f"{float(self.randomisation.correlation[number]):.3f}".replace("-", "−")


def check_map(
    explain: Explain, network: nn.Module, inputs: Tensor, targets: Tensor, task: TaskSpec, maps: Tensor | None = None
) -> Check:
    """Check the maps of a method, your own too.

    Args:
        explain: (network, inputs, targets) → maps (N, H, W).
        network: left as it is.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
        task: what the logits mean.
        maps: what it made of them, where that is known already.

    Raises:
        NetworkError: the network cannot be copied.
    """
    with contract.evaluating(network):
        maps = explain(network, inputs, targets) if maps is None else maps
        maps = torch.where(maps.isfinite(), maps, 0)
        return Check(
            sanity.compare_with_random_weights(explain, network, inputs, targets, maps),
            deletion.compare_with_random_maps(network, inputs, targets, maps, task),
        )


def _between(interval: Tensor) -> str:
    low, high = interval.clamp(0, 1).tolist()
    return f"{low:.2f} to {high:.2f}"
