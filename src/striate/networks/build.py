"""Building networks from a zoo name or a network text, and what must be known to build them again."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from striate.core import machine
from striate.core.errors import NetworkError, suggest
from striate.core.spec import Spec
from striate.networks import contract
from striate.networks.summary import Summary, layout
from striate.networks.text import GRAMMAR_VERSION, build_text
from striate.networks.zoo import ZOO

_DRAWING = frozenset(
    {"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_"}
)
_ZOO_CALL = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*(\((?P<options>.*)\))?\s*", re.DOTALL)


class Blueprint(BaseModel):
    """What a saved file says of how to build its network again.

    Args:
        kind: ``zoo``, ``text``, or ``foreign`` for a module of the caller's own.
        name: the zoo name, the network text, or the foreign class's import path.
        options: the zoo network's own options.
        grammar: the version of the grammar of a text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["zoo", "text", "foreign"]
    name: str
    options: dict[str, Any] = {}
    grammar: Annotated[int, Field(ge=1, le=GRAMMAR_VERSION)] = GRAMMAR_VERSION

    @property
    def call(self) -> str:
        """The network as `build` reads it: its name or text, and its options where it has any."""
        return f"{self.name}({self.written_options})" if self.options else self.name

    @property
    def written_options(self) -> str:
        """The options as they stand between the brackets of `call`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())

    @property
    def short_name(self) -> str:
        """A name for folders and tables: the zoo name, ``text``, or the class name."""
        return {"zoo": self.name, "text": "text", "foreign": self.name.rpartition(".")[2]}[self.kind]


def build(model: str, spec: Spec, *, seed: int = 0, weights: str | None = None, **options: Any) -> nn.Module:
    """Build a network with random weights, or with published ones.

    Args:
        model: a zoo name (``"lenet5"``), one with options (``"feedforward1(hidden=500)"``), a network text, or the
            path of a ``.txt`` file that holds one.
        spec: what the network takes and what its logits mean.
        seed: of the initial weights; the caller's random state is left as it was.
        weights: the name of a zoo network's published weights; ``"imagenet"`` is the default of those trained on
            ImageNet. They are downloaded once; another number of classes or input channels keeps all that it can.
        options: the zoo network's own options.

    Returns:
        A module: images (N, C, H, W) → logits (N, K).

    Raises:
        NetworkError: an unknown name or option, a mistake in the text, a network that does not fit the pictures or
            the memory of this machine, weights of an unknown name.
        FileError: the weights cannot be downloaded, or are not what was published.
    """
    contract.expect_spec(spec)
    blueprint = read_model(model, options)
    if weights is None:
        return build_blueprint(blueprint, spec, seed=seed)
    from striate.networks.pretrained import find_pretrained, load_pretrained  # they build networks themselves

    if blueprint.kind != "zoo":
        raise NetworkError("Published weights are for networks of the zoo, got a network text. Leave weights out.")
    entry = find_pretrained(blueprint.name, weights)
    network = build_blueprint(blueprint, spec, seed=seed)
    load_pretrained(network, entry)
    return network


def read_model(model: str, options: dict[str, Any] | None = None) -> Blueprint:
    """Return what ``model`` means, without building it."""
    if model.endswith(".txt"):
        model = _read_text(Path(model))
    call = _ZOO_CALL.fullmatch(model)
    if call is None or (call["options"] is not None and not _is_option_list(call["options"])):
        return Blueprint(kind="text", name=model)
    ZOO.get(call["name"])
    return Blueprint(kind="zoo", name=call["name"], options={**_options(call["options"] or ""), **(options or {})})


def build_blueprint(blueprint: Blueprint, spec: Spec, *, seed: int = 0) -> nn.Module:
    """Build a network from its blueprint, where its training fits in memory. See `build`."""
    check_fits_in_memory(on_meta(blueprint, spec), spec)
    return construct(blueprint, spec, seed=seed)


def construct(blueprint: Blueprint, spec: Spec, *, seed: int = 0) -> nn.Module:
    """Build a network from its blueprint, whatever memory it takes. See `build`."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # networks are built on the CPU
        return _construct(blueprint, spec)


def build_on_meta(model: str, spec: Spec) -> nn.Module:
    """Build a network on the meta device: all its shapes, no memory. See `build`."""
    return on_meta(read_model(model), spec)


def blueprint_of(network: nn.Module) -> Blueprint:
    """Return how to build this network again."""
    known = getattr(network, "blueprint", None)
    if isinstance(known, Blueprint):
        return known
    return _foreign_blueprint(network)


def blueprint_as_is(network: nn.Module, spec: Spec) -> Blueprint:
    """Return how to build this network again as it is: one that was changed since it was built is its owner's own."""
    blueprint = blueprint_of(network)
    changed = blueprint.kind != "foreign" and not is_built_as(network, blueprint, spec)
    return _foreign_blueprint(network) if changed else blueprint


def _foreign_blueprint(network: nn.Module) -> Blueprint:
    """Return the blueprint of a module that only its owner can build again."""
    return Blueprint(kind="foreign", name=f"{type(network).__module__}.{type(network).__qualname__}")


def check_fits_in_memory(network: nn.Module, spec: Spec, batch_size: int = 2) -> Summary:
    """Refuse a network that this machine cannot train, or return its summary.

    Args:
        network: may be on the meta device, where it takes no memory.
        batch_size: pictures per step.

    Raises:
        NetworkError: weights, gradients, optimiser state and activations do not fit.
    """
    layers = layout(network, spec)
    needed, free = layers.training_bytes(batch_size), machine.available_memory()
    if needed <= free:
        return layers
    in_words = f"{machine.in_words(needed)}; {machine.in_words(free)} are free"
    if layers.training_bytes(0) > free / 2:
        raise NetworkError(
            f"The network has {layers.parameters:,} parameters, and training them takes about {in_words}. "
            "Try fewer filters or units, or pooling before the first fc."
        )
    raise NetworkError(
        f"Training this network with batches of {batch_size} takes about {in_words}. "
        "Try smaller batches (--batch-size) or smaller pictures (--size)."
    )


def is_built_as(network: nn.Module, blueprint: Blueprint, spec: Spec) -> bool:
    """Return whether the blueprint builds these modules, as far as their descriptions and the weights' shapes tell."""
    again = on_meta(blueprint, spec)
    shapes, expected = ({n: t.shape for n, t in one.state_dict().items()} for one in (network, again))
    return shapes == expected and repr(network) == repr(again)


def on_meta(blueprint: Blueprint, spec: Spec) -> nn.Module:
    """Build a network from its blueprint on the meta device. See `build`."""
    with torch.device("meta"), _Undrawn():
        return _construct(blueprint, spec).to("meta")


@final
class _Undrawn(TorchFunctionMode):
    """Draws no weights on the meta device, where there are none: PyTorch would import its compiler for it, 2 s."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        drawn = args[0] if args else kwargs.get("tensor")
        if isinstance(drawn, Tensor) and drawn.is_meta and func.__name__ in _DRAWING:
            return drawn
        return func(*args, **kwargs)


def _construct(blueprint: Blueprint, spec: Spec) -> nn.Module:
    network: nn.Module
    if blueprint.kind == "text":
        network = build_text(blueprint.name, spec.input.shape)
    elif blueprint.kind == "zoo":
        network = _from_zoo(blueprint, spec)
    else:
        raise NetworkError(
            f"The network is your own class {blueprint.name}, which is never imported because a file says so. "
            "Pass the module: load(path, network=...)."
        )
    network.blueprint = blueprint  # type: ignore[assignment]
    contract.remember_spec(network, spec)
    return network


def _from_zoo(blueprint: Blueprint, spec: Spec) -> nn.Module:
    _check_options(blueprint)
    try:
        return ZOO.get(blueprint.name).factory(shape=spec.input.shape, classes=spec.task.classes, **blueprint.options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise NetworkError(f"{blueprint.name} cannot be built with ({blueprint.written_options}): {error}.") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise NetworkError(f"Cannot read the network text {path}: {why}.") from error


def _check_options(blueprint: Blueprint) -> None:
    taken = inspect.signature(ZOO.get(blueprint.name).factory).parameters
    own = [name for name in taken if name not in ("shape", "classes")]
    for option in blueprint.options:
        if option not in own:
            has = f"It has {', '.join(own)}." if own else "It has none."
            raise NetworkError(f"{blueprint.name} has no option {option!r}.{suggest(option, own)} {has}")


def _is_option_list(text: str) -> bool:
    return "=" in text or not text.strip()


def _options(text: str) -> dict[str, Any]:
    """Read ``"hidden=(300, 100)"`` as Python literals."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (ValueError, SyntaxError) as error:
        raise NetworkError(f"Options must be written name=value with plain values, got ({text}).") from error
