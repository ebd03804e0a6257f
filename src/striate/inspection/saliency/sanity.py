"""Whether a map depends on what the network has learned.

J. Adebayo, J. Gilmer, M. Muelly, I. Goodfellow, M. Hardt, B. Kim, "Sanity Checks for Saliency Maps", NeurIPS 2018,
section 3: the weights are randomised from the last layer to the first, and the map of the network so spoilt is compared
with the map by Spearman's rank correlation. A map that stays the same shows the picture's edges or the
architecture, not what was learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.copying import copy_of
from striate.core.errors import NetworkError
from striate.inspection.saliency.registry import Explain

HIGHEST_CORRELATION = 0.3  # |ρ| from which a map is said not to depend on the weights
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the layers, from the last one, that the curve has random
DRAWS = 6  # of all weights at random; a coarse map alone has |ρ| over 0.3 with any other one often enough
_ALIKE = 1e-6  # of the largest value: a map that varies by less is constant


@dataclass(frozen=True, eq=False)
class Randomisation:
    """A map compared with that of the same network with random weights.

    Args:
        correlation: (N,) Spearman's ρ with all weights random, mean of `DRAWS` draws; 1 for a constant map, which
            says the same whatever the network has learned.
        curve: (len(`SHARES`), N), ρ as layers become random from the last to the first, in one draw.
        maps: (N, H, W) of that draw with all weights random.
        constant: (N,) bool, the map is the same everywhere.
    """

    correlation: Tensor
    curve: Tensor
    maps: Tensor
    constant: Tensor

    @property
    def passes(self) -> Tensor:
        """(N,) bool: |ρ| is at most `HIGHEST_CORRELATION`."""
        return self.correlation.abs() <= HIGHEST_CORRELATION


def compare_with_random_weights(
    explain: Explain, network: nn.Module, inputs: Tensor, targets: Tensor, maps: Tensor
) -> Randomisation:
    """Make the maps again as the weights of a copy of the network become random, and correlate.

    That is `DRAWS` + len(`SHARES`) − 1 times the work of the maps. The network itself is not touched.

    Args:
        explain: what made the maps.
        network: in evaluation mode.
        inputs: (N, C, H, W) normalised.
        targets: (N,) the class that is asked about.
        maps: (N, H, W).

    Raises:
        NetworkError: the network cannot be copied.
    """
    spoilt = _copied(network)
    layers = layers_from_the_last(network, inputs[:1])
    generator = torch.Generator().manual_seed(0)
    curve, random_maps, done = [], maps, 0
    for share in SHARES:
        upto = round(share * len(layers))
        randomise(spoilt, layers[done:upto], generator)
        done = upto
        random_maps = explain(spoilt, inputs, targets)
        curve.append(correlate(maps, random_maps))
    draws = [curve[-1]]
    for _ in range(DRAWS - 1):
        randomise(spoilt, layers, generator)
        draws.append(correlate(maps, explain(spoilt, inputs, targets)))
    return Randomisation(
        correlation=torch.stack(draws).mean(0),
        curve=torch.stack(curve),
        maps=random_maps.cpu(),
        constant=torch.tensor([is_constant(map_) for map_ in maps]),
    )


def layers_from_the_last(network: nn.Module, inputs: Tensor) -> list[str]:
    """Return the paths of the modules that have weights of their own, the last to run first.

    Those that do not run when the network answers come at the end.
    """
    own = {path: module for path, module in network.named_modules() if next(_numbers(module), None) is not None}
    ran: dict[str, None] = {}

    def note(path: str) -> None:
        ran.pop(path, None)  # a layer that runs again counts as often as it runs, the last time decides
        ran[path] = None

    hooks = [module.register_forward_hook(lambda *_, path=path: note(path)) for path, module in own.items()]
    try:
        with torch.no_grad():
            network(inputs.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return [*reversed(ran), *(path for path in own if path not in ran)]


@torch.no_grad()
def randomise(network: nn.Module, layers: Sequence[str], generator: torch.Generator) -> None:
    """Re-initialise modules in place, frozen ones too, and have batch normalisation forget its statistics.

    Weights are drawn as K. He et al. 2015 do, so that signals keep their size through any depth; biases become 0; what
    has one dimension besides (scales) changes places.

    Args:
        layers: paths of modules; those inside them are left as they are.
    """
    for path in layers:
        module = network.get_submodule(path)
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
        for name, numbers in module.named_parameters(recurse=False):
            if not numbers.is_floating_point():
                continue
            if numbers.ndim >= 2:
                inputs_of_a_unit = numbers[0].numel()
                fresh = torch.randn(numbers.shape, generator=generator) * (2 / inputs_of_a_unit) ** 0.5
            elif "bias" in name:
                fresh = torch.zeros(numbers.shape)
            else:
                fresh = numbers.flatten()[torch.randperm(numbers.numel(), generator=generator).to(numbers.device)]
            numbers.copy_(fresh.view(numbers.shape))


def _numbers(module: nn.Module) -> Iterator[Tensor]:
    """Yield what `randomise` changes of a module."""
    yield from module.parameters(recurse=False)
    if isinstance(module, nn.modules.batchnorm._NormBase):
        yield from module.buffers(recurse=False)


def _copied(network: nn.Module) -> nn.Module:
    try:
        return copy_of(network)
    except Exception as error:  # whatever a foreign module raises
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise NetworkError(
            f"The network must be copied to check its maps, and cannot be ({reason}). Pass check=False to do without."
        ) from error


def correlate(maps: Tensor, others: Tensor) -> Tensor:
    """Return Spearman's ρ of each map with another one.

    Args:
        maps, others: (N, H, W).

    Returns:
        (N,) float64. It is not defined where one is constant: 1 where the map itself is, which nothing can change; 0
        where the other one alone is.
    """
    pairs = zip(maps.detach().cpu().double(), others.detach().cpu().double(), strict=True)
    return torch.tensor([_spearman(one.flatten(), two.flatten()) for one, two in pairs], dtype=torch.float64)


def _spearman(one: Tensor, two: Tensor) -> float:
    if is_constant(one):
        return 1.0
    if is_constant(two):
        return 0.0
    ranks = torch.stack([_ranks(one), _ranks(two)])
    return float(torch.corrcoef(ranks)[0, 1])


def is_constant(values: Tensor) -> bool:
    """Whether a map says the same everywhere, but for rounding, or nothing that is a number."""
    finite = bool(values.isfinite().all())
    return not finite or float(values.max() - values.min()) <= _ALIKE * float(values.abs().max())


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each value, equal ones sharing the mean of theirs."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts.double() - 1) / 2)[place]
    return ranks
