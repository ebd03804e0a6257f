"""What the word MODEL means, wherever a verb takes one."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path

from torch import nn

from striate.core.errors import NetworkError, suggest
from striate.core.spec import Spec
from striate.networks import saved
from striate.networks.build import build_on_meta, read_model
from striate.networks.zoo import ZOO

LARGEST = 65_535
TEXT_INPUT, TEXT_CLASSES = "1x28x28", 10  # what a text is laid out for when nobody says
FOREIGN_INPUT, FOREIGN_CLASSES = "3x224x224", 1000  # what most modules of other libraries take
_FACTORY = re.compile(r"(?P<module>[A-Za-z_]\w*(\.\w+)*):(?P<factory>[A-Za-z_]\w*)")


def read_network(model: str, input_words: str | None = None, classes: int | None = None) -> tuple[nn.Module, Spec]:
    """Return the network that MODEL names and what it takes.

    Args:
        model: a zoo name, a network text, a ``.txt`` file that holds one, a run's folder, a saved network, or
            ``module:factory``: a function or class, importable from here, that makes an `nn.Module`, or a module.
        input_words: channels x height x width; by default what the paper used, ``1x28x28`` for a text, ``3x224x224``
            for a module.
        classes: how many.

    Raises:
        NetworkError, FileError: there is no such network, or it does not fit.
    """
    if Path(model).is_dir() or model.endswith(".safetensors"):
        if input_words or classes:
            raise NetworkError("A saved network has its own input and classes: leave --input and --classes out.")
        loaded = saved.load(model)
        return loaded.network, loaded.spec
    foreign = _foreign(model)
    if foreign is not None:
        return foreign, _spec(input_words or FOREIGN_INPUT, FOREIGN_CLASSES if classes is None else classes)
    blueprint = read_model(model)
    entry = ZOO.get(blueprint.name) if blueprint.kind == "zoo" else None
    if input_words is None and classes is None and entry is not None:
        spec = entry.spec
    else:
        default = "x".join(map(str, entry.shape)) if entry else TEXT_INPUT
        usual = entry.classes if entry else TEXT_CLASSES
        spec = _spec(input_words or default, usual if classes is None else classes)
    return build_on_meta(model, spec), spec


def _foreign(model: str) -> nn.Module | None:
    """Import ``module:factory`` and call it; None where the word is something else, a label in a network text say."""
    match = _FACTORY.fullmatch(model.strip())
    if match is None:
        return None
    sys.path.insert(0, "")  # as `python -m` does: modules beside the user
    try:
        if not _is_importable(match["module"]):
            if "." in match["module"]:  # no label of a layer has one
                raise NetworkError(f"There is no module {match['module']!r} to import from here.")
            return None
        module = importlib.import_module(match["module"])
        if not hasattr(module, match["factory"]):
            near = suggest(match["factory"], vars(module))
            raise NetworkError(f"{match['module']} has no {match['factory']!r}.{near}")
        made = getattr(module, match["factory"])
        network = made if isinstance(made, nn.Module) else made()
    except NetworkError:
        raise
    except Exception as error:  # whatever the user's own code raises
        raise NetworkError(f"{model} cannot be made: {type(error).__name__}: {error}.") from error
    finally:
        sys.path.remove("")
    if not isinstance(network, nn.Module):
        raise NetworkError(f"{model} must make an nn.Module, got {type(network).__name__}.")
    return network


def _is_importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


def _spec(words: str, classes: int) -> Spec:
    match = re.fullmatch(r"(\d+)[x×](\d+)[x×](\d+)", words)
    sizes = [int(number) for number in match.groups()] if match else []
    if not sizes or not all(1 <= size <= LARGEST for size in sizes):
        raise NetworkError(f"--input must be channels x height x width, such as 3x224x224, got {words!r}.")
    if not 1 <= classes <= LARGEST:
        raise NetworkError(f"--classes must be from 1 to {LARGEST:,}, got {classes}.")
    return Spec.of((sizes[0], sizes[1], sizes[2]), classes)
