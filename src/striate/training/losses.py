"""The losses: one number from logits and labels, auxiliary heads included."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from striate.core.errors import NetworkError
from striate.networks.contract import Outputs
from striate.training.recipe import Recipe


def compute_loss(outputs: Tensor | Outputs, targets: Tensor, network: nn.Module, recipe: Recipe) -> Tensor:
    """Return the mean loss of a batch, each auxiliary head added with the weight that the network gives it.

    Args:
        outputs: logits (N, K), or `Outputs` where the network has auxiliary heads.
        targets: labels (N,) int64, or the share of each class (N, K) float32 where pictures are mixed.
    """
    if isinstance(outputs, Tensor):
        return _of_logits(outputs, targets, recipe)
    weights = getattr(network, "auxiliary", None)
    if not isinstance(weights, Mapping):
        raise NetworkError(
            "A network that returns Outputs must have `auxiliary`: name of each head → weight of its loss."
        )
    unknown = sorted(set(outputs.auxiliary) - set(weights))
    if unknown:
        raise NetworkError(f"`auxiliary` must name every auxiliary head of the network, got none named {unknown[0]!r}.")
    total = _of_logits(outputs.logits, targets, recipe)
    for name, logits in outputs.auxiliary.items():
        total = total + float(weights[name]) * _of_logits(logits, targets, recipe)
    return total


def main_logits(outputs: Tensor | Outputs) -> Tensor:
    """Return the logits (N, K) of the network's own head."""
    return outputs if isinstance(outputs, Tensor) else outputs.logits


def count_correct(logits: Tensor, targets: Tensor) -> float:
    """Return how many of the logits (N, K) are right; a mixed picture counts by the share of the class that is said."""
    said = logits.argmax(1)
    if targets.ndim == 1:
        return float((said == targets).sum())
    return float(targets.gather(1, said[:, None]).sum())


def _of_logits(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """``cross_entropy``: softmax, targets smoothed (Szegedy et al., Rethinking the Inception Architecture, CVPR 2016,
    section 7). ``hinge``: the linear SVM of several classes (Weston & Watkins 1999, Crammer & Singer 2001 share the
    margin): Σ over wrong classes of max(0, 1 − (right − wrong)), divided by K.
    """
    logits = logits.float()  # a loss summed in bf16 loses the small differences it is about
    if recipe.loss == "hinge":
        return F.multi_margin_loss(logits, targets)
    return F.cross_entropy(logits, targets, label_smoothing=recipe.label_smoothing)
