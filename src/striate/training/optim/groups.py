"""Groups: the parameters that always learn alike, their rule, learning rates and decay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from striate.core.errors import NetworkError, RecipeError, suggest
from striate.networks.contract import auxiliary_heads_of, leaves_of, stages_of
from striate.training.recipe import Phase, Recipe

_GROUP = ("params", "learning_rate_factor", "weight_decay")  # what a network says of parameters that learn alike
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Group:
    """Parameters that always learn alike.

    Args:
        rule: name of the optimiser.
        factors: on the learning rate, one for each phase.
        decay: their weight decay.
    """

    parameters: tuple[nn.Parameter, ...]
    rule: str
    factors: tuple[float, ...]
    decay: float


def groups_of(network: nn.Module, recipe: Recipe) -> list[Group]:
    """Return as few groups as the phases allow: parameters that always share everything share one.

    Where the network offers ``parameter_groups(recipe)``, each of its groups says ``params`` and, optionally,
    ``learning_rate_factor`` and ``weight_decay``; it chooses no rule.

    Raises:
        NetworkError: they say something else, or do not have every parameter that learns once.
    """
    by_phase = [_learning_rates(network, phase) for phase in recipe.plan]
    spared = _without_decay(network)
    for_adamw = (spared | _of_heads(network)) if recipe.optimizer == "muon" else set()
    merged: dict[tuple[str, tuple[float, ...], float], list[nn.Parameter]] = {}
    for parameter, own in _with_own_group(network, recipe):
        factor = own.get("learning_rate_factor", 1.0) * (recipe.bias_rate_factor if parameter in spared else 1.0)
        factors = tuple(factor * slowed.get(parameter, 1.0) for slowed in by_phase)
        decay = own.get("weight_decay", 0.0 if parameter in spared else recipe.weight_decay)
        rule = "adamw" if parameter in for_adamw else recipe.optimizer
        merged.setdefault((rule, factors, decay), []).append(parameter)
    return [Group(tuple(parameters), *shared) for shared, parameters in merged.items()]


def decaying_parameters(network: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    """Return the parameters that weight decay and penalties are for.

    They are all that learn but those of norms, biases and others of one dimension; a network's own groups that say a
    ``weight_decay`` are in or out by it.
    """
    spared = _without_decay(network)
    return [
        parameter
        for parameter, own in _with_own_group(network, recipe)
        if own.get("weight_decay", 0.0 if parameter in spared else 1.0) > 0
    ]


def _with_own_group(network: nn.Module, recipe: Recipe) -> Iterator[tuple[nn.Parameter, dict[str, Any]]]:
    """Yield each parameter that learns with the group that the network puts it into; an empty one where it does not."""
    offered = getattr(network, "parameter_groups", None)
    grouped = set()
    for own in offered(recipe) if callable(offered) else [{"params": network.parameters()}]:
        _check_group(own)
        for parameter in own["params"]:
            if parameter.requires_grad:
                if parameter in grouped:
                    raise NetworkError("parameter_groups must put each parameter into one group; some are in two.")
                grouped.add(parameter)
                yield parameter, own
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter not in grouped:
            raise NetworkError(
                f"parameter_groups must put each parameter into a group, and {name} is in none: let it require no "
                "gradient if it is not to learn. It must be a method, since copies of the network are asked too."
            )


def _check_group(own: Mapping[str, Any]) -> None:
    for key in own:
        if key not in _GROUP:
            raise NetworkError(f"parameter_groups has no {key!r}, but {', '.join(_GROUP)}.{suggest(key, _GROUP)}")
    if "params" not in own:
        raise NetworkError("parameter_groups must say in each group which params are in it.")
    for key in _GROUP[1:]:
        value = own.get(key, 1.0)
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise NetworkError(f"parameter_groups must have a {key} of at least 0, got {value}.")


def of_norms(network: nn.Module) -> set[nn.Parameter]:
    """Return the parameters of norms."""
    return {p for module in network.modules() if isinstance(module, NORMS) for p in module.parameters()}


def _without_decay(network: nn.Module) -> set[nn.Parameter]:
    """Return the parameters of norms, the biases, and all others of one dimension, such as the slopes of a PReLU."""
    biases = {p for name, p in network.named_parameters() if name.rpartition(".")[2] == "bias"}
    return of_norms(network) | biases | {p for p in network.parameters() if p.dim() <= 1}


def _of_heads(network: nn.Module) -> set[nn.Parameter]:
    """Return the parameters of the layer whose outputs are the logits, and those of auxiliary heads.

    Where the network names no head it is the last layer that has weights.
    """
    head = getattr(network, "head", None)
    if not isinstance(head, nn.Module):
        head = next((leaf for leaf in reversed(leaves_of(network).values()) if [*leaf.parameters()]), network)
    return {parameter for module in (head, *auxiliary_heads_of(network)) for parameter in module.parameters()}


def _learning_rates(network: nn.Module, phase: Phase) -> dict[nn.Parameter, float]:
    """Return the factor on the learning rate of each parameter whose stage has one in this phase."""
    stages = stages_of(network)
    return {parameter: rate for name, rate in phase.learning_rates.items() for parameter in stages[name].parameters()}


def check_stage_names(network: nn.Module, recipe: Recipe) -> None:
    """Refuse a recipe with a phase that names a stage which the network does not have, or that freezes everything."""
    stages = stages_of(network)
    learning = {parameter for parameter in network.parameters() if parameter.requires_grad}
    for phase in recipe.plan:
        for name in (*phase.frozen, *phase.learning_rates):
            if name not in stages:
                raise RecipeError(
                    f"The network has no stage {name!r}.{suggest(name, stages)} Its stages are {', '.join(stages)}."
                )
        frozen = {parameter for name in phase.frozen for parameter in stages[name].parameters()}
        if learning and learning <= frozen:
            raise RecipeError(
                f"A phase must leave something to learn, and every stage with weights is frozen: "
                f"{', '.join(phase.frozen)}. Leave one out, such as the last."
            )
