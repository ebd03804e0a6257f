"""Penalties on large weights: what the loss is given besides the pictures."""

from __future__ import annotations

from typing import final

import torch
from torch import nn

from striate.training.optim import decaying_parameters
from striate.training.recipe import Recipe


@final
class Penalty:
    """½ l2 Σw² + l1 Σ|w|, as a part of the loss, over the weights that decay: no norms, no biases.

    Its gradient, l2 · w + l1 · sign(w), is added to that of the pictures, which is exact and needs no pass of its own.
    It goes through the optimiser's momentum and scaling as the rest of the gradient does; ``weight_decay`` does not
    (Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019). Sources: Krogh & Hertz, A simple weight
    decay can improve generalization, NIPS 1991; Tibshirani, Regression shrinkage and selection via the lasso, 1996.

    Args:
        network: whose weights are penalised.
        recipe: ``l2`` and ``l1``.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self._parameters = decaying_parameters(network, recipe)
        self._recipe = recipe

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the penalty's gradient to those that are there; what is frozen has none."""
        for weight in self._parameters:
            if weight.grad is not None and self._recipe.l2:
                weight.grad.add_(weight, alpha=self._recipe.l2)
            if weight.grad is not None and self._recipe.l1:
                weight.grad.add_(weight.sign(), alpha=self._recipe.l1)

    @torch.no_grad()
    def measured(self) -> dict[str, float]:
        """Return what the history says: ``l2_penalty``, and ``l1_penalty`` where there is one.

        Where the recipe has no ``l2``, ``l2_penalty`` is ½λΣw² with λ = ``weight_decay``: what the decay of plain SGD
        amounts to, the learning rate taken out.
        """
        decay = self._recipe.l2 or self._recipe.weight_decay
        squares = sum(torch.linalg.vector_norm(w, dtype=torch.float64).item() ** 2 for w in self._parameters)
        penalties = {"l2_penalty": 0.5 * decay * squares}
        if self._recipe.l1:
            sums = (torch.linalg.vector_norm(w, 1, dtype=torch.float64).item() for w in self._parameters)
            penalties["l1_penalty"] = self._recipe.l1 * sum(sums)
        return penalties
