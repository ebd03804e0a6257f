"""Weights that others have trained: read from their files without running anything, and fitted into a network.

A file is taken where its tensors have the network's names, the names that another library is known to give them, or,
in a file that keeps their order, the network's shapes one after another. Either everything that must fit fits, or the
network is left bit for bit as it was and the error says what does not fit and what the file probably is.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from striate.core.errors import FileError, NetworkError
from striate.networks.build import blueprint_of, build_on_meta
from striate.networks.contract import auxiliary_outputs_of
from striate.networks.saved import METADATA_KEY, read_tensors, with_aliases
from striate.networks.zoo import ZOO

State = Mapping[str, Tensor]

_PICKLED = (".pth", ".pt")
_NESTED = ("state_dict", "model", "model_state_dict")
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_COUNTER = "num_batches_tracked"  # files from before PyTorch 0.4.1 have none, and nothing depends on it
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # torchvision's GoogLeNet and Inception v3
_SHOWN = 3  # of each group in an error
_REFUSED = re.compile(r"\bGLOBAL\b|Unsupported (global|class)|Trying to|not an allowed")  # PyTorch's words for it

# What other libraries call the same tensors: pattern → our name.
_RENAMED = (
    # torchvision's DenseNet files from before module names lost their dots (torchvision/models/densenet.py).
    (re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..+)"), r"\1\2"),
    # timm's VGG, whose fully connected layers are convolutions (timm/models/vgg.py, _filter_fn).
    (re.compile(r"pre_logits\.fc1\.(.+)"), r"classifier.0.\1"),
    (re.compile(r"pre_logits\.fc2\.(.+)"), r"classifier.3.\1"),
    (re.compile(r"head\.fc\.(.+)"), r"classifier.6.\1"),
)


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a network; each is in exactly one of the first four.

    Args:
        loaded: taken from the file.
        adapted: of the first convolution, made to fit another number of input channels.
        replaced: of the heads, left as they were because the file has another number of classes.
        kept: left as they were because the file lacks them: auxiliary heads, counters of batches.
        ignored: tensors of the file that belong to auxiliary heads that the network does not have.
        by_order: whether the names did not match and the order of the shapes did.
    """

    loaded: tuple[str, ...]
    adapted: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    by_order: bool = False

    def __str__(self) -> str:
        kept = [name for name in self.kept if not name.endswith(_COUNTER)]
        groups = {
            "adapted to the number of channels": self.adapted,
            "new for the number of classes": self.replaced,
            "not in the file": kept,
            "in the file only": self.ignored,
        }
        parts = [f"{len(self.loaded)} tensors loaded" + (" by their order" if self.by_order else "")]
        return "; ".join(parts + [f"{what}: {_some(list(names))}" for what, names in groups.items() if names])


def load_weights(network: nn.Module, path: str | Path) -> LoadReport:
    """Fill a network with the weights in a file, or leave it bit for bit as it was.

    Another number of classes leaves the heads as they are; another number of input channels adapts the first
    convolution: to one channel by the sum over the file's, to n by repeating the file's m in turn, times m/n.

    Args:
        network: torchvision's, timm's and pytorchcv's files fit the zoo's network of the same name.
        path: of a ``.safetensors`` file, or a ``.pth`` or ``.pt`` file that holds a state dict; nothing in it is run.

    Returns:
        What was loaded, adapted, and left as it was.

    Raises:
        FileError: no such file; damaged; it holds more than tensors; weights of another network.
        NetworkError: a network without memory (on the meta device).
    """
    path = Path(path)
    tensors = read_weights(path)
    if any(tensor.is_meta for tensor in network.state_dict().values()):
        raise NetworkError("Weights must be loaded into a network that has memory, got one on the meta device.")
    fitted = fit_weights(network, tensors, ordered=path.suffix.lower() in _PICKLED, origin=str(path))
    network.load_state_dict({**network.state_dict(), **fitted.tensors})
    return fitted.report


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; those of a ``.pth`` file in its order.

    Raises:
        FileError: see `load_weights`.
    """
    ending = path.suffix.lower()
    if ending == ".safetensors":
        metadata, tensors = read_tensors(path)
        return with_aliases(path, tensors, _aliases(metadata))
    if ending not in _PICKLED:
        raise FileError(f"Weights must be a .safetensors, .pth or .pt file, got {path.name!r}. Name such a file.")
    tensors = _state_in(path, _unpickled(path))
    odd = [name for name, tensor in tensors.items() if not _is_plain(tensor)]
    if odd:
        raise FileError(f"{path} must hold plain tensors, got sparse, quantised or empty ones: {_some(odd)}.")
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor can be copied into a weight; another kind would fail after some had been."""
    return tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_meta or tensor.is_nested)


def _aliases(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the names that share a tensor in a file of ours; none in anybody else's."""
    try:
        content = json.loads(metadata.get(METADATA_KEY, "{}"))
        return {str(alias): str(name) for alias, name in content.get("aliases", {}).items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _unpickled(path: Path) -> Any:
    """Return what a weights-only load finds in a file: it builds tensors and plain containers and calls nothing."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise FileError(f"Cannot read {path}: {error.strerror or error}.") from error
    try:
        with stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can raise anything; nothing of it has been called
        if _REFUSED.search(str(error)):
            why = "holds objects other than tensors, which are never executed"
        else:
            why = "is damaged, or not a file of PyTorch's"
        raise FileError(
            f"{path} {why}; nothing was loaded. It must hold a state dict: torch.save(network.state_dict(), path)."
        ) from error


def _state_in(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the state dict, which may lie one level down in a checkpoint."""
    if isinstance(content, Mapping):
        nested = [content[name] for name in _NESTED if isinstance(content.get(name), Mapping)]
        for found in (content, *nested):
            if found and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()):
                return dict(found)
        keys = _some([str(key) for key in content])
        raise FileError(
            f"{path} must hold a state dict, got a whole checkpoint, not a state dict: {keys}. "
            "Save the part that is name → tensor by itself."
        )
    raise FileError(f"{path} must hold a state dict, name → tensor, got {type(content).__name__}.")


def _without_wrappers(tensors: State, state: State) -> State:
    """Return the tensors without a prefix that all of them have and the network has not."""
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors) and not any(name.startswith(wrapper) for name in state):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


@dataclass(frozen=True)
class Fitted:
    """Tensors under a network's names and in its shapes, and what became of each."""

    tensors: dict[str, Tensor]
    report: LoadReport


def fit_weights(network: nn.Module, tensors: State, *, ordered: bool, origin: str) -> Fitted:
    """Return a file's tensors as the network needs them; the network is not touched.

    Args:
        network: may be on the meta device.
        tensors: name → tensor.
        ordered: whether their order is that of the network that they were saved from.
        origin: what an error calls them.

    Raises:
        FileError: they are those of another network; it lists what does not fit, and the likely cause.
    """
    places = _Places.of(network)
    tensors = _without_wrappers(tensors, places.state)
    fit = _best_fit(places, tensors, ordered)
    if not fit.complete:
        name = blueprint_of(network).short_name
        cause = _likely_cause(fit, tensors, name, ordered)
        raise FileError(
            f"The weights in {origin} do not fit {name}, and nothing was loaded: {fit.problems(tensors)}.{cause}"
        )
    return Fitted(fit.ready, fit.report)


def _best_fit(places: _Places, tensors: State, ordered: bool) -> _Fit:
    """Return the tensors matched by name or, where that leaves something over and order can tell, by order."""
    by_name = _Fit.of(places, _renamed(tensors, places.state))
    if by_name.complete or not ordered:
        return by_name
    in_order = _in_order(places, tensors)
    return by_name if in_order is None else _Fit.of(places, in_order, by_order=True)


@dataclass(frozen=True)
class _Places:
    """The tensors of a network, and which of them may differ from a file's."""

    state: dict[str, Tensor]
    heads: tuple[str, ...]
    auxiliary: tuple[str, ...]
    first: str | None

    @classmethod
    def of(cls, network: nn.Module) -> _Places:
        auxiliary = tuple(f"{path}." for path in auxiliary_outputs_of(network))
        layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        head = next((n for n, m in network.named_modules() if n and m is getattr(network, "head", None)), None)
        main = [name for name in layers if not name.startswith(auxiliary)] if auxiliary else layers
        heads = [head or main[-1]] if head or main else []
        for prefix in auxiliary:
            heads += [name for name in layers if f"{name}.".startswith(prefix)][-1:]
        convolutions = [name for name in layers if isinstance(network.get_submodule(name), nn.Conv2d)]
        state = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
        first = f"{convolutions[0]}.weight" if convolutions else None
        return cls(state, tuple(f"{name}." for name in heads), auxiliary, first)

    def fitted(self, name: str, tensor: Tensor) -> Tensor | None:
        """Return the file's tensor in the network's shape and type, or None where it cannot take it."""
        wanted = self.state[name]
        if tensor.is_floating_point() != wanted.is_floating_point() or tensor.is_complex():
            return None
        if tensor.shape == wanted.shape:
            return tensor
        if wanted.ndim == 2 and tensor.ndim == 4 and tensor.flatten(1).shape == wanted.shape:
            return tensor.flatten(1)  # a fully connected layer that was kept as a convolution of the whole map
        if name == self.first and tensor.ndim == 4 and _but_one(tensor.shape, 1) == _but_one(wanted.shape, 1):
            return _with_channels(tensor, wanted.shape[1])
        return None

    def is_head_of_others(self, name: str, tensor: Tensor) -> bool:
        """Return whether this belongs to a head and differs in nothing but the number of classes."""
        shape = self.state[name].shape
        if len(shape) == 2 and tensor.ndim == 4:
            tensor = tensor.flatten(1)
        return (
            name.startswith(self.heads)
            and tensor.ndim == len(shape) > 0
            and tensor.shape != shape
            and _but_one(tensor.shape, 0) == _but_one(shape, 0)
        )


def _but_one(shape: torch.Size, place: int) -> tuple[int, ...]:
    return (*shape[:place], *shape[place + 1 :])


def _with_channels(weight: Tensor, channels: int) -> Tensor:
    """Return a convolution's weight (O, M, k, k) for another number of channels, (O, channels, k, k).

    A picture whose channels are all equal gives what it gave before, so the layers after it see what they know.
    """
    given = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    turns = torch.arange(channels, device=weight.device) % given
    return weight[:, turns] * (given / channels)


@dataclass
class _Fit:
    """A file's tensors beside a network's: what can be taken, and what stands against it."""

    places: _Places
    ready: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    report: LoadReport = field(default_factory=lambda: LoadReport(()))

    @classmethod
    def of(cls, places: _Places, tensors: State, by_order: bool = False) -> _Fit:
        fit = cls(places)
        groups: dict[str, list[str]] = {group: [] for group in ("loaded", "adapted", "replaced", "kept")}
        for name, wanted in places.state.items():
            if name not in tensors:
                may_lack = name.endswith(_COUNTER) or (places.auxiliary and name.startswith(places.auxiliary))
                (groups["kept"] if may_lack else fit.missing).append(name)
            elif (taken := places.fitted(name, tensors[name])) is not None:
                fit.ready[name] = taken
                channels_differ = name == places.first and tensors[name].shape != wanted.shape
                groups["adapted" if channels_differ else "loaded"].append(name)
            elif places.is_head_of_others(name, tensors[name]):
                groups["replaced"].append(name)
            else:
                fit.misshapen.append(name)
        left = [name for name in tensors if name not in places.state]
        ignored = [name for name in left if name.startswith(_AUXILIARY) and not places.auxiliary]
        fit.unknown = [name for name in left if name not in ignored and not name.endswith(_COUNTER)]
        _replace_whole_heads(places, fit.ready, groups)
        fit.report = LoadReport(
            **{group: tuple(names) for group, names in groups.items()}, ignored=tuple(ignored), by_order=by_order
        )
        return fit

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unknown or self.misshapen)

    def problems(self, tensors: State) -> str:
        """Return the groups, with a few names of each."""
        renamed = _renamed(tensors, self.places.state)
        shapes = [
            f"{name} {_form(renamed[name])} instead of {_form(self.places.state[name])}" for name in self.misshapen
        ]
        groups = {"missing": self.missing, "unknown": self.unknown, "of another shape or type": shapes}
        return "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in groups.items() if names)


def _replace_whole_heads(places: _Places, ready: dict[str, Tensor], groups: dict[str, list[str]]) -> None:
    """Leave all of a head as it was where part of it is, so that no head is half the file's."""
    for head in places.heads:
        if any(name.startswith(head) for name in groups["replaced"]):
            for name in [name for name in groups["loaded"] if name.startswith(head)]:
                groups["loaded"].remove(name)
                groups["replaced"].append(name)
                del ready[name]


def _renamed(tensors: State, state: State) -> dict[str, Tensor]:
    """Return the tensors under our names, where another library's for the same thing are known."""
    renamed = {}
    for name, tensor in tensors.items():
        known = name
        for pattern, ours in _RENAMED:
            match = pattern.fullmatch(name)
            if name not in state and match and match.expand(ours) in state:
                known = match.expand(ours)
        renamed[known] = tensor
    return renamed


def _in_order(places: _Places, tensors: State) -> dict[str, Tensor] | None:
    """Return the tensors under the network's names, paired by order; None where one pair does not agree.

    Pairs must be of the same kind (weight, bias, running_mean …) and shape, and no known name may get another place.
    """
    ours = [name for name in places.state if not name.endswith(_COUNTER)]
    theirs = [name for name in tensors if not name.endswith(_COUNTER)]
    if len(ours) != len(theirs):
        return None
    for name, other in zip(ours, theirs, strict=True):
        same_kind = name.rpartition(".")[2] == other.rpartition(".")[2]
        fits = places.fitted(name, tensors[other]) is not None or places.is_head_of_others(name, tensors[other])
        if not same_kind or not fits or (other in places.state and other != name):
            return None
    return {name: tensors[other] for name, other in zip(ours, theirs, strict=True)}


def _likely_cause(fit: _Fit, tensors: State, name: str, ordered: bool) -> str:
    """Return a sentence about what the file probably is, or nothing."""
    owner = _owner(tensors, name, ordered)
    if owner is not None:
        return f" These look like the weights of {owner}."
    if fit.misshapen and not fit.missing and not fit.unknown:
        return " All names agree, so it is the same layout with other widths or another size of pictures."
    differing, own = _pattern([*fit.missing, *fit.unknown]), _pattern(fit.places.state)
    if differing <= own and not fit.misshapen:
        return " The names follow one pattern, so it is the same family with another number of blocks."
    return ""


def _pattern(names: Iterable[str]) -> set[str]:
    return {re.sub(r"\d+", "#", name) for name in names if not name.endswith(_COUNTER)}


def _owner(tensors: State, not_this: str, ordered: bool) -> str | None:
    """Return the zoo's network whose tensors these are by name and shape, or None.

    The family of ``not_this`` is asked first. Of the others, the first member tells whether names are like these, and
    only then are all of them laid out, which takes a second or so each.
    """
    families: dict[str, list[str]] = {}
    for name in ZOO:
        families.setdefault(ZOO.get(name).factory.__module__, []).append(name)
    own, others = [family for family in families.values() if not_this in family], families.values()
    pattern = _pattern(tensors)
    alike = (
        family for family in others if len(pattern & _pattern(_places_of_entry(family[0]).state)) > len(pattern) / 2
    )
    for name in itertools.chain(*own, *alike):
        if name != not_this and _best_fit(_places_of_entry(name), tensors, ordered).complete:
            return name
    return None


@cache
def _places_of_entry(name: str) -> _Places:
    """Return the tensors of a zoo network as its paper has it, without memory."""
    return _Places.of(build_on_meta(name, ZOO.get(name).spec))


def _some(names: list[str]) -> str:
    more = f", … {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _form(tensor: Tensor) -> str:
    shape = "×".join(map(str, tensor.shape)) or "a single number"
    return shape if tensor.is_floating_point() else f"{shape} {str(tensor.dtype).removeprefix('torch.')}"
