"""Feed-forward networks: every unit sees every pixel, no weight is shared.

The networks that convolution replaced. With no hidden layer it is softmax regression, whose weights are pictures of the
classes; with one hidden layer of 300 units and tanh it is LeCun et al.'s 784-300-10.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86(11),
1998, section III.C.4.

====================  ==============  ==========
name                  hidden units    parameters (28×28, 10 classes)
====================  ==============  ==========
``feedforward0``      none            7,850
``feedforward1``      300             238,510
``feedforward2``      300, 100        266,610
====================  ==============  ==========

Differences from the paper: ReLU instead of scaled tanh, He initialisation, softmax with cross-entropy instead of
squared error, 28×28 pictures.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from striate.core.errors import NetworkError
from striate.networks.zoo.registry import enter

_PAPER = "LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998"


class FeedForward(nn.Module):
    """Fully connected layers with ReLU between them.

    Args:
        shape: (C, H, W) of one picture.
        classes: K.
        hidden: units of each hidden layer, first to last; empty for none.

    Forward: images (N, C, H, W) → logits (N, K).
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, hidden: tuple[int, ...] = (300,)) -> None:
        super().__init__()
        if any(units < 1 for units in hidden):
            raise NetworkError(f"Every hidden layer must have at least one unit, got hidden={hidden}.")
        sizes = [math.prod(shape), *hidden]
        self.hidden = nn.Sequential(*(_fully_connected(*pair) for pair in pairwise(sizes)))
        self.head = nn.Linear(sizes[-1], classes)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The layers by name, input to output."""
        return {**{f"hidden.{name}": layer for name, layer in self.hidden.named_children()}, "head": self.head}

    def forward(self, images: Tensor) -> Tensor:
        features = images.flatten(1)  # (N, C·H·W)
        logits: Tensor = self.head(self.hidden(features))
        return logits


def _fully_connected(inputs: int, units: int) -> nn.Module:
    linear = nn.Linear(inputs, units)
    nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.ReLU())


@enter(
    "feedforward0", year=1998, title="softmax regression: no hidden layer", paper=_PAPER, shape=(1, 28, 28), classes=10
)
def feedforward0(*, shape: tuple[int, int, int], classes: int) -> FeedForward:
    """No hidden layer: one weight per pixel and class."""
    return FeedForward(shape, classes, hidden=())


@enter("feedforward1", year=1998, title="one hidden layer of 300 units", paper=_PAPER, shape=(1, 28, 28), classes=10)
def feedforward1(*, shape: tuple[int, int, int], classes: int, hidden: int = 300) -> FeedForward:
    """One hidden layer of ``hidden`` units."""
    return FeedForward(shape, classes, hidden=(hidden,))


@enter(
    "feedforward2", year=1998, title="two hidden layers, 300 and 100 units", paper=_PAPER, shape=(1, 28, 28), classes=10
)
def feedforward2(*, shape: tuple[int, int, int], classes: int, hidden: tuple[int, ...] = (300, 100)) -> FeedForward:
    """Two hidden layers; any number of them with ``hidden``."""
    return FeedForward(shape, classes, hidden=hidden)
