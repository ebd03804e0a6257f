"""The first weights of a text network, chosen after the activation that each layer's output goes through.

- He normal, fan-in (He et al., Delving deep into rectifiers, 2015, section 2.2) before the ReLU family, and
  before maxout, which like ReLU keeps only part of what arrives;
- LeCun normal, variance 1 / fan-in, before SELU (Klambauer et al., Self-normalizing neural networks, 2017,
  section 3);
- Xavier uniform (Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks,
  2010, section 4.2) before tanh, sigmoid, softmax and where nothing follows;
- biases 0.

Every draw comes from PyTorch's global generator, so that ``torch.manual_seed`` makes a build reproducible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from striate.networks.text.layers import ACTIVATIONS
from striate.networks.text.plan import Step
from striate.networks.text.tree import Convolution, FullyConnected, Suffix

Weighted = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear

_BOUNDED = ("sigmoid", "tanh", "scaledtanh", "softmax")
_PRELU_SLOPE = 0.25  # PyTorch's first value, and the paper's
_LEAKY_SLOPE = 0.01


def initialise(layer: Weighted, activation: Suffix | None) -> None:
    """Draw the weights of ``layer``, whose output goes through ``activation``, and set its bias to 0."""
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    if activation is None or activation.name in _BOUNDED:
        nn.init.xavier_uniform_(layer.weight)
    elif activation.name == "selu":
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    else:
        nn.init.kaiming_normal_(layer.weight, a=_slope(activation), nonlinearity="leaky_relu")


def first_activation(suffixes: Iterable[Suffix], otherwise: Suffix | None) -> Suffix | None:
    """The first activation among ``suffixes``, or ``otherwise``."""
    return next((suffix for suffix in suffixes if suffix.name in ACTIVATIONS), otherwise)


def following(steps: Sequence[Step], after: Suffix | None) -> list[Suffix | None]:
    """For each step the activation that its output meets before any weights; ``after`` follows the last."""
    met: list[Suffix | None] = []
    for step in reversed(steps):
        met.append(after)
        after = arriving((step,), after)
    return met[::-1]


def arriving(steps: Iterable[Step], after: Suffix | None) -> Suffix | None:
    """The activation that what enters ``steps`` meets before any weights; ``after`` if it meets neither."""
    for step in steps:
        if isinstance(step.layer, Suffix) and step.layer.name in ACTIVATIONS:
            return step.layer
        if isinstance(step.layer, Convolution | FullyConnected) or step.branches:
            return None
    return after


def _slope(activation: Suffix) -> float:
    if activation.name == "prelu":
        return _PRELU_SLOPE
    if activation.name == "leaky":
        return _LEAKY_SLOPE if activation.value is None else activation.value
    return 0.0
