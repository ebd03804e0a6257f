"""The update: which parameters learn, how fast, and which of them decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from striate.core.errors import RecipeError, suggest
from striate.networks.contract import stages_of
from striate.training.recipe import Phase, Recipe

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Group:
    """Parameters that always learn alike: the factor on the learning rate in each phase, and their weight decay."""

    parameters: tuple[nn.Parameter, ...]
    factors: tuple[float, ...]
    decay: float


@final
class Updater:
    """SGD or AdamW by PyTorch's fused kernels, with decoupled weight decay and a learning rate per phase and stage.

    Weight decay is decoupled for SGD too (Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019,
    algorithm 1), and leaves norms, biases and whatever else has one dimension alone. The kernels are called through
    ``torch.optim``'s functions, because making the first of its classes imports PyTorch's compiler: 2 seconds.

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
        self._recipe = recipe
        self._names = {parameter: name for name, parameter in network.named_parameters()}
        self._learning = [parameter for parameter in self._names if parameter.requires_grad]
        self._groups = _groups(network, recipe, self._learning)
        self._state = {parameter: _first_state(parameter, recipe) for parameter in self._learning}

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
        """Update what has a gradient, and clear the gradients."""
        with torch.no_grad():
            for group in self._groups:
                learning = [parameter for parameter in group.parameters if parameter.grad is not None]
                if learning:
                    rate = learning_rate * group.factors[phase_number]
                    update = self._sgd if self._recipe.optimizer == "sgd" else self._adamw
                    update(learning, [p.grad for p in learning if p.grad is not None], rate, group.decay)
        for parameter in self._learning:
            parameter.grad = None

    def _sgd(self, learning: list[nn.Parameter], gradients: list[Tensor], rate: float, decay: float) -> None:
        if decay:
            torch._foreach_mul_(list(learning), 1 - rate * decay)
        sgd(
            list(learning),
            gradients,
            [self._state[parameter].get("momentum") for parameter in learning],
            fused=True,
            weight_decay=0.0,
            momentum=self._recipe.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self._recipe.momentum > 0,
            maximize=False,
        )

    def _adamw(self, learning: list[nn.Parameter], gradients: list[Tensor], rate: float, decay: float) -> None:
        state = [self._state[parameter] for parameter in learning]
        adamw(
            list(learning),
            gradients,
            [one["mean"] for one in state],
            [one["square"] for one in state],
            [],
            [one["step"] for one in state],
            fused=True,
            amsgrad=False,
            beta1=self._recipe.momentum,
            beta2=self._recipe.beta2,
            lr=rate,
            weight_decay=decay,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Return the optimiser's own tensors as ``<parameter>.<what>``: momentum, means, step counts."""
        return {
            f"{self._names[parameter]}.{what}": value
            for parameter, state in self._state.items()
            for what, value in state.items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        for name, own in self.state().items():
            own.copy_(tensors[name])  # which keeps the layout in memory: the kernels walk all in the parameter's order


def _first_state(parameter: nn.Parameter, recipe: Recipe) -> dict[str, Tensor]:
    if recipe.optimizer == "sgd":
        return {"momentum": torch.zeros_like(parameter, requires_grad=False)} if recipe.momentum else {}
    return {
        "mean": torch.zeros_like(parameter, requires_grad=False),
        "square": torch.zeros_like(parameter, requires_grad=False),
        "step": torch.zeros((), device=parameter.device),
    }


def _groups(network: nn.Module, recipe: Recipe, learning: list[nn.Parameter]) -> list[Group]:
    """Return as few groups as the phases allow: parameters that always share their factors and decay share one."""
    by_phase = [_learning_rates(network, phase) for phase in recipe.plan]
    spared = _without_decay(network)
    merged: dict[tuple[tuple[float, ...], float], list[nn.Parameter]] = {}
    for own in _own_groups(network, recipe, learning):
        for parameter in own["params"]:
            factor = own.get("learning_rate_factor", 1.0)
            factors = tuple(factor * slowed.get(parameter, 1.0) for slowed in by_phase)
            decay = own.get("weight_decay", 0.0 if parameter in spared else recipe.weight_decay)
            merged.setdefault((factors, decay), []).append(parameter)
    return [Group(tuple(parameters), factors, decay) for (factors, decay), parameters in merged.items()]


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
