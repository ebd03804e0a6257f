"""Muon: the momentum of each layer's weights, made orthogonal, so that every direction in it learns as fast."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from striate.training.optim.rule import Rule, State, Step, zeros_like
from striate.training.recipe import Recipe

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # chosen by Jordan for the slope at 0; singular values end in 0.7 … 1.2
_ITERATIONS = 5
_LEAST_NORM = 1e-7
_ADAMW_RMS = 0.2  # of an update by AdamW, measured by Liu et al.


def _first_state(parameter: nn.Parameter, recipe: Recipe) -> State:
    return {"momentum": zeros_like(parameter)}


def _update(step: Step, recipe: Recipe) -> None:
    """v ← μ v + g, w ← w − rate · 0.2 · √max(rows, columns) · orthogonal(g + μ v).

    K. Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024, and Jordan's airbench94_muon, with
    filters flattened to one row each. The factor gives the update the root mean square of one by AdamW, so that the two
    share a learning rate and a weight decay (Liu et al., Muon is Scalable for LLM Training, arXiv 2502.16982, 2025,
    section 2.2).
    """
    step.shrink()
    velocities = step.remembered("momentum")
    torch._foreach_mul_(velocities, recipe.momentum)
    torch._foreach_add_(velocities, step.gradients)
    directions = torch._foreach_add(step.gradients, velocities, alpha=recipe.momentum)
    for weight, direction in zip(step.parameters, directions, strict=True):
        matrix = direction.flatten(1)  # (filters, channels · height · width)
        rate = step.rate * _ADAMW_RMS * max(matrix.shape) ** 0.5
        weight.add_(orthogonalise(matrix).view(weight.shape), alpha=-rate)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return the nearest matrix with singular values 1, roughly: they come out between 0.7 and 1.2.

    Five Newton–Schulz iterations X ← F X, F = a + b A + c A², A = X Xᵀ, from X = matrix / ‖matrix‖ (Bernstein &
    Newhouse, Old Optimizer, New Norm, 2024, for the idea; Jordan 2024 for the coefficients). As F and A commute, A
    becomes F A F, and X is multiplied once, with the product of all F: for filters, which are wide, two to three times
    less work. Small singular values need the precision of fp32 for it.

    Args:
        matrix: (rows, columns).
    """
    a, b, c = _COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp_min(_LEAST_NORM)
    gram = wide @ wide.T
    product = torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
    for _ in range(_ITERATIONS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product
        gram = factor @ gram @ factor
    orthogonal: Tensor = product @ wide
    return orthogonal.T if matrix.shape[0] > matrix.shape[1] else orthogonal


MUON = Rule(_first_state, _update)
