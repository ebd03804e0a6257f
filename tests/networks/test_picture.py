"""The network as a picture: what is folded, how often, and what the branches are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.drawing.diagram import Diagram, Fork, Frame, Item, Step
from striate.networks.build import build_on_meta
from striate.networks.picture import picture
from striate.networks.zoo import ZOO
from tests.drawing.reading import marks, overlaps, size

# One of each family and kind of structure; the others are drawn in the slow tests.
QUICK = {"alexnet_paper", "bninception", "feedforward0", "lenet5_paper", "nin_cifar10", "preresnet18", "speednet",
         "resnet20_cifar10_paper", "vgg11", "zfnet"}  # fmt: skip


def spec_for(*shape: int) -> st.Spec:
    channels, height, width = shape
    pictures = st.InputSpec(
        channels=channels, height=height, width=width, mean=(0.0,) * channels, std=(1.0,) * channels
    )
    return st.Spec(input=pictures, task=st.TaskSpec(class_names=tuple("0123456789")))


def of_zoo(name: str) -> Diagram:
    spec = ZOO.get(name).spec
    return picture(build_on_meta(name, spec), spec)


def of_text(text: str, *shape: int) -> Diagram:
    spec = spec_for(*(shape or (3, 32, 32)))
    return picture(build_on_meta(text, spec), spec)


def items(diagram: Diagram) -> list[Item]:
    return [item for stage in diagram.stages for item in stage.items]


def frames(diagram: Diagram) -> list[Frame]:
    return [item for item in items(diagram) if isinstance(item, Frame)]


def fork_of(frame: Frame) -> Fork:
    (fork,) = (item for item in frame.items if isinstance(item, Fork))
    return fork


def words(branch: tuple[Item, ...]) -> list[str]:
    return [" ".join(step.above) for step in branch if isinstance(step, Step)]


def steps(found: list[Item]) -> Iterator[Step]:
    return (item for item in found if isinstance(item, Step))


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ZOO.names()])
def test_every_network_of_the_zoo_is_drawn_without_overlap(name: str) -> None:
    spec = ZOO.get(name).spec
    network = build_on_meta(name, spec)
    drawing = st.draw(network, spec)
    found = [mark for mark in marks(drawing) if mark.words not in ("+", "×")]
    width, height = size(drawing)
    assert overlaps(found) == []
    assert all(one.left >= 0 and one.right <= width and one.top >= 0 and one.bottom <= height for one in found)
    assert "Dashed" not in drawing
    assert any(mark.words == name for mark in found)


def test_resnet152_has_3_8_36_and_3_bottlenecks() -> None:
    diagram = of_zoo("resnet152")
    stages = [stage for stage in diagram.stages if stage.name]
    assert [stage.name for stage in stages] == [
        f"layer{number}: {blocks} × Bottleneck" for number, blocks in enumerate((3, 8, 36, 3), 1)
    ]
    assert [stage.blocks for stage in stages] == [3, 8, 36, 3]
    assert [frame.times for frame in frames(diagram)] == [1, 2, 1, 7, 1, 35, 1, 2]
    assert "152 layers of weights deep" in diagram.subtitle
    for frame in frames(diagram):
        long, short = fork_of(frame).branches
        assert [word.split(",")[0].split(" /")[0] for word in words(long)] == ["conv 1×1", "conv 3×3", "conv 1×1"]
        assert len(short) == (1 if frame.times == 1 else 0)


def test_googlenet_has_nine_modules_of_four_branches() -> None:
    diagram = of_zoo("googlenet")
    found = frames(diagram)
    assert [frame.times for frame in found] == [2, 5, 2]
    assert [frame.lines[0] for frame in found] == ["2 × inception", "5 × inception", "2 × inception"]
    assert found[1].lines[1] == "inception4a … inception4e"
    assert [[len(branch) for branch in fork_of(frame).branches] for frame in found] == [[1, 2, 2, 2]] * 3
    # Szegedy et al. 2015, table 1, "#3×3" of 3a and 3b, of 4a to 4e
    assert words(fork_of(found[0]).branches[1])[1] == "conv 3×3 128, 192"
    assert words(fork_of(found[1]).branches[1])[1] == "conv 3×3 208, 224, 256, 288, 320"
    assert "22 layers of weights deep" in diagram.subtitle
    assert any("Auxiliary heads" in note for note in diagram.notes)


def test_densenet121_has_6_12_24_and_16_layers() -> None:
    diagram = of_zoo("densenet121")
    assert [frame.times for frame in frames(diagram)] == [6, 12, 24, 16]
    for frame in frames(diagram):
        passed_on, new = fork_of(frame).branches
        assert passed_on == ()
        assert words(new) == ["BN · ReLU conv 1×1, 128", "conv 3×3, 32"]
    assert frames(diagram)[0].lines[0] == "6 × denselayer"
    assert fork_of(frames(diagram)[0]).join.below == ("96–256×56×56",)  # type: ignore[union-attr]


def test_lenet5_is_a_row_of_its_layers() -> None:
    found = list(steps(items(of_zoo("lenet5"))))
    assert [" ".join(step.above) for step in found] == [
        "", "conv 5×5, 6", "avg pool 2×2 /2", "conv 5×5, 16", "avg pool 2×2 /2", "conv 5×5, 120", "fc 84", "fc 10"
    ]  # fmt: skip
    assert found[1].captions == ("6×28×28", "156 params", "sees 5×5")
    assert found[1].below == ("tanh",)


def test_what_a_map_sees_is_said_before_it_is_flattened() -> None:
    seen = [caption for step in steps(items(of_zoo("alexnet"))) for caption in step.captions if "sees" in caption]
    assert seen[-2:] == ["sees 195×195", "sees 195×195"]


def test_local_response_normalisation_is_one_word() -> None:
    first = list(steps(items(of_zoo("alexnet_paper"))))[1]
    assert first.below == ("ReLU · LRN",)


def test_branches_of_a_network_text() -> None:
    diagram = of_text(
        "conv 8@3x3 pad 1 relu | add(conv 8@3x3 pad 1 bn relu | conv 8@3x3 pad 1) relu | "
        "concat(conv 4@1x1 ; maxpool 3 stride 1 pad 1 | conv 4@1x1) | 6x(conv 8@3x3 pad 1 relu) | gap | fc 10"
    )
    residual, concat, row = frames(diagram)
    assert residual.lines[0] == "Residual"
    assert [words(branch) for branch in fork_of(residual).branches] == [["conv 3×3, 8", "conv 3×3, 8"], []]
    assert fork_of(residual).join.above == ("ReLU",)  # type: ignore[union-attr]
    assert [words(branch) for branch in fork_of(concat).branches] == [["conv 1×1, 4"], ["max pool 3×3", "conv 1×1, 4"]]
    assert (row.times, row.lines[0]) == (6, "6 in a row")


def test_four_alike_in_a_row_are_drawn_one_by_one() -> None:
    assert frames(of_text("4x(conv 8@3x3 pad 1 relu) | gap | fc 10")) == []
    assert frames(of_text("5x(conv 8@3x3 pad 1 relu) | gap | fc 10"))[0].times == 5


class ListedDense(nn.Module):
    """A dense block that concatenates all earlier maps anew for each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(8 + 4 * number, 4, 3, padding=1) for number in range(5))
        self.head = nn.Linear(28, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = [self.stem(images)]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        logits: Tensor = self.head(torch.cat(maps, 1).mean((2, 3)))
        return logits


def test_a_dense_block_that_lists_its_maps_is_folded_too() -> None:
    (frame,) = frames(picture(ListedDense(), spec_for(3, 32, 32)))
    assert frame.times == 5
    assert [words(branch) for branch in fork_of(frame).branches] == [[], ["conv 3×3, 4"]]


class Crossing(nn.Module):
    """Two paths that exchange their maps: neither series nor parallel."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 2 * n + 1, padding=n) for n in range(4))

    def forward(self, images: Tensor) -> Tensor:
        left, right = self.a(images), self.b(images)
        low, high = self.c(left + right), self.d(right)
        return (low + high).mean((2, 3))


def test_paths_that_cross_are_drawn_in_order_with_a_note() -> None:
    diagram = picture(Crossing(), spec_for(3, 16, 16))
    assert any(note.startswith("Dashed arrows") for note in diagram.notes)
    dashed = [" ".join(step.above) for step in steps(items(diagram)) if not step.certain]
    assert dashed == ["conv 1×1, 3", "conv 3×3, 3", "+", "conv 5×5, 3", "conv 7×7, 3", "+"]


class Untraceable(nn.Module):
    """Decides by what the numbers are, which no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        if float(maps.sum()) > 1e9:
            maps = -maps
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


def test_a_network_that_cannot_be_traced_gets_its_layers_and_a_note() -> None:
    diagram = picture(Untraceable(), spec_for(3, 16, 16))
    first, second = list(steps(items(diagram)))[1:]
    assert (first.above, second.above) == (("conv 3×3, 8",), ("fc 10",))
    assert not first.certain
    assert any("cannot be traced" in note for note in diagram.notes)
    assert "cannot be traced" in st.draw(Untraceable(), spec_for(3, 16, 16))


def test_the_same_network_is_the_same_bytes_and_stays_as_it_was() -> None:
    spec = ZOO.get("lenet5").spec
    network = st.build("lenet5", spec).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert st.draw(network, spec) == st.draw(build_on_meta("lenet5", spec), spec)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_title_of_ones_own() -> None:
    spec = ZOO.get("lenet5").spec
    drawing = st.draw(build_on_meta("lenet5", spec), spec, title="Mine & yours")
    assert "Mine & yours" in {mark.words for mark in marks(drawing)}
