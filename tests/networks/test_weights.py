from __future__ import annotations

import os
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import striate as st
from striate.core.errors import FileError, NetworkError
from striate.networks.build import build_on_meta
from striate.networks.contract import Outputs
from striate.networks.weights import LoadReport, fit_weights, load_weights, read_weights
from striate.networks.zoo import ZOO


class Payload:
    """Makes a file when it is unpickled by anything that calls what a pickle names."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.mark}'",)


class TwoHeads(nn.Module):
    """A small network with an auxiliary head, of the kinds of layers that the zoo has."""

    def __init__(self, channels: int = 3, classes: int = 5, auxiliary: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.aux1 = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, classes)) if auxiliary else None
        self.head = nn.Linear(4, classes)

    @property
    def auxiliary(self) -> dict[str, float]:
        return {"aux1": 0.3} if self.aux1 is not None else {}

    def forward(self, images: Tensor) -> Tensor | Outputs:
        features = self.body(images).mean((2, 3))
        if self.training and self.aux1 is not None:
            return Outputs(self.head(features), {"aux1": self.aux1(features)})
        logits: Tensor = self.head(features)
        return logits


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def refused(network: nn.Module, path: Path) -> str:
    """Return the error's words, having checked that the network is bit for bit what it was."""
    before = state_of(network)
    with pytest.raises(FileError) as raised:
        load_weights(network, path)
    assert same(before, state_of(network))
    return str(raised.value)


@pytest.fixture
def donor() -> TwoHeads:
    torch.manual_seed(1)
    network = TwoHeads()
    network(torch.randn(8, 3, 5, 5))  # moves the running averages
    return network


@pytest.fixture
def path(tmp_path: Path, donor: TwoHeads) -> Path:
    torch.save(donor.state_dict(), tmp_path / "donor.pth")
    return tmp_path / "donor.pth"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
def test_every_kind_of_file_gives_the_donors_answers(donor: TwoHeads, tmp_path: Path, ending: str, zipped: bool):
    path = tmp_path / f"donor.{ending}"
    if ending == "safetensors":
        save_file(donor.state_dict(), path)
    else:
        torch.save(donor.state_dict(), path, _use_new_zipfile_serialization=zipped)
    network = TwoHeads()
    report = st.load_weights(network, path)
    assert report == LoadReport(loaded=tuple(donor.state_dict()))
    images = torch.randn(2, 3, 5, 5)
    assert torch.equal(network.eval()(images), donor.eval()(images))


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_nested_state_dict_of_several_processes_is_found(donor: TwoHeads, tmp_path: Path, key: str):
    state = {f"module.{name}": tensor for name, tensor in donor.state_dict().items()}
    torch.save({"epoch": 3, key: state}, tmp_path / "checkpoint.pth")
    network = TwoHeads()
    load_weights(network, tmp_path / "checkpoint.pth")
    assert same(state_of(network), state_of(donor))


def test_a_network_that_is_wrapped_itself_takes_wrapped_names(donor: TwoHeads, tmp_path: Path):
    wrapped = nn.Sequential()
    wrapped.add_module("module", TwoHeads())
    save_file({f"module.{name}": t for name, t in donor.state_dict().items()}, tmp_path / "wrapped.safetensors")
    load_weights(wrapped, tmp_path / "wrapped.safetensors")
    assert same(state_of(wrapped[0]), state_of(donor))


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_that_cannot_be_copied_are_refused_before_any_is(donor: TwoHeads, tmp_path: Path, kind: str):
    state = donor.state_dict()
    last = state["head.bias"]
    state["head.bias"] = last.to_sparse() if kind == "sparse" else last.to("meta")
    torch.save(state, tmp_path / "odd.pth")
    assert "must hold plain tensors, got sparse, quantised or empty ones: head.bias" in refused(
        TwoHeads(), tmp_path / "odd.pth"
    )


def test_parameters_are_tensors_too(donor: TwoHeads, tmp_path: Path):
    torch.save(dict(donor.named_parameters()) | dict(donor.named_buffers()), tmp_path / "parameters.pth")
    network = TwoHeads(channels=1)
    load_weights(network, tmp_path / "parameters.pth")
    assert torch.equal(network.head.weight, donor.head.weight)


def test_our_own_saved_networks_are_read_with_tied_tensors(tmp_path: Path):
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    st.save(tmp_path / "tied.safetensors", tied, st.Spec.of((3, 1, 1), 3))
    free = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    load_weights(free, tmp_path / "tied.safetensors")
    assert same(state_of(free), state_of(tied))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("hidden", ["alone", "as a value", "beside a state dict"])
def test_a_planted_call_is_refused_and_never_made(donor: TwoHeads, tmp_path: Path, hidden: str, zipped: bool):
    mark, path = tmp_path / "called", tmp_path / "planted.pth"
    content: Any = {
        "alone": Payload(mark),
        "as a value": {**donor.state_dict(), "extra": Payload(mark)},
        "beside a state dict": {"state_dict": donor.state_dict(), "args": Payload(mark)},
    }[hidden]
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    words = refused(TwoHeads(), path)
    assert "holds objects other than tensors, which are never executed; nothing was loaded" in words
    assert not mark.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(path, weights_only=False)  # what would have happened
    assert mark.exists()


def test_a_bare_pickle_with_a_planted_call_is_refused_too(tmp_path: Path):
    mark, path = tmp_path / "called", tmp_path / "planted.pt"
    path.write_bytes(pickle.dumps(Payload(mark)))
    assert "nothing was loaded" in refused(TwoHeads(), path)
    assert not mark.exists()


def test_a_whole_pickled_network_is_refused(donor: TwoHeads, tmp_path: Path):
    torch.save(donor, tmp_path / "network.pth")
    assert "It must hold a state dict: torch.save(network.state_dict(), path)" in refused(
        TwoHeads(), tmp_path / "network.pth"
    )


@pytest.mark.parametrize("content", [b"", b"nonsense" * 20, b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes):
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    assert "is damaged, or not a file of PyTorch's; nothing was loaded" in refused(TwoHeads(), path)


def test_a_truncated_file_is_refused(path: Path):
    path.write_bytes(path.read_bytes()[:-200])
    assert "is damaged" in refused(TwoHeads(), path)


def test_a_missing_file_and_another_kind_of_file_are_one_sentence(tmp_path: Path):
    assert re.search(r"Cannot read .*absent.pth: No such file", refused(TwoHeads(), tmp_path / "absent.pth"))
    assert "must be a .safetensors, .pth or .pt file, got 'weights.h5'" in refused(TwoHeads(), tmp_path / "weights.h5")


def test_a_whole_checkpoint_is_called_one(donor: TwoHeads, tmp_path: Path):
    torch.save({"epoch": 1, "net": donor.state_dict()}, tmp_path / "all.pth")
    assert "a whole checkpoint, not a state dict: epoch, net" in refused(TwoHeads(), tmp_path / "all.pth")


def test_a_list_of_tensors_is_refused(tmp_path: Path):
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    assert "name → tensor, got list" in refused(TwoHeads(), tmp_path / "list.pth")


def test_another_number_of_classes_leaves_the_heads_only(donor: TwoHeads, path: Path):
    network = TwoHeads(classes=7)
    before = state_of(network)
    report = load_weights(network, path)
    heads = ("aux1.1.weight", "aux1.1.bias", "head.weight", "head.bias")
    assert report.replaced == heads
    assert {*report.loaded, *heads} == set(donor.state_dict())
    after = state_of(network)
    assert all(torch.equal(after[name], before[name]) for name in heads)
    assert all(torch.equal(after[name], donor.state_dict()[name]) for name in report.loaded)
    assert "new for the number of classes: aux1.1.weight, aux1.1.bias, head.weight, … 1 more" in str(report)


def test_one_channel_gets_the_sum_so_that_grey_pictures_get_their_answers(donor: TwoHeads, path: Path):
    network = TwoHeads(channels=1)
    report = load_weights(network, path)
    assert report.adapted == ("body.0.weight",)
    grey = torch.randn(2, 1, 5, 5)
    torch.testing.assert_close(network.eval()(grey), donor.eval()(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_n_channels_repeat_the_filters_in_turn_and_keep_their_scale(donor: TwoHeads, path: Path, channels: int):
    network = TwoHeads(channels=channels)
    load_weights(network, path)
    filters, wanted = network.state_dict()["body.0.weight"], donor.state_dict()["body.0.weight"]
    for channel in range(channels):
        torch.testing.assert_close(filters[:, channel], wanted[:, channel % 3] * 3 / channels)


def test_an_auxiliary_head_that_the_file_lacks_is_left_and_reported(tmp_path: Path):
    bare = TwoHeads(auxiliary=False)
    torch.save(bare.state_dict(), tmp_path / "bare.pth")
    network = TwoHeads()
    before = state_of(network)
    report = load_weights(network, tmp_path / "bare.pth")
    assert report.kept == ("aux1.0.weight", "aux1.0.bias", "aux1.1.weight", "aux1.1.bias")
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in report.kept)
    assert "not in the file: aux1.0.weight" in str(report)


def test_an_auxiliary_head_that_the_network_lacks_is_ignored_and_reported(path: Path):
    report = load_weights(TwoHeads(auxiliary=False), path)
    assert report.ignored == ("aux1.0.weight", "aux1.0.bias", "aux1.1.weight", "aux1.1.bias")


def test_files_from_before_batches_were_counted_fit(donor: TwoHeads, tmp_path: Path):
    old = {name: tensor for name, tensor in donor.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    report = load_weights(TwoHeads(), tmp_path / "old.pth")
    assert report.kept == ("body.1.num_batches_tracked",)
    assert "not in the file" not in str(report)


def test_half_precision_is_widened(donor: TwoHeads, tmp_path: Path):
    torch.save(donor.half().state_dict(), tmp_path / "half.pth")
    network = TwoHeads()
    load_weights(network, tmp_path / "half.pth")
    assert network.head.weight.dtype == torch.float32
    assert torch.equal(network.head.weight, donor.head.weight.float())


def test_names_in_another_library_are_matched_by_the_order_of_equal_shapes(donor: TwoHeads, tmp_path: Path):
    strange = {f"features.unit{n}.{name.rpartition('.')[2]}": t for n, (name, t) in enumerate(state_of(donor).items())}
    torch.save(strange, tmp_path / "strange.pth")
    network = TwoHeads()
    report = load_weights(network, tmp_path / "strange.pth")
    assert report.by_order
    assert report.kept == ("body.1.num_batches_tracked",)
    assert all(torch.equal(network.state_dict()[name], donor.state_dict()[name]) for name in report.loaded)
    other = TwoHeads(classes=2, channels=1)
    report = load_weights(other, tmp_path / "strange.pth")
    assert report.replaced[-2:] == ("head.weight", "head.bias")
    assert report.adapted == ("body.0.weight",)


def test_order_is_not_trusted_where_kinds_shapes_or_names_contradict_it(tmp_path: Path):
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tensors = [torch.randn(2, 2), torch.randn(2), torch.randn(2, 2), torch.randn(2)]
    for number, names in enumerate(
        [
            ("a.bias", "a.weight", "b.weight", "b.bias"),  # another kind
            ("1.weight", "1.bias", "0.w", "0.b"),  # a known name in another's place
            ("a.weight", "a.bias", "b.weight"),  # one too few
        ]
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(dict(zip(names, tensors, strict=False)), path)
        assert "nothing was loaded" in refused(network, path)


def test_a_safetensors_file_keeps_no_order_and_is_matched_by_name_only(donor: TwoHeads, tmp_path: Path):
    network = nn.Sequential(nn.Linear(2, 2))
    save_file({"a.weight": torch.zeros(2, 2), "b.bias": torch.zeros(2)}, tmp_path / "strange.safetensors")
    assert "2 missing: 0.weight, 0.bias; 2 unknown: a.weight, b.bias" in refused(
        network, tmp_path / "strange.safetensors"
    )


def test_what_does_not_fit_is_listed_in_groups_with_counts(donor: TwoHeads, tmp_path: Path):
    state = donor.state_dict()
    state["body.0.weight"] = torch.zeros(4, 3, 5, 5)
    state["head.bias"] = torch.zeros(5, dtype=torch.int64)
    for number in range(5):
        state[f"surplus{number}"] = torch.zeros(1)
    del state["body.1.weight"], state["body.1.bias"]
    torch.save(state, tmp_path / "other.pth")
    words = refused(TwoHeads(), tmp_path / "other.pth")
    assert "2 missing: body.1.weight, body.1.bias;" in words
    assert "5 unknown: surplus0, surplus1, surplus2, … 2 more;" in words
    assert (
        "2 of another shape or type: body.0.weight 4×3×5×5 instead of 4×3×3×3, head.bias 5 int64 instead of 5" in words
    )


def test_a_head_with_other_features_is_no_other_number_of_classes(donor: TwoHeads, tmp_path: Path):
    state = donor.state_dict()
    state["head.weight"] = torch.zeros(7, 9)
    state["head.bias"] = torch.zeros(7)
    torch.save(state, tmp_path / "other.pth")
    words = refused(TwoHeads(), tmp_path / "other.pth")
    assert "1 of another shape or type: head.weight 7×9 instead of 5×4" in words
    assert "the same layout with other widths or another size of pictures" in words


def test_another_number_of_blocks_is_the_likely_cause(tmp_path: Path):
    def blocks(count: int) -> nn.Module:
        return nn.Sequential(*(nn.Conv2d(2, 2, 1) for _ in range(count)), nn.Flatten(), nn.Linear(2, 2))

    torch.save({f"layers.{n}": t for n, t in blocks(3).state_dict().items()}, tmp_path / "three.pth")
    network = nn.ModuleDict({"layers": blocks(5)})
    del network["layers"][6]
    state = {n: t for n, t in blocks(3).state_dict().items() if not n.startswith("4")}
    torch.save({f"layers.{n}": t for n, t in state.items()}, tmp_path / "three.pth")
    assert "the same family with another number of blocks" in refused(network, tmp_path / "three.pth")


def test_a_network_without_memory_is_refused(path: Path):
    with pytest.raises(NetworkError, match="a network that has memory"):
        load_weights(TwoHeads().to("meta"), path)


def zoo_state(name: str, size: int = 64, classes: int = 1000) -> dict[str, Tensor]:
    """Return random tensors in the layout of a zoo network."""
    layout = build_on_meta(name, st.Spec.of((3, size, size), classes)).state_dict()
    generator = torch.Generator().manual_seed(0)
    return {
        n: torch.randn(t.shape, generator=generator) if t.is_floating_point() else torch.ones(t.shape, dtype=t.dtype)
        for n, t in layout.items()
    }


def test_the_weights_of_another_zoo_network_are_recognised(tmp_path: Path):
    torch.save(zoo_state("resnet18"), tmp_path / "weights.pth")
    network = st.build("resnet34", st.Spec.of((3, 64, 64), 4))
    words = refused(network, tmp_path / "weights.pth")
    assert "80 missing: layer1.2.conv1.weight, layer1.2.bn1.weight, layer1.2.bn1.bias, … 77 more" in words
    assert words.endswith("These look like the weights of resnet18.")


def test_googlenet_keeps_its_auxiliary_heads_where_the_file_has_none(tmp_path: Path):
    state = {name: tensor for name, tensor in zoo_state("googlenet").items() if not name.startswith("aux")}
    torch.save(state, tmp_path / "weights.pth")
    network = st.build("googlenet", st.Spec.of((1, 64, 64), 4))
    report = load_weights(network, tmp_path / "weights.pth")
    assert report.replaced == ("fc.weight", "fc.bias")
    assert report.adapted == ("conv1.conv.weight",)
    assert all(name.startswith("aux") for name in report.kept)
    assert "aux1.fc2.weight" in report.kept


def test_old_densenet_files_have_dots_in_their_names(tmp_path: Path):
    state = zoo_state("densenet121")
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): t for name, t in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    network = st.build("densenet121", st.Spec.of((3, 64, 64), 1000))
    report = load_weights(network, tmp_path / "old.pth")
    assert not report.by_order
    assert same(state_of(network), state)


def test_timms_vgg_has_convolutions_for_fully_connected_layers():
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    state = build_on_meta("vgg11", st.Spec.of((3, 64, 64), 10)).state_dict()
    timm = {}
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        shape = {"classifier.0.weight": (4096, 512, 7, 7), "classifier.3.weight": (4096, 4096, 1, 1)}.get(name)
        timm[f"{names.get(layer, layer)}.{kind}"] = tensor if shape is None else tensor.reshape(shape)
    fitted = fit_weights(build_on_meta("vgg11", st.Spec.of((3, 64, 64), 10)), timm, ordered=False, origin="timm")
    assert {name: tensor.shape for name, tensor in fitted.tensors.items()} == {n: t.shape for n, t in state.items()}
    assert fitted.report == LoadReport(loaded=tuple(state))


def test_a_convolution_of_the_whole_map_becomes_the_same_fully_connected_layer(tmp_path: Path):
    convolution, linear = nn.Conv2d(3, 4, 5), nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 5, 4))
    torch.save({f"1.{n}": t for n, t in convolution.state_dict().items()}, tmp_path / "convolution.pth")
    load_weights(linear, tmp_path / "convolution.pth")
    images = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(linear(images), convolution(images).flatten(1))


# The classes of lenet5_paper are fixed codes and not learned; the deepest takes seconds and is like its neighbours.
@pytest.mark.parametrize("name", [name for name in ZOO if name not in ("lenet5_paper", "preresnet1001_cifar10")])
def test_every_zoo_network_says_what_its_head_and_first_convolution_are(name: str):
    """Another number of classes must replace something and keep the rest, for every network of the registry."""
    entry = ZOO.get(name)
    tensors = build_on_meta(name, st.Spec.of(entry.shape, entry.classes)).state_dict()
    other = build_on_meta(name, st.Spec.of(entry.shape, entry.classes + 1))
    report = fit_weights(other, tensors, ordered=False, origin="itself").report
    assert 1 <= len(report.replaced) <= 2 + 2 * len(getattr(other, "auxiliary", {}))
    assert len(report.loaded) + len(report.replaced) == len(tensors)


def test_reading_gives_the_tensors_in_the_files_order(donor: TwoHeads, path: Path):
    assert list(read_weights(path)) == list(donor.state_dict())
