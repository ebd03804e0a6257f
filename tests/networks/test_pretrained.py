from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import striate as st
from striate.core.errors import FileError, NetworkError
from striate.networks import pretrained
from striate.networks.build import build_on_meta
from striate.networks.pretrained import SOURCES, Pretrained, default_pretrained, find_pretrained
from striate.networks.saved import read_tensors
from striate.networks.weights import fit_weights
from striate.networks.zoo import ZOO

NETWORK = "resnet20_cifar10"  # small, and like all others in every way that matters here
COUNTED = "num_batches_tracked"


@dataclass
class Publisher:
    """A server on this machine, and what it has been asked for."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    most_bytes: int | None = None

    def publish(self, state: dict[str, Any], zipped: bool = False, **changes: Any) -> Pretrained:
        """Serve a state dict as torchvision does or, zipped, as pytorchcv does, and return its entry."""
        content = pickled(state)
        name = f"{NETWORK}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        self.files[f"/{name}"] = content
        sums: dict[str, Any] = {"sha256_prefix": hashlib.sha256(content).hexdigest()[:8]}
        if zipped:
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as archive:
                archive.writestr(name, content)
            name += ".zip"
            self.files[f"/{name}"] = stream.getvalue()
            sums = {"sha1": hashlib.sha1(content).hexdigest()}
        entry = Pretrained(
            network=NETWORK,
            name="imagenet1k_v1",
            url=f"{self.address}/{name}",
            library="a library",
            licence="A-Licence-1.0",
            data="ImageNet of ten",
            size=32,
            resize=40,
            top1=0.9,
            classes=10,
            mean=(0.1, 0.2, 0.3),
            std=(0.5, 0.6, 0.7),
            **sums,
        )
        return replace(entry, **changes)


def pickled(state: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def own_state(classes: int = 10) -> dict[str, Tensor]:
    """Return random weights of NETWORK."""
    return {n: t.clone() for n, t in st.build(NETWORK, spec(classes), seed=7).state_dict().items()}


def strange_state() -> dict[str, Tensor]:
    """Return the same under another library's names, in the same order."""
    return {f"features.unit{n}.{k.rpartition('.')[2]}": t for n, (k, t) in enumerate(own_state().items())}


def spec(classes: int = 10, channels: int = 3) -> st.Spec:
    pictures = st.InputSpec(
        channels=channels, height=32, width=32, mean=(0.1, 0.2, 0.3)[:channels], std=(0.5, 0.6, 0.7)[:channels]
    )
    return st.Spec(input=pictures, task=st.TaskSpec(class_names=tuple(map(str, range(classes)))))


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            begin = self.headers.get("Range")
            served.asked.append((self.path, begin))
            content = served.files.get(self.path)
            start = int(begin.removeprefix("bytes=").removesuffix("-")) if begin else 0
            self.send_response(404 if content is None else 206 if begin else 200)
            rest = (content or b"")[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: served.most_bytes])

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Publisher(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that weights are kept in, empty."""
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the table of published weights."""
    return lambda *entries: monkeypatch.setattr(pretrained, "SOURCES", entries)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("zipped", [False, True], ids=["by name", "by order, zipped"])
def test_weights_are_downloaded_once_and_kept_in_our_form(publisher, folder, sources, zipped, capsys):
    entry = publisher.publish(strange_state() if zipped else own_state(), zipped)
    sources(entry)
    network = st.build(NETWORK, spec(), weights="imagenet")
    wanted = own_state()
    got = network.state_dict()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted if COUNTED not in name)
    words = capsys.readouterr().err
    assert "resnet20_cifar10: weights imagenet1k_v1 of a library, trained on ImageNet of ten, 90.00% right" in words
    assert "licence   A-Licence-1.0; the terms of ImageNet of ten are its own" in words
    assert "pictures  32×32 from the centre of 40, bilinear, mean 0.1 0.2 0.3, std 0.5 0.6 0.7" in words

    digits = (entry.sha256_prefix or entry.sha1 or "")[:8]
    assert names_in(folder) == [f"resnet20_cifar10-imagenet1k_v1-{digits}.safetensors"]
    metadata, _ = read_tensors(folder / names_in(folder)[0])
    assert all(word in metadata["striate"] for word in (entry.url, "A-Licence-1.0", "0.6"))

    again = st.build(NETWORK, spec(), weights="imagenet1k_v1", seed=3)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in got.items())
    assert len(publisher.asked) == 1
    assert "licence" not in capsys.readouterr().err


def test_other_classes_and_channels_keep_the_rest_and_say_so(publisher, folder, sources, capsys):
    sources(publisher.publish(own_state()))
    network = st.build(NETWORK, spec(classes=4, channels=1), weights="imagenet", seed=5)
    fresh, wanted = st.build(NETWORK, spec(classes=4, channels=1), seed=5).state_dict(), own_state()
    kept = [name for name, t in network.state_dict().items() if t.shape == wanted[name].shape]
    assert all(torch.equal(network.state_dict()[name], wanted[name]) for name in kept)
    changed = [name for name in wanted if name not in kept]
    first, *head = changed
    torch.testing.assert_close(network.state_dict()[first], wanted[first].sum(1, keepdim=True))
    assert all(torch.equal(network.state_dict()[name], fresh[name]) for name in head)
    words = capsys.readouterr().err
    assert f"adapted to the number of channels: {first}" in words
    assert f"new for the number of classes: {', '.join(head)}" in words


def test_pictures_normalised_otherwise_are_remarked_on(publisher, folder, sources, capsys):
    sources(publisher.publish(own_state()))
    st.build(NETWORK, spec(), weights="imagenet")
    assert "these weights know pictures" not in capsys.readouterr().err
    st.build(NETWORK, st.Spec.of((3, 32, 32), 10), weights="imagenet")
    assert "know pictures of mean (0.1, 0.2, 0.3) and std (0.5, 0.6, 0.7); yours have (0.0," in capsys.readouterr().err


def test_a_wrong_checksum_is_refused_and_nothing_kept(publisher, folder, sources):
    entry = publisher.publish(own_state())
    publisher.files = {path: content[:-1] + b"!" for path, content in publisher.files.items()}
    sources(entry)
    with pytest.raises(FileError, match=f"must have the sha256 {entry.sha256_prefix}, got .*; nothing was kept"):
        st.build(NETWORK, spec(), weights="imagenet")
    assert names_in(folder) == []


def test_half_a_download_is_gone_on_with(publisher, folder, sources):
    entry = publisher.publish(own_state())
    sources(entry)
    publisher.most_bytes = 5000
    with pytest.raises(FileError, match="was interrupted after 5,000 of"):
        st.build(NETWORK, spec(), weights="imagenet")
    assert names_in(folder) == [f"{entry.file_name}.part"]
    publisher.most_bytes = None
    st.build(NETWORK, spec(), weights="imagenet")
    assert [begin for _, begin in publisher.asked] == [None, "bytes=5000-"]
    assert len(names_in(folder)) == 1


@pytest.mark.parametrize("zipped", [False, True])
def test_offline_it_says_which_file_to_bring_and_takes_it(publisher, folder, sources, zipped):
    entry = publisher.publish(own_state(), zipped)
    name, closed = entry.file_name, entry.url.replace(publisher.address, "http://127.0.0.1:9")
    sources(replace(entry, url=closed))
    unpack = ", unpack it" if zipped else ""
    wanted = f"Cannot download {closed}: .*refused.* Download it yourself{unpack} and put {name} into {folder}."
    with pytest.raises(FileError, match=wanted):
        st.build(NETWORK, spec(), weights="imagenet")

    (folder / name).write_bytes(b"something else")
    with pytest.raises(FileError, match=f"{name} must have the sha.* Bring the file again, or remove it"):
        st.build(NETWORK, spec(), weights="imagenet")
    assert (folder / name).read_bytes() == b"something else"

    (folder / name).write_bytes(publisher.files[f"/{name}"])
    network = st.build(NETWORK, spec(), weights="imagenet")
    assert all(torch.equal(network.state_dict()[n], t) for n, t in own_state().items())
    assert name in names_in(folder)  # what somebody has brought is theirs
    assert publisher.asked == []


def test_a_planted_call_with_the_right_checksum_is_still_not_made(publisher, folder, sources, tmp_path):
    class Payload:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "called",)

    sources(publisher.publish({**own_state(), "extra": Payload()}))
    with pytest.raises(FileError, match="holds objects other than tensors, which are never executed"):
        st.build(NETWORK, spec(), weights="imagenet")
    assert not (tmp_path / "called").exists()


def test_weights_of_another_network_are_not_kept_as_ours(publisher, folder, sources):
    sources(publisher.publish({"a": torch.zeros(1)}))
    with pytest.raises(FileError, match="do not fit resnet20_cifar10, and nothing was loaded"):
        st.build(NETWORK, spec(), weights="imagenet")
    assert not [name for name in names_in(folder) if name.endswith(".safetensors")]


def test_a_background_class_and_untrained_heads_are_left_out(publisher, folder, sources):
    wanted = own_state(classes=11)
    weight, bias = [name for name, tensor in wanted.items() if tensor.shape[:1] == (11,)]
    state = {**wanted, "aux1.fc.weight": torch.zeros(2, 2)}
    sources(publisher.publish(state, background=weight.removesuffix("weight"), untrained=("aux1.",)))
    got = st.build(NETWORK, spec(), weights="imagenet").state_dict()
    assert torch.equal(got[weight], wanted[weight][1:])
    assert torch.equal(got[bias], wanted[bias][1:])


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(
        NetworkError, match=r"resnet50 has no weights named 'imagenet1k-v2'. Did you mean 'imagenet1k_v2'"
    ):
        st.build("resnet50", spec(), weights="imagenet1k-v2")
    with pytest.raises(NetworkError, match=r"resnet20_cifar10 has no weights named 'imagenet'.* It has cifar10."):
        find_pretrained("resnet20_cifar10")
    with pytest.raises(
        NetworkError, match=r"No pretrained weights are known for 'lenet5'\..* They are for alexnet, vgg11"
    ):
        st.build("lenet5", spec(), weights="imagenet")
    with pytest.raises(NetworkError, match="Published weights are for networks of the zoo, got a network text"):
        st.build("conv 4 relu | gap | fc 10", spec(), weights="imagenet")


def test_the_donors_default_version_is_the_default():
    assert find_pretrained("resnet50") == find_pretrained("resnet50", "imagenet1k_v2") == default_pretrained("resnet50")
    assert find_pretrained("resnet50", "imagenet1k_v1").top1 == pytest.approx(0.7613)
    assert default_pretrained("resnet20_cifar10").name == "cifar10"


def test_pictures_of_other_channels_keep_their_normalisation():
    entry = find_pretrained("resnet18")
    colour = entry.input_spec()
    assert (colour.shape, colour.mean, colour.std) == ((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    grey = entry.input_spec(channels=1, size=64)
    assert grey.shape == (1, 64, 64)
    assert grey.mean == pytest.approx((0.449,))
    assert entry.input_spec(channels=4).mean == (0.485, 0.456, 0.406, 0.485)


@pytest.mark.parametrize("network", ["googlenet", "inception_v3"])
def test_what_the_donor_does_to_its_input_is_in_the_mean_and_std(network):
    """torchvision turns (x − mean) / std into that · std / 0.5 + (mean − 0.5) / 0.5, which is (x − 0.5) / 0.5."""
    entry = find_pretrained(network)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = torch.rand(10, 3)
    donors = (pixels - mean) / std * (std / 0.5) + (mean - 0.5) / 0.5
    torch.testing.assert_close((pixels - torch.tensor(entry.mean)) / torch.tensor(entry.std), donors)


@pytest.mark.parametrize("entry", SOURCES, ids=lambda entry: f"{entry.network}-{entry.name}")
def test_every_entry_is_well_formed(entry: Pretrained):
    assert entry.url.startswith("https://")
    assert (entry.sha256_prefix is None) != (entry.sha1 is None)
    digits = entry.sha256_prefix or entry.sha1 or ""
    assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{40}", digits)
    assert f"-{digits[:8]}.pth" in entry.url
    assert 0.5 < entry.top1 < 1
    assert entry.input_spec().shape[1] <= entry.resize


def test_no_two_entries_share_a_name_or_a_file():
    assert len({(entry.network, entry.name) for entry in SOURCES}) == len(SOURCES)
    assert len({entry.url for entry in SOURCES}) == len(SOURCES)


@pytest.mark.parametrize("entry", SOURCES, ids=lambda entry: f"{entry.network}-{entry.name}")
def test_every_entry_is_of_a_zoo_network_with_the_heads_that_it_names(entry: Pretrained):
    assert entry.network in ZOO
    network = build_on_meta(entry.network, st.Spec.of((3, entry.size, entry.size), entry.classes))
    state = {name: t for name, t in network.state_dict().items() if not name.startswith(entry.untrained)}
    if entry.background:
        assert [len(t) for n, t in state.items() if n.startswith(entry.background)] == [entry.classes] * 2
    report = fit_weights(network, state, ordered=False, origin="itself").report
    assert all(name.startswith(entry.untrained) for name in report.kept)
    assert bool(report.kept) == bool(entry.untrained)
