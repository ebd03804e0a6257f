"""Fine-tuning: first the new head alone, then the whole network, what is near the picture slower than what is far."""

from __future__ import annotations

import math

from torch import nn

from striate.core.errors import NetworkError
from striate.networks.contract import stages_of
from striate.training.recipe import Phase


def fine_tuning_phases(
    network: nn.Module, epochs: float, *, head_epochs: int, least_factor: float
) -> tuple[Phase, ...]:
    """Return the phases of a run that starts from trained weights.

    In the first phase all stages but the last one with parameters, the head, are frozen, and their norms keep their
    statistics: a head that is still random would send the others gradients that undo what they know. Then all learn,
    with a factor on the learning rate that falls by the same ratio from stage to stage, from 1 at the head to
    ``least_factor`` at the input: what comes first is general and should change least (discriminative rates and
    gradual unfreezing of Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018,
    sections 3.2 and 3.3, here in two steps). 1/64 gives the seven stages of a ResNet 1, ½, ¼ … 1/64.

    Args:
        network: may be on the meta device.
        epochs: of the whole run.
        head_epochs: of the first phase; fewer where the run has no more than these, so that the second always comes.
        least_factor: of the first stage, more than 0 and at most 1.

    Raises:
        NetworkError: the network has no stage before its head.
    """
    stages = stages_of(network)
    learning = [name for name, stage in stages.items() if next(stage.parameters(), None) is not None]
    if len(learning) < 2:
        raise NetworkError(
            f"Fine-tuning needs a network of two stages with parameters or more, a body and a head, got "
            f"{len(learning)}. Train it with phases of your own, or without."
        )
    *body, head = learning
    factors = {
        name: round(least_factor ** (depth / len(body)), 6) for depth, name in enumerate(reversed(body), start=1)
    }
    first = min(head_epochs, math.ceil(epochs) - 1)
    whole = Phase(epochs=epochs - first, learning_rates={name: factors[name] for name in body})
    if not first:
        return (whole,)
    return (Phase(epochs=first, frozen=tuple(name for name in stages if name != head)), whole)
