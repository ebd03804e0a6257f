from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import save_file
from torch import nn

import striate as st
from striate.networks import saved
from tests.networks.zoo.test_zoo import make_spec

SPEC = make_spec((1, 28, 28), 10)


def test_opens_with_safetensors_alone_and_says_everything(tmp_path: Path) -> None:
    network = st.build("lenet5", SPEC, seed=3)
    path = st.save(tmp_path / "net.safetensors", network, SPEC, metrics={"val_accuracy": 0.5}, licence="CC0-1.0")
    with safetensors.safe_open(path, framework="np") as opened:
        header = json.loads(opened.metadata()["striate"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    assert header["format_version"] == 1
    assert header["blueprint"]["name"] == "lenet5"
    assert header["metrics"] == {"val_accuracy": 0.5}
    assert header["licence"] == "CC0-1.0"
    assert st.Spec.model_validate(header["spec"]) == SPEC
    assert set(header["versions"]) == {"python", "torch", "striate"}
    assert {name: list(value.shape) for name, value in tensors.items()} == {
        name: list(value.shape) for name, value in network.state_dict().items()
    }
    assert b"pickle" not in path.read_bytes()


@pytest.mark.parametrize("model", ["lenet5_paper", "feedforward2(hidden=(20,))", "conv 4 bn relu | gap | fc 10"])
def test_a_new_process_rebuilds_the_same_network(model: str, tmp_path: Path) -> None:
    network = st.build(model, SPEC, seed=5)
    network(torch.randn(64, 1, 28, 28))  # let the norms collect statistics
    path = st.save(tmp_path / "net.safetensors", network, SPEC)
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    torch.save(images, tmp_path / "images.pt")
    script = (
        "import sys, torch, striate as st; torch.set_num_threads(int(sys.argv[3])); "
        "torch.save(st.load_classifier(sys.argv[1]).probabilities(torch.load(sys.argv[2])), sys.argv[2])"
    )
    words = [sys.executable, "-c", script, str(path), str(tmp_path / "images.pt"), str(torch.get_num_threads())]
    subprocess.run(words, check=True)
    here = st.Classifier(network, SPEC).probabilities(images)
    assert torch.equal(torch.load(tmp_path / "images.pt"), here)


class Tied(nn.Module):
    """A foreign network whose two layers share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(784, 784)
        self.second = nn.Linear(784, 784)
        self.second.weight = self.first.weight
        self.head = nn.Linear(784, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.second(self.first(images.flatten(1))))
        return logits


def test_ties_are_stored_once_and_a_foreign_module_is_only_filled(tmp_path: Path) -> None:
    network = Tied()
    path = st.save(tmp_path / "net.safetensors", network, SPEC)
    with safetensors.safe_open(path, framework="np") as opened:
        assert "second.weight" not in opened.keys()  # noqa: SIM118
    with pytest.raises(st.NetworkError, match=r"your own class .*Tied, which is never imported .* Pass the module"):
        st.load(path)
    again = st.load(path, Tied())
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(again.network(images), network.eval()(images))


CHANGES = {
    "bad version": {"format_version": True},
    "bad option": {"blueprint": {"kind": "zoo", "name": "feedforward1", "options": {"hidden": "x"}, "grammar": 1}},
    "bad grammar": {"blueprint": {"kind": "text", "name": "fc 10", "options": {}, "grammar": 99}},
    "bad alias": {"aliases": {"b": "nothing"}},
}


def change_header(path: Path, changes: dict[str, object]) -> None:
    with safetensors.safe_open(path, framework="pt") as opened:
        header = json.loads(opened.metadata()["striate"]) | changes
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={"striate": json.dumps(header)})


def bad_file(kind: str, folder: Path) -> Path:
    path = folder / "net.safetensors"
    if kind == "missing":
        return path
    st.save(path, st.build("fc 10", SPEC), SPEC)
    whole = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[:-100])
    elif kind == "cut in the header":
        path.write_bytes(whole[:40])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    elif kind == "weights alone":
        save_file({"a": torch.zeros(2)}, path)
    elif kind == "another JSON":
        save_file({"a": torch.zeros(2)}, path, metadata={"striate": "[1, 2]"})
    elif kind == "deep JSON":
        save_file({"a": torch.zeros(2)}, path, metadata={"striate": "[" * 200_000})
    elif kind in CHANGES:
        change_header(path, CHANGES[kind])
    elif kind == "newer":
        save_file({"a": torch.zeros(2)}, path, metadata={"striate": json.dumps({"format_version": 99})})
    elif kind == "bad name":
        save_file({"a b": torch.zeros(2)}, path, metadata={"striate": "{}"})
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", r"There is no saved network .*net\.safetensors\. Name a run's folder or a \.safetensors file\."),
        ("truncated", r"is truncated: it ends before its weights do\. Copy it again"),
        ("cut in the header", r"is truncated: it ends before its weights do\."),
        ("empty", r"is not a saved network: it must be a \.safetensors file that striate wrote\."),
        ("picture", r"is not a saved network: it must be a \.safetensors file that striate wrote\."),
        ("weights alone", r"holds weights but not how to build their network: striate did not write it\."),
        ("another JSON", r"is a file of striate's but not a saved network\."),
        ("newer", r"was written by a newer striate \(format 99, this one reads 1\)\."),
        ("deep JSON", r"is a file of striate's but not a saved network\."),
        ("bad version", r"is a file of striate's but not a saved network\."),
        ("bad grammar", r"is a file of striate's but not a saved network\."),
        ("bad alias", r"says that 'b' is 'nothing', which it does not hold\. It is damaged\."),
        ("bad name", r"holds a tensor named 'a b', which no network of ours has\."),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(kind: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(st.FileError, match=message):
        st.load(bad_file(kind, tmp_path))


def test_hostile_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(st.NetworkError, match="feedforward1 cannot be built with"):
        st.load(bad_file("bad option", tmp_path))


def test_a_network_changed_since_it_was_built_is_not_saved_as_the_one_it_was(tmp_path: Path) -> None:
    network = st.build("feedforward1", SPEC)
    network.hidden[0][1] = nn.Tanh()  # type: ignore[index, operator]
    path = st.save(tmp_path / "net.safetensors", network, SPEC)
    with pytest.raises(st.NetworkError, match=r"your own class .*FeedForward, which is never imported"):
        st.load(path)


def test_weights_of_another_type_are_refused(tmp_path: Path) -> None:
    network = st.build("fc 10", SPEC)
    path = st.save(tmp_path / "net.safetensors", network.double(), SPEC)
    with pytest.raises(st.FileError, match=r"of another shape or type \['body\.fc1\.fc\.bias'"):
        st.load(path)


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    path = st.save(tmp_path / "net.safetensors", Tied(), SPEC)
    with pytest.raises(st.FileError, match=r"missing \['weight'\], unknown \['first\.bias'"):
        st.load(path, nn.Linear(784, 10, bias=False))


def test_an_unwritable_folder_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(st.FileError, match=r"Cannot write to .*file: .*\. Name another folder with --output\."):
        st.save(tmp_path / "file" / "net.safetensors", st.build("fc 10", SPEC), SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_views_of_one_tensor_are_stored_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    tensors, aliases = saved.storable({"a": whole[:3], "b": whole[3:], "c": whole[:3]})
    assert aliases == {"c": "a"}
    saved.write_tensors(tmp_path / "t.safetensors", tensors, "{}")
    _, read = saved.read_tensors(tmp_path / "t.safetensors")
    assert read["b"].tolist() == [3, 4, 5]


def test_thresholds_are_stored_and_nothing_else_changes(tmp_path: Path) -> None:
    task = SPEC.task.model_copy(update={"labels": "multi", "temperature": 1.5})
    spec = SPEC.model_copy(update={"task": task})
    path = st.save(tmp_path / "model.safetensors", st.build("fc 10", spec), spec, metrics={"mAP": 0.5})
    before, thresholds = st.load(path), tuple(number / 10 for number in range(10))
    assert saved.store_thresholds(tmp_path, thresholds) == path
    after = st.load(path)
    assert after.spec.task == task.model_copy(update={"thresholds": thresholds})
    assert before.header.model_dump(exclude={"spec"}) == after.header.model_dump(exclude={"spec"})
    assert all(map(torch.equal, before.network.state_dict().values(), after.network.state_dict().values()))
    for wrong, message in (((0.5,), "must be one per class"), ((*thresholds[1:], 2.0), "less than or equal to 1")):
        with pytest.raises(st.DataError, match=message):
            saved.store_thresholds(path, wrong)
    assert st.load(path).spec == after.spec
    saved.store_thresholds(path, None)
    assert st.load(path).spec == before.spec
    single = st.save(tmp_path / "single.safetensors", st.build("fc 10", SPEC), SPEC)
    with pytest.raises(st.DataError, match="thresholds go with labels = 'multi'"):
        saved.store_thresholds(single, thresholds)
