"""Feature maps: what each layer makes of a picture, before and after rectification and pooling; and gradients there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from striate.core.errors import DataError, NetworkError, suggest
from striate.core.spec import Spec
from striate.drawing.colours import Scale
from striate.drawing.grid import Group, Sheet, Tile, draw_grid
from striate.inspection.record import listed, modules_named
from striate.inspection.subject import Pictures, subject_of
from striate.networks import contract
from striate.prediction.predictor import Classifier

MOST_PICTURES = 64  # every layer's maps of each are kept
ROWS = 40  # layers that are drawn
STRIP = 128  # values in a row of a strip

# Functions that a network may call where others have a layer: their outputs are maps too.
_FUNCTIONS = frozenset(
    {"conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear"}
    | {"batch_norm", "layer_norm", "group_norm", "instance_norm", "local_response_norm"}
    | {"relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus"}
    | {"hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh"}
    | {"max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "lp_pool2d", "mean", "amax"}
    | {"adaptive_avg_pool2d", "adaptive_max_pool2d"}
)
_UNCHANGING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)  # in evaluation mode


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """What one layer made of the pictures.

    Args:
        name: of its stage, or its module's path; of a function, its name after that of the module that calls it. What
            runs several times has the number of the time after ``#``, from the second on.
        kind: class of the module, or name of the function.
        maps: (N, C, H, W), or (N, F) of a layer of units, as they were when the layer returned them.
        gradient: of the logit that was asked about, by the maps, of their shape; None where none was asked for, or
            the logit does not depend on them.
    """

    name: str
    kind: str
    maps: Tensor
    gradient: Tensor | None = None

    @property
    def gradient_norm(self) -> Tensor | None:
        """(N,) Euclidean norm of the gradient of each picture; None where there is no gradient."""
        return None if self.gradient is None else self.gradient.flatten(1).norm(dim=1)


@final
@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """What the layers of a network made of pictures.

    Args:
        layers: in the order in which they ran.
        logits: (N, K).
        targets: (N,) int64, the class of each picture whose logit the gradients are of: the answer, if not another.
        images: (N, C, H, W) uint8, the pictures.
        origins: a name of each.
        spec: what the network takes and what its logits mean.
    """

    layers: tuple[Layer, ...]
    logits: Tensor
    targets: Tensor
    images: Tensor
    origins: Sequence[str]
    spec: Spec

    def __getitem__(self, name: str) -> Layer:
        """Return a layer by its name.

        Raises:
            NetworkError: there are no maps of such a layer.
        """
        names = [layer.name for layer in self.layers]
        if name not in names:
            raise NetworkError(
                f"There are no maps of a layer {name!r}.{suggest(name, names)} There are {listed(names)}."
            )
        return self.layers[names.index(name)]

    def draw(self, picture: int = 0, most: int = 16) -> Sheet:
        """Draw a row of maps for each layer, and under it one of gradients where they were asked for.

        Args:
            picture: its number.
            most: maps of each layer, from the first.

        Raises:
            DataError: there is no such picture, or ``most`` is below 1.
        """
        if not 0 <= picture < len(self.images):
            raise DataError(f"There is no picture {picture}: the {len(self.images)} are numbered from 0.")
        if most < 1:
            raise DataError(f"most must be at least 1, got {most}.")
        names = self.spec.task.class_names
        answer, target = (names[int(k)] for k in (self.logits[picture].argmax(), self.targets[picture]))
        shown = _spread(self.layers, ROWS)
        groups = [self._picture(picture)]
        for layer in shown:
            groups += _groups(layer, picture, most, target)
        subtitle = (
            f"{self.origins[picture]}, answered {answer}. Each tile is what one filter or unit of a layer makes of it."
        )
        notes = [
            "Each layer has a scale of its own, in its legend: blue below 0 and orange above it; from violet at 0 to "
            "yellow where nothing is below it."
        ]
        if len(shown) < len(self.layers):
            notes.append(
                f"Drawn are {len(shown)} of {len(self.layers)} layers, evenly spaced; name those to see in `where`."
            )
        return draw_grid(groups, title="Feature maps, first layer to last", subtitle=subtitle, notes=notes)

    def _picture(self, picture: int) -> Group:
        image = self.images[picture]
        channels = [image] if len(image) in (1, 3) else [one[None] for one in image]
        return Group([Tile(one) for one in channels], "picture", side=112)


def _groups(layer: Layer, picture: int, most: int, target: str) -> list[Group]:
    """Return the rows of one layer: its maps, and the gradients by them."""
    maps = layer.maps[picture]
    tiles, how_many = _tiles(maps, most)
    heading = f"{layer.name} · {layer.kind} · {'×'.join(map(str, maps.shape))} · {how_many}"
    side = 64 if maps.ndim == 3 else 720
    groups = [Group(tiles, heading, _scale(maps, most, f"output of {layer.name}"), side=side)]
    if layer.gradient is not None and layer.gradient_norm is not None:
        by = layer.gradient[picture]
        norm = float(layer.gradient_norm[picture])
        heading = f"{layer.name}: gradient of the logit of {target} · norm {norm:.3g} · {how_many}"
        scale = _scale(by, most, f"how much the logit of {target} grows per unit of the output", signed=True)
        groups.append(Group(_tiles(by, most)[0], heading, scale, side=side))
    return groups


def _tiles(values: Tensor, most: int) -> tuple[list[Tile], str]:
    """Return the tiles of (C, H, W) maps, of (T, F) tokens or of (F,) units, and in words which of them are drawn."""
    values = values.detach().float().cpu()
    if values.ndim == 3:
        shown = len(values[:most])
        first = f"the first {shown} of {len(values)} maps" if shown < len(values) else f"all {shown} maps"
        return [Tile(one, str(number)) for number, one in enumerate(values[:most])], first
    if values.ndim == 1:
        rows = -(-len(values) // STRIP)
        padded = torch.full((rows * min(STRIP, len(values)),), torch.nan)
        padded[: len(values)] = values
        how = f"all {len(values)} units" + (f", in rows of {STRIP}; mid-grey is no unit" if rows > 1 else "")
        return [Tile(padded.view(rows, -1), numbers=True)], how
    flat = values.flatten(0, -2)
    return [Tile(flat[:STRIP, :STRIP])], f"the first {min(STRIP, flat.shape[0])} rows of {flat.shape[0]}"


def _scale(values: Tensor, most: int, meaning: str, *, signed: bool = False) -> Scale:
    """Return the scale of what is drawn of a layer: about 0 where values have signs, else from 0 upwards."""
    shown = (values[:most] if values.ndim == 3 else values).detach().float().cpu()
    if signed or float(shown.min()) < 0:
        return Scale.of(shown, "diverging", meaning)
    return Scale("heat", 0.0, float(shown.max()) or 1.0, meaning)


def _spread(layers: Sequence[Layer], most: int) -> Sequence[Layer]:
    """Return at most so many, evenly spaced, with the first and the last."""
    if len(layers) <= most:
        return layers
    return [layers[round(place)] for place in torch.linspace(0, len(layers) - 1, most).tolist()]


def feature_maps(
    network: nn.Module | Classifier,
    pictures: Pictures,
    where: str | Sequence[str] | None = None,
    *,
    gradients: bool = False,
    target: int | str | Sequence[int | str] | Tensor | None = None,
) -> FeatureMaps:
    """Run pictures through a network once and return what each layer makes of them.

    Args:
        network: any module, or a classifier.
        pictures: see `subject_of`; 64 at most.
        where: names of stages, paths of modules, or names as `Layer` has them. Where None: every module that holds no
            others, every rectification, pooling and the like that is called as a function, and every stage whose
            output none of these returned.
        gradients: whether the gradients by the maps are kept too.
        target: the class whose logit they are of, by name or number, or one for each picture; the network's own
            answer where None.

    Raises:
        DataError: no such class, more pictures than 64, or none that the network takes.
        NetworkError: there is no such layer, or it returns no tensor.
    """
    subject = subject_of(network, pictures)
    if len(subject.images) > MOST_PICTURES:
        raise DataError(
            f"The maps of every layer are kept for at most {MOST_PICTURES} pictures at once, got "
            f"{len(subject.images)}. Pass some of them."
        )
    asked = None if target is None else subject.targets(target)
    wanted = None if where is None else [where] if isinstance(where, str) else list(where)
    seen = _Seen(wanted)
    inputs = subject.inputs
    with contract.evaluating(subject.network), torch.set_grad_enabled(gradients):
        if gradients:
            # Of a copy that is no leaf, so that gradients exist everywhere and layers may work on the input in place.
            inputs = inputs.detach().clone().requires_grad_().mul(1)
        with _watching_all(subject.network, seen.see):
            logits = subject.network(inputs)
        targets = logits.argmax(1) if asked is None else asked
        if gradients:
            # The parameters' own gradients are left alone.
            torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), [inputs], allow_unused=True)
    layers = seen.layers()
    if wanted is not None:
        _check_found(subject.network, wanted, layers)
    return FeatureMaps(layers, logits.detach(), targets, subject.images, subject.origins, subject.spec)


def _check_found(network: nn.Module, wanted: Sequence[str], layers: Sequence[Layer]) -> None:
    for name in wanted:
        if all(name != layer.name for layer in layers):
            modules_named(network, [name])  # refuses what does not exist
            raise NetworkError(f"The layer {name!r} returned no tensor: the network does not use it when it answers.")


class _Seen:
    """Keeps what layers return, and the gradients by it.

    Args:
        wanted: names of layers; those that `feature_maps` keeps by default where None.
    """

    def __init__(self, wanted: Sequence[str] | None) -> None:
        self._wanted = wanted
        self._times: Counter[str] = Counter()
        self._maps: dict[str, tuple[str, Tensor]] = {}
        self._gradients: dict[str, Tensor] = {}
        self._last: tuple[Tensor | None, int] = (None, 0)

    def see(self, names: Sequence[str], kind: str, output: Tensor, default: bool) -> None:
        """Take the output of a layer that has several names; keep it under the first of them that is wanted."""
        name = next((one for one in names if one in (self._wanted or ())), names[0])
        self._times[name] += 1
        if self._times[name] > 1:
            name = f"{name}#{self._times[name]}"
        last, version = self._last
        by_default = default and output.ndim > 1 and (output is not last or output._version != version)
        if not (by_default if self._wanted is None else name.split("#")[0] in self._wanted or name in self._wanted):
            return
        self._last = output, output._version  # the same tensor is another output after work in place
        self._maps[name] = (kind, output.detach().clone())  # what follows may work in place
        if output.requires_grad:
            seen: Any = output
            seen.register_hook(lambda gradient: self._gradients.__setitem__(name, gradient.detach().clone()))

    def layers(self) -> tuple[Layer, ...]:
        return tuple(Layer(name, kind, maps, self._gradients.get(name)) for name, (kind, maps) in self._maps.items())


See = Callable[[Sequence[str], str, Tensor, bool], None]


@contextmanager
def _watching_all(network: nn.Module, see: See) -> Iterator[None]:
    """Call ``see(names, kind, output, default)`` for every module that returns a tensor, and for `_FUNCTIONS`.

    Everything that is hooked is let go however it ends.
    """
    stages = {module: name for name, module in contract.stages_of(network).items()}
    inside: list[str | None] = []  # paths of the modules that run; None for one that holds no others

    def enter(path: str, leaf: bool) -> Callable[[nn.Module, Any], None]:
        return lambda module, inputs: inside.append(None if leaf else path)

    def leave(path: str, leaf: bool) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            inside.pop()
            if isinstance(output, Tensor) and (path or leaf):
                shown = (leaf or module in stages) and not isinstance(module, _UNCHANGING)
                names = list(dict.fromkeys([stages.get(module, path) or "network", path]))
                see(names, type(module).__name__, output, shown)

        return hook

    def see_function(name: str, output: Tensor) -> None:
        if inside and inside[-1] is not None:
            see([f"{inside[-1]}.{name}" if inside[-1] else name], name, output, True)

    hooks: list[Any] = []
    for path, module in network.named_modules():
        leaf = not any(module.children())
        hooks.append(module.register_forward_pre_hook(enter(path, leaf)))
        hooks.append(module.register_forward_hook(leave(path, leaf), always_call=True))
    try:
        with _Functions(see_function):
            yield
    finally:
        for hook in hooks:
            hook.remove()


@final
class _Functions(TorchFunctionMode):
    """While it is entered, calls ``see(name, output)`` for every one of `_FUNCTIONS` that is called."""

    def __init__(self, see: Callable[[str, Tensor], None]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").rstrip("_")
        if name in _FUNCTIONS and isinstance(output, Tensor):
            self._see(name, output)
        return output
