"""One trace of any network, as a small graph of our own: geometry, advice, diagram and explanations read it.

The trace is one forward pass in evaluation mode on the meta device, where nothing is computed, with every operation
written down as PyTorch's dispatcher gets it: the vocabulary of `torch.export`, in a sixth of its time for ResNet-152.
A network that cannot be traced is observed with hooks instead: its layers and shapes are known then, but not what feeds
what, and the graph says so.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from striate.core.errors import NetworkError
from striate.core.spec import Spec
from striate.networks import contract

PICTURE = "picture"  # the name of the node that stands for the input
_LOOKS = ("item", "_local_scalar_dense", "is_nonzero", "equal", "allclose", "nonzero")  # so that Python may branch
_MADE_LIKE = ("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")  # of its shape alone
PICTURES = 2  # how many are traced at once: one alone would hide which dimension counts them


@dataclass(frozen=True)
class Node:
    """One operation on tensors.

    Args:
        name: unique in its graph.
        operation: PyTorch's name of it, such as ``conv2d`` or ``add``; ``picture`` for the input; the class of the
            layer where the graph was observed with hooks.
        shape: of its output for `PICTURES` pictures, N first.
        inputs: the nodes whose outputs it takes, in order.
        constants: argument → name of the parameter or buffer that it takes.
        options: argument → number, list or word: kernel, stride, dimension …
        module: path of the innermost module that it belongs to; empty for the network itself.
        kind: class of that module.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    inputs: tuple[str, ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Graph:
    """A network as its operations, in the order in which they run.

    Args:
        nodes: the input first.
        outputs: the nodes whose outputs the network returns.
        constants: name of each parameter and buffer → its shape.
        trainable: the names of the parameters that learn.
        notes: what is not known, in sentences; empty where all of it is.
        traced: whether ``inputs`` of the nodes are known.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, tuple[int, ...]]
    trainable: frozenset[str]
    notes: tuple[str, ...] = ()
    traced: bool = True

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def users(self) -> dict[str, tuple[Node, ...]]:
        """Name of each node → the nodes that take its output."""
        found: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def last_of(self, module: str) -> Node:
        """Return the last node that belongs to a module or to one inside it: the module's output.

        Raises:
            NetworkError: none does.
        """
        inside = [node for node in self.nodes if node.module == module or node.module.startswith(f"{module}.")]
        if not inside:
            raise NetworkError(f"No operation of the network belongs to a module {module!r}.")
        return inside[-1]


def trace(network: nn.Module, spec: Spec) -> Graph:
    """Return the graph of a network in evaluation mode; the network is left as it was.

    Args:
        network: any module, on any device.
        spec: what it takes.

    Raises:
        NetworkError: it does not fit the pictures.
    """
    try:
        try:  # without memory or arithmetic
            return _record(network, _picture(network, spec).to("meta"))
        except _NotTraceableError:
            raise
        except RuntimeError as error:
            if "device" not in str(error):
                raise
            # It has tensors that are neither parameters nor buffers: one real forward pass then.
            return _record(network, _picture(network, spec))
    except Exception as error:  # whatever the module raises: hooks then tell what can be known
        seen = observe(network, spec)
        note = f"The network cannot be traced ({_first_line(error)}): no receptive field is known."
        return Graph(seen.nodes, seen.outputs, seen.constants, seen.trainable, (note,), traced=False)


def _record(network: nn.Module, picture: Tensor) -> Graph:
    with _quietly(network), _moved_to(network, picture.device):
        recorder = _Recorder(network, picture)
        # Inference mode, because operations then arrive as they were called: conv2d, not what it is made of.
        with torch.inference_mode(), recorder.watching_modules(), recorder:
            outputs = network(picture)
    return recorder.graph(outputs, network)


@contextmanager
def _moved_to(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Let copies on another device stand in for parameters and buffers; what was there comes back however it ends.

    (`torch.func.functional_call` does this too, but leaves its copies in a layer that the network uses twice.)
    """
    tables: list[Any] = [table for module in network.modules() for table in (module._parameters, module._buffers)]
    own = [dict(table) for table in tables]
    copies: dict[Tensor | None, Any] = {one: one.to(device) for kept in own for one in kept.values() if one is not None}
    try:
        for table, kept in zip(tables, own, strict=True):
            table.update({name: copies.get(one) for name, one in kept.items()})
        yield
    finally:
        for table, kept in zip(tables, own, strict=True):
            table.clear()
            table.update(kept)


def observe(network: nn.Module, spec: Spec) -> Graph:
    """Return the layers of a network as hooks see them: shapes, but not what feeds what. Faster than `trace`.

    Raises:
        NetworkError: it does not fit the pictures.
    """
    contract.expect_network(network)
    contract.expect_spec(spec)
    picture = _picture(network, spec)
    nodes = [Node(PICTURE, PICTURE, tuple(picture.shape))]
    try:
        with _hooks(network, nodes), _quietly(network):
            network(picture)
    except RuntimeError as error:
        shape = "×".join(str(number) for number in spec.input.shape)
        raise NetworkError(f"The network cannot take a picture of {shape}: {_first_line(error)}.") from error
    return Graph(tuple(nodes), (nodes[-1].name,), *_constants(network), traced=False)


def _picture(network: nn.Module, spec: Spec) -> Tensor:
    parameter = next(network.parameters(), torch.empty(0))
    return torch.zeros(PICTURES, *spec.input.shape, device=parameter.device, dtype=parameter.dtype)


def _constants(network: nn.Module) -> tuple[dict[str, tuple[int, ...]], frozenset[str]]:
    own = [*network.named_parameters(), *network.named_buffers()]
    learning = frozenset(name for name, parameter in network.named_parameters() if parameter.requires_grad)
    return {name: tuple(tensor.shape) for name, tensor in own}, learning


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextmanager
def _quietly(network: nn.Module) -> Iterator[None]:
    with contract.evaluating(network), torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _hooks(network: nn.Module, nodes: list[Node]) -> Iterator[None]:
    """Add a node for every leaf module that runs meanwhile; the hooks are removed however it ends."""

    def hook_for(path: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                kind = type(module).__name__
                own = {name: f"{path}.{name}" if path else name for name, _ in module.named_parameters()}
                nodes.append(Node(f"{path}#{len(nodes)}", kind, tuple(output.shape), (), own, {}, path, kind))

        return hook

    hooks = [module.register_forward_hook(hook_for(path)) for path, module in contract.leaves_of(network).items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _NotTraceableError(Exception):
    """The network does what a trace cannot say."""


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation on tensors while the network runs, and in which module it happened.

    Args:
        network: whose modules' paths and constants are known.
        picture: its input.
    """

    def __init__(self, network: nn.Module, picture: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        constants = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        self._kind = type(network).__name__
        self._paths = {module: path for path, module in network.named_modules()}
        self._inside: list[nn.Module] = []
        self._nodes = {PICTURE: Node(PICTURE, PICTURE, tuple(picture.shape))}
        self._shapes = {name: tuple(tensor.shape) for name, tensor in constants.items()}
        self._names: dict[int, str] = {}
        self._sharing: dict[int, list[Tensor]] = {}  # memory → its tensors, kept so that no id is given away again
        self._stale: set[int] = set()  # tensors that were changed through another that shares their memory
        self._taken: Counter[str] = Counter()
        for name, tensor in {**constants, PICTURE: picture}.items():
            self._know(tensor, name)

    def _know(self, tensor: Tensor, name: str) -> None:
        self._names[id(tensor)] = name
        self._stale.discard(id(tensor))
        self._sharing.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)

    @contextmanager
    def watching_modules(self) -> Iterator[None]:
        """Know at every moment which module runs; the hooks are removed however it ends."""
        entered = register_module_forward_pre_hook(lambda module, _: self._inside.append(module))
        left = register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            entered.remove()
            left.remove()

    def _leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self._inside.pop()

    def graph(self, outputs: object, network: nn.Module) -> Graph:
        """Return what was written down, as far as the outputs depend on it."""
        returned = list(_tensors(outputs))
        for tensor in returned:
            self._check_not_stale(tensor)
        names = tuple(name for tensor in returned if (name := self._names.get(id(tensor), "")) in self._nodes)
        needed = {PICTURE, *names}
        for node in reversed(self._nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        shapes, trainable = _constants(network)
        nodes = tuple(node for node in self._nodes.values() if node.name in needed)
        return Graph(nodes, names, self._shapes | shapes, trainable)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs, constants, options = self._arguments(func, args, kwargs)
        operation = str(func.overloadpacket.__name__)
        if operation in _LOOKS:
            raise _NotTraceableError("it looks at the values of its tensors")
        outputs = func(*args, **kwargs)
        if isinstance(outputs, Tensor):
            self._add(operation, outputs, inputs, constants, options)
        else:
            for number, output in enumerate(outputs if isinstance(outputs, list | tuple) else ()):
                if isinstance(output, Tensor):
                    self._add_part(operation, number, outputs, inputs, constants, options)
        self._note_changes(func, args)
        return outputs

    def _add_part(
        self,
        operation: str,
        number: int,
        outputs: Sequence[Tensor],
        inputs: tuple[str, ...],
        constants: dict[str, str],
        options: dict[str, Any],
    ) -> None:
        """One of several tensors that an operation returns: of a split, a slice; else of the operation itself."""
        output = outputs[number]
        if operation in ("chunk", "split", "split_with_sizes", "tensor_split"):
            dimension = int(options.get("dim") or 0)
            start = sum(int(part.shape[dimension]) for part in outputs[:number])
            options = {"dim": dimension, "start": start, "end": start + int(output.shape[dimension]), "step": 1}
            operation = "slice"
        elif operation == "unbind":
            options = {"dim": options.get("dim") or 0, "index": number}
            operation = "select"
        elif number:
            operation = f"{operation}[{number}]"
        self._add(operation, output, inputs, constants, options, name="getitem")

    def _add(
        self,
        operation: str,
        output: Tensor,
        inputs: tuple[str, ...],
        constants: dict[str, str],
        options: dict[str, Any],
        name: str = "",
    ) -> None:
        name = self._new_name(name or operation)
        operation = operation.rstrip("_")  # what is done in place is the same operation
        self._know(output, name)
        shape = tuple(int(size) for size in output.shape)
        if not inputs or operation in _MADE_LIKE:  # computed from constants alone, so a constant too
            self._shapes[name] = shape
            return
        module = self._inside[-1] if self._inside else None
        path, kind = self._paths.get(module, "") if module else "", type(module).__name__ if module else self._kind
        self._nodes[name] = Node(name, operation, shape, inputs, constants, options, path, kind)

    def _new_name(self, base: str) -> str:
        self._taken[base] += 1
        count = self._taken[base] - 1
        return f"{base}_{count}" if count else base

    def _arguments(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], dict[str, str], dict[str, Any]]:
        """Return the nodes, the constants and the plain values that an operation is given, by its schema's names."""
        schema = func._schema.arguments
        given = {argument.name: argument.default_value for argument in schema}
        given |= {argument.name: value for argument, value in zip(schema, args, strict=False)}
        given |= kwargs
        inputs: list[str] = []
        constants: dict[str, str] = {}
        options: dict[str, Any] = {}
        for argument, value in given.items():
            tensors = list(_tensors(value))
            if not tensors:
                options[argument] = list(value) if isinstance(value, list | tuple) else value
            for tensor in tensors:
                self._check_not_stale(tensor)
                name = self._names.get(id(tensor))
                if name in self._nodes:
                    inputs.append(str(name))
                else:
                    constants[argument] = self._constant(tensor) if name is None else name
        return tuple(inputs), constants, options

    def _check_not_stale(self, tensor: Tensor) -> None:
        if id(tensor) in self._stale:
            raise _NotTraceableError("it changes part of a tensor in place")

    def _constant(self, tensor: Tensor) -> str:
        """A tensor of the module's own that is neither parameter nor buffer."""
        name = self._new_name("constant")
        self._know(tensor, name)
        self._shapes[name] = tuple(tensor.shape)
        return name

    def _note_changes(self, func: Any, args: Sequence[Any]) -> None:
        """Remember which tensors an operation in place has changed besides the one that it was given."""
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.is_write and isinstance(value, Tensor):
                sharing = self._sharing[value.untyped_storage()._cdata]
                self._stale |= {id(one) for one in sharing if one is not value}


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples, dictionaries and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
    elif is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield from _tensors(getattr(value, one.name))
