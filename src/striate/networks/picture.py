"""The network as a picture: volumes to scale, branches drawn once, repetition folded.

What is folded is read from the network itself. Blocks that follow each other with the same operations at the same
size are drawn once with their number; where only their filters differ, the filters of each are listed. Stages are the
modules that hold several layers or blocks. Layers in a row are drawn one by one up to `MOST_ALIKE`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from torch import nn

from striate.core.spec import Spec
from striate.drawing.diagram import Diagram, Fork, Frame, Item, Join, Stage, Step, draw_diagram
from striate.drawing.svg import Drawing
from striate.networks import contract
from striate.networks.build import blueprint_of
from striate.networks.folding import Branching, Crossing, Layer, Part, fold, layers_of
from striate.networks.geometry import Geometry, geometry
from striate.networks.graph import Graph, Node
from striate.networks.summary import in_words

MOST_ALIKE = 4  # layers in a row that are drawn one by one, as VGG's figure does
LONGEST_UNIT = 3  # parts in a block that repeats
LINE = 17  # letters in a line of words at an arrow

_SHORT = {
    "batch_norm": "BN", "BatchNorm2d": "BN", "layer_norm": "LN", "group_norm": "GN", "instance_norm": "IN",
    "LocalResponseNorm": "LRN", "relu": "ReLU", "ReLU": "ReLU", "relu6": "ReLU6", "leaky_relu": "leaky ReLU",
    "prelu": "PReLU", "elu": "ELU", "selu": "SELU", "gelu": "GELU", "silu": "SiLU", "hardswish": "hard swish",
    "mul": "scale", "div": "scale", "add": "shift", "sub": "shift", "slice": "stride", "Dropout": "dropout",
    "feature_dropout": "dropout", "log_softmax": "log softmax",
}  # fmt: skip
_SILENT = ("flatten", "view", "reshape", "squeeze", "unsqueeze", "permute", "contiguous", "clone", "detach", "to",
           "Flatten", "Identity", "alias", "_assert_tensor_metadata")  # fmt: skip
_SIGNS = {"add": "+", "sub": "−", "mul": "×", "div": "÷", "cat": "concat", "matmul": "·", "maximum": "max"}
_PLAIN = ("Sequential", "ModuleList", "ModuleDict")  # say nothing of what they hold
_JOINS = ("Concat", "Add")  # say only how what they hold ends
_MEANING = {
    "BN": "batch normalisation", "LN": "layer normalisation", "GN": "group normalisation",
    "IN": "instance normalisation", "LRN": "local response normalisation",
}  # fmt: skip


def draw(network: nn.Module, spec: Spec, *, title: str = "") -> Drawing:
    """Draw a network as SVG: volumes to scale from left to right, branches and joins, repeated blocks once.

    Args:
        network: any module; on the meta device it takes no memory. It is left as it was.
        spec: what it takes.
        title: over the picture; by default its name in the zoo, else its class.

    Returns:
        A `str` that a notebook shows as a picture. The same network gives the same text.

    Raises:
        NetworkError: it does not fit the pictures.
    """
    return draw_diagram(picture(network, spec, title=title))


def picture(network: nn.Module, spec: Spec, *, title: str = "") -> Diagram:
    """Return what `draw` draws."""
    knowledge = geometry(network, spec)
    return _Picture(network, knowledge).diagram(spec, title or _name(network))


def _name(network: nn.Module) -> str:
    blueprint = blueprint_of(network)
    if blueprint.kind == "zoo":
        return blueprint.call
    return "network text" if blueprint.kind == "text" else type(network).__name__


@dataclass(frozen=True)
class _Run:
    """Parts that follow each other and are drawn as one, ``times`` times.

    ``versions`` holds the parts of each time, the first of which is drawn.
    """

    versions: tuple[tuple[Part, ...], ...]

    @property
    def first(self) -> Part:
        return self.versions[0][0]

    @property
    def times(self) -> int:
        return len(self.versions)

    @property
    def has_branches(self) -> bool:
        return any(isinstance(part, Branching) for part in self.versions[0])


class _Picture:
    """Turns a network into a diagram."""

    def __init__(self, network: nn.Module, knowledge: Geometry) -> None:
        self._kinds = {path: type(module).__name__ for path, module in network.named_modules()}
        self._leaves = contract.leaves_of(network).keys()
        self._parameters = {name: parameter.numel() for name, parameter in network.named_parameters()}
        heads = tuple(f"{path}." for path in contract.auxiliary_outputs_of(network))
        self._auxiliary = [name for name in self._parameters if name.startswith(heads)] if heads else []
        self._geometry = knowledge
        self._graph: Graph = knowledge.graph
        self._uncertain: set[str] = set()
        self._modules: list[str] = []  # of every layer

    def diagram(self, spec: Spec, title: str) -> Diagram:
        parts = self._without_crossings(fold(self._graph))
        self._modules = [layer.module for layer in layers_of(parts)]
        stages = self._stages(_runs(parts, self._graph))
        shape = in_words(spec.input.shape)
        total, apart = sum(self._parameters.values()), sum(map(self._parameters.__getitem__, self._auxiliary))
        numbers = f"{_counted(total - apart)} parameters · {_counted(self._geometry.multiply_adds)} multiply-adds"
        output = " + ".join(in_words(self._graph[name].shape[1:]) for name in self._graph.outputs)
        notes = list(self._graph.notes)
        if apart:
            notes.append(f"Auxiliary heads ({_counted(apart)} parameters) work in training alone and are not drawn.")
        if self._uncertain:
            notes.append("Dashed arrows: in the order in which the layers run; what feeds what is not drawn there.")
        return Diagram(
            title=title,
            subtitle=f"{shape} → {output} · {numbers} · {_depth(parts)} layers of weights deep",
            description=f"Diagram of {title}, which takes pictures of {shape}: {_listed(stages)}.",
            stages=tuple(stages),
            notes=tuple(notes),
            key=tuple(self._key(parts)),
        )

    def _without_crossings(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """Put crossing layers in a row, and remember that their connections are not drawn."""
        found: list[Part] = []
        for part in parts:
            if isinstance(part, Crossing):
                self._uncertain.update(layer.name for layer in part.layers)
                found += part.layers
            elif isinstance(part, Branching):
                branches = tuple(self._without_crossings(branch) for branch in part.branches)
                found.append(Branching(branches, part.join))
            else:
                found.append(part)
        return tuple(found)

    def _key(self, parts: Sequence[Part]) -> Iterator[str]:
        """Yield what words and abbreviations mean that are in the picture."""
        layers = list(layers_of(parts))
        if any(self._sees(layer) for layer in layers):
            yield "Sees: the receptive field of a unit, in pixels."
        said = {word for layer in layers for word in _said((*layer.before, *layer.after))}
        for short, meaning in _MEANING.items():
            if short in said:
                yield f"{short}: {meaning}."

    # Stages

    def _stages(self, runs: Sequence[_Run]) -> list[Stage]:
        """Put brackets over runs of the same module; none over one layer or block, nor over everything."""
        stages = []
        for key, group in groupby(runs, key=self._holder):
            held = list(group)
            drawn = [self._run(run) for run in held]
            several = sum(run.times * len(run.versions[0]) for run in held) > 1
            whole = 2 * len(held) > len(runs) and any(run.has_branches for run in held)
            stages.append(Stage(tuple(drawn), self._bracket(key, held) if several and key and not whole else ""))
        return stages

    def _bracket(self, path: str, runs: Sequence[_Run]) -> str:
        blocks = [run for run in runs if run.has_branches]
        titles = {self._title(run) for run in blocks}
        name = path.rpartition(".")[2] if not path.rpartition(".")[2].isdigit() else path
        if len(blocks) < 2 or len(titles) != 1:
            return name
        return f"{name}: {sum(run.times for run in blocks)} × {titles.pop()}"

    def _holder(self, run: _Run) -> str:
        """Return the path of the module that holds a run; empty where its parts are of several."""
        holders = {self._block(version).rpartition(".")[0] for version in run.versions}
        return holders.pop() if len(holders) == 1 else ""

    def _block(self, parts: Sequence[Part]) -> str:
        """Return the path of the module that parts are; of containers that hold nothing else, the outermost."""
        if len(parts) == 1 and isinstance(parts[0], Layer):
            return parts[0].module
        layers = [layer for part in parts for layer in layers_of([part])]
        joins = {id(part.join) for part in parts if isinstance(part, Branching)}
        paths = [layer.module for layer in layers if id(layer) not in joins]
        path = _common(paths) if len(set(paths)) > 1 else _common(paths).rpartition(".")[0]
        while path and self._kinds.get(path) in _PLAIN:
            above = path.rpartition(".")[0]
            if not above or sum(module == above or module.startswith(f"{above}.") for module in self._modules) > len(
                layers
            ):
                break
            path = above
        return path

    def _title(self, run: _Run) -> str:
        """Return what a block is called: its class, or what the names of its modules have in common."""
        first, last = self._block(run.versions[0]), self._block(run.versions[-1])
        kind = self._kinds.get(first, "") if first else ""
        if kind and kind not in _PLAIN + _JOINS:
            return kind
        return _beginning(first, last) or (first if run.times == 1 and first else "block")

    # Items

    def _run(self, run: _Run) -> Item:
        alone = len(run.versions[0]) == 1
        if alone and run.times == 1 and isinstance(run.first, Layer):
            return self._layer([run.first], numbers=True)
        items = tuple(self._item([version[i] for version in run.versions]) for i in range(len(run.versions[0])))
        return Frame(items, self._heading(run), run.times)

    def _heading(self, run: _Run) -> tuple[str, ...]:
        first, last = self._block(run.versions[0]), self._block(run.versions[-1])
        if run.has_branches:
            title = f"{run.times} × {self._title(run)}" if run.times > 1 else self._title(run)
        else:
            title, first = f"{run.times} in a row", _common([first, last])
            last = first
        where = [first if first == last else f"{first} … {last}"] if first and first != title else []
        layers = [layer for version in run.versions for layer in layers_of(version)]
        numbers = [f"{_counted(self._count(layers))} params", *self._sees(layers[-1])]
        return (title, *where, " · ".join(numbers))

    def _item(self, versions: Sequence[Part]) -> Item:
        """Return what is drawn of parts that differ in their filters alone."""
        first = versions[0]
        if isinstance(first, Layer):
            return self._layer([part for part in versions if isinstance(part, Layer)])
        forks = [part for part in versions if isinstance(part, Branching)]
        branches = []
        for number, branch in enumerate(forks[0].branches):
            same = [fork.branches[number] for fork in forks]
            branches.append(tuple(self._item([parts[i] for parts in same]) for i in range(len(branch))))
        joins = [fork.join for fork in forks if fork.join is not None]
        return Fork(tuple(branches), self._join(joins) if joins else None)

    def _join(self, joins: Sequence[Layer]) -> Join:
        first = joins[0]
        after = _lines(_said(first.after))
        sign = _sign(first)
        return Join(sign, after, (_shapes(joins),))

    def _layer(self, versions: Sequence[Layer], *, numbers: bool = False) -> Step:
        first = versions[0]
        if first.role == "picture":
            return Step(first.shape, "picture", captions=(in_words(first.shape), "picture"))
        captions = [_shapes(versions)]
        if numbers:
            count = self._count(versions)
            captions += [f"{_counted(count)} params"] if count else []
            captions += self._sees(first)
        above, below = self._labels(versions)
        kind = "other" if first.role == "join" else first.role
        return Step(first.shape, kind, above, below, tuple(captions), first.name not in self._uncertain)

    def _labels(self, versions: Sequence[Layer]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        first = versions[0]
        before, after = _lines(_said(first.before)), _lines(_said(first.after))
        if first.role == "join":
            return (_sign(first),), after
        what = _what(first, self._graph)
        if not what:
            return after[:2], after[2:]
        filters = [_filters(layer) for layer in versions]
        if filters[0] is None:
            return (*before, what), after
        if len(set(filters)) == 1:
            return (*before, f"{what}{' ' if what == 'fc' else ', '}{filters[0]}"), after
        return (*before, what, *_lines([str(one) for one in filters], ", ")), after

    def _sees(self, layer: Layer) -> list[str]:
        if not self._graph.traced or len(layer.shape) < 3 or math.prod(layer.shape[1:]) == 1:
            return []
        maps = [node for node in layer.nodes if node.shape[1:] == layer.shape]  # a reshape at the end sees all of them
        field = self._geometry.receptive_field(maps[-1].name if maps else layer.name)
        return [f"sees {in_words(field.size)}"] if field else []

    def _count(self, layers: Iterable[Layer]) -> int:
        """Return the parameters of layers: those they use, and all of the leaf modules that they are."""
        nodes = [node for layer in layers for node in layer.nodes]
        used = {name for node in nodes for name in node.constants.values()}
        modules = {node.module for node in nodes} & self._leaves
        used |= {name for name in self._parameters if name.rpartition(".")[0] in modules and modules - {""}}
        return sum(self._parameters.get(name, 0) for name in used)


# Repetition


def _runs(parts: Sequence[Part], graph: Graph) -> list[_Run]:
    """Fold what repeats, exactly or but for the filters of blocks, whichever covers more."""
    exact, loose = ([_signature(part, graph, filters=filters) for part in parts] for filters in (True, False))
    runs, at = [], 0
    while at < len(parts):
        length, times = max(
            (_repeats(marks, parts, at, length, blocks_only=marks is loose) for length in range(1, LONGEST_UNIT + 1)
             for marks in (exact, loose)),
            key=lambda found: (found[0] * found[1] if found[1] > 1 else 0, -found[0]),
        )  # fmt: skip
        runs.append(_Run(tuple(tuple(parts[at + i * length : at + (i + 1) * length]) for i in range(times))))
        at += length * times
    return runs


def _repeats(
    marks: Sequence[object], parts: Sequence[Part], at: int, length: int, *, blocks_only: bool
) -> tuple[int, int]:
    """Return the length of a unit at a place and how often it follows itself; (1, 1) where it is not worth folding."""
    unit, times = marks[at : at + length], 1
    while len(unit) == length and marks[at + times * length : at + (times + 1) * length] == unit:
        times += 1
    branches = isinstance(parts[at], Branching) or any(isinstance(p, Branching) for p in parts[at : at + length])
    if times == 1 or (blocks_only and not all(isinstance(p, Branching) for p in parts[at : at + length])):
        return 1, 1
    return (length, times) if branches or times * length > MOST_ALIKE else (1, 1)


def _signature(part: Part, graph: Graph, *, filters: bool) -> object:
    """Return what two parts have in common that are drawn as one."""
    if isinstance(part, Branching):
        branches = tuple(tuple(_signature(one, graph, filters=filters) for one in branch) for branch in part.branches)
        return branches, part.join and _signature(part.join, graph, filters=filters)
    assert isinstance(part, Layer)
    own = part.shape[0] if filters and part.role in ("convolution", "fully connected") else 0
    operation = part.main.operation if part.main else ""
    words = (_what(part, graph), tuple(_said(part.before)), tuple(_said(part.after)))
    return part.role, operation, words, own, part.shape[1:]


# Words


def _what(layer: Layer, graph: Graph) -> str:
    """Return what a layer is, without the number of its filters."""
    node = layer.main
    if node is None:
        return ""
    if layer.role == "convolution":
        return _convolution(node, graph)
    if layer.role == "fully connected":
        return "fc"
    if layer.role == "pooling":
        return _pooling(layer, node)
    return _SHORT.get(node.operation, node.operation.replace("_", " "))


def _convolution(node: Node, graph: Graph) -> str:
    weight = graph.constants.get(node.constants.get("weight", ""), ())
    groups = node.options.get("groups", 1) or 1
    words = "conv"
    if "transpose" in node.operation.lower():
        words = "transposed conv"
    elif groups > 1 and len(weight) > 1 and weight[1] == 1:
        words = "depthwise"
    kernel = in_words(tuple(weight[2:]))
    dilation = max(_numbers(node.options.get("dilation")), default=1)
    return " ".join(
        [
            words,
            kernel,
            *_stride(node),
            *([f"dil. {dilation}"] if dilation > 1 else []),
            *([f"{groups} groups"] if groups > 1 and words != "depthwise" else []),
        ]
    ).strip()


def _pooling(layer: Layer, node: Node) -> str:
    operation = node.operation.lower()
    kind = "max" if "max" in operation else "avg" if "avg" in operation or operation == "mean" else operation
    kernel = _numbers(node.options.get("kernel_size"))
    if math.prod(layer.shape[1:]) == 1 and ("adaptive" in operation or not kernel):
        return f"global {kind} pool"
    if "adaptive" in operation:
        return f"{kind} pool to {in_words(layer.shape[1:])}"
    if len(kernel) == 1:
        kernel *= 2
    return " ".join([kind, "pool", *([in_words(kernel)] if kernel else []), *_stride(node, kernel)])


def _stride(node: Node, usual: tuple[int, ...] = ()) -> list[str]:
    stride = _numbers(node.options.get("stride")) or usual
    if not stride or max(stride) == 1:
        return []
    return [f"/{stride[0]}" if len(set(stride)) == 1 else f"/{in_words(stride)}"]


def _numbers(value: object) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,)
    return tuple(one for one in value if isinstance(one, int)) if isinstance(value, list | tuple) else ()


def _filters(layer: Layer) -> int | None:
    return layer.shape[0] if layer.role in ("convolution", "fully connected") and layer.shape else None


def _sign(join: Layer) -> str:
    operation = join.main.operation if join.main else ""
    return _SIGNS.get(operation, operation[:3])


def _said(calls: Iterable[Sequence[Node]]) -> list[str]:
    """Return a word for each call of norms, activations and the like; none for reshaping."""
    words: list[str] = []
    for call in calls:
        kind = call[-1].kind if len(call) > 1 else ""
        names = [kind] if kind else [call[0].operation]
        for name in names:
            word = _SHORT.get(name, name.strip("_").replace("_", " "))
            if name not in _SILENT and (not words or words[-1] != word):
                words.append(word)
    return words


def _lines(words: Sequence[str], between: str = " · ") -> tuple[str, ...]:
    """Put words into lines of about `LINE` letters."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(between) + len(word) <= LINE:
            lines[-1] += between + word
        else:
            if lines:
                lines[-1] += between.rstrip()
            lines.append(word)
    return tuple(lines)


def _shapes(layers: Sequence[Layer]) -> str:
    """``64×56×56``; ``64–128×56×56`` where the channels differ."""
    channels = [layer.shape[0] for layer in layers if layer.shape]
    if not channels:
        return "1"
    least, most = min(channels), max(channels)
    return in_words((f"{least}–{most}" if least != most else least, *layers[0].shape[1:]))  # type: ignore[arg-type]


def _counted(count: int) -> str:
    """``1.2 k``, ``25.6 M``, ``11.5 G``."""
    for power, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= power:
            return f"{count / power:.3g} {unit}" if count < 1000 * power else f"{count / power:,.0f} {unit}"
    return str(count)


def _beginning(first: str, last: str) -> str:
    """``features.inception4a``, ``features.inception4e`` → ``inception``; the same name twice → it, if no number."""
    one, other = first.rpartition(".")[2], last.rpartition(".")[2]
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same].rstrip("0123456789_-") if first != last else one * (not one.isdigit())


def _depth(parts: Sequence[Part]) -> int:
    """Return how many layers of weights the longest path goes through."""
    total = 0
    for part in parts:
        if isinstance(part, Branching):
            total += max(map(_depth, part.branches))
        elif isinstance(part, Layer):
            total += part.role in ("convolution", "fully connected")
    return total


def _common(paths: Sequence[str]) -> str:
    """Return the path of the innermost module that holds all."""
    first, *others = [path.split(".") for path in paths]
    length = 0
    while length < len(first) and all(other[: length + 1] == first[: length + 1] for other in others):
        length += 1
    return ".".join(first[:length])


def _listed(stages: Iterable[Stage]) -> str:
    return "; ".join(stage.name or ", ".join(map(_in_words, stage.items)) for stage in stages)


def _in_words(item: Item) -> str:
    if isinstance(item, Frame):
        return " ".join(item.lines[:2])
    if isinstance(item, Fork):
        return "branches"
    return " ".join(item.above) or item.kind
