"""The update: which parameters learn, how fast, and which of them decay."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn

from striate.core.errors import RecipeError, suggest
from striate.networks.contract import stages_of
from striate.training.recipe import Phase, Recipe

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@final
class Updater:
    """An optimiser of PyTorch's with decoupled weight decay, and a learning rate for each phase and stage.

    Weight decay is decoupled for SGD too (Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019,
    algorithm 1), and leaves norms, biases and whatever else has one dimension alone.

    Args:
        network: its parameters are updated in place. Where it offers ``parameter_groups(recipe)``, each group says
            ``params`` and, optionally, ``learning_rate_factor`` and ``weight_decay``.
        recipe: the optimiser and its numbers.

    Raises:
        RecipeError: a phase names a stage that the network does not have.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        check_stage_names(network, recipe)
        self._network = network
        self._names = {parameter: name for name, parameter in network.named_parameters()}
        self._learning = [parameter for parameter in self._names if parameter.requires_grad]
        groups = _parameter_groups(network, recipe, self._learning)
        self._optimizer = _optimizer(recipe, groups)

    def begin(self, phase: Phase) -> None:
        """Put the network into training mode and let learn what the phase does not freeze."""
        self._network.train()
        self.end()
        stages = stages_of(self._network)
        for name in phase.frozen:
            stages[name].eval().requires_grad_(False)  # its norms keep their statistics too

    def end(self) -> None:
        """Let everything learn again that could learn before."""
        for parameter in self._learning:
            parameter.requires_grad_(True)

    def step(self, phase_number: int, learning_rate: float) -> None:
        """Shrink what decays, take the optimiser's step with the gradients there are, and clear them."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group["factors"][phase_number]
            shrunk = [parameter.data for parameter in group["params"] if parameter.grad is not None]
            if shrunk and group["decay"]:
                torch._foreach_mul_(shrunk, 1 - group["lr"] * group["decay"])
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Return the optimiser's own tensors as ``<parameter>.<what>``: momentum, averages, step counts."""
        return {
            f"{name}.{what}": value
            for parameter, name in self._names.items()
            for what, value in self._optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        for key, value in tensors.items():
            name, _, what = key.rpartition(".")
            parameter = parameters[name]
            # Laid out as the parameter is: the fused kernels walk both in the order of memory.
            placed = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.clone()
            self._optimizer.state[parameter][what] = placed


def _optimizer(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0
        return torch.optim.SGD(groups, lr=1.0, momentum=recipe.momentum, nesterov=nesterov, fused=True)
    return torch.optim.AdamW(groups, lr=1.0, betas=(recipe.momentum, recipe.beta2), weight_decay=0.0, fused=True)


def _parameter_groups(network: nn.Module, recipe: Recipe, learning: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Return as few groups as the phases allow: parameters that always share their factors and decay share one."""
    spared = _without_decay(network)
    by_phase = [_learning_rates(network, phase) for phase in recipe.plan]
    merged: dict[tuple[object, ...], dict[str, Any]] = {}
    for own in _own_groups(network, recipe, learning):
        for parameter in own["params"]:
            factor = own.get("learning_rate_factor", 1.0)
            factors = tuple(factor * slowed.get(parameter, 1.0) for slowed in by_phase)
            decay = own.get("weight_decay", 0.0 if parameter in spared else recipe.weight_decay)
            group = merged.setdefault((factors, decay), {"params": [], "factors": factors, "decay": decay})
            group["params"].append(parameter)
    return list(merged.values())


def _own_groups(network: nn.Module, recipe: Recipe, learning: list[nn.Parameter]) -> list[dict[str, Any]]:
    offered = getattr(network, "parameter_groups", None)
    return list(offered(recipe)) if callable(offered) else [{"params": learning}]


def _without_decay(network: nn.Module) -> set[nn.Parameter]:
    """Return the parameters of norms, the biases, and all others of one dimension, such as the slopes of a PReLU."""
    of_norms = {p for module in network.modules() if isinstance(module, NORMS) for p in module.parameters()}
    biases = {p for name, p in network.named_parameters() if name.rpartition(".")[2] == "bias"}
    return of_norms | biases | {p for p in network.parameters() if p.dim() <= 1}


def _learning_rates(network: nn.Module, phase: Phase) -> dict[nn.Parameter, float]:
    """Return the factor on the learning rate of each parameter whose stage has one in this phase."""
    stages = stages_of(network)
    return {parameter: rate for name, rate in phase.learning_rates.items() for parameter in stages[name].parameters()}


def check_stage_names(network: nn.Module, recipe: Recipe) -> None:
    """Refuse a recipe with a phase that names a stage which the network does not have."""
    stages = stages_of(network)
    for phase in recipe.plan:
        for name in (*phase.frozen, *phase.learning_rates):
            if name not in stages:
                raise RecipeError(
                    f"The network has no stage {name!r}.{suggest(name, stages)} Its stages are {', '.join(stages)}."
                )
