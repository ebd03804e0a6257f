from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import striate as st
from striate.core import machine
from striate.networks.build import Blueprint, blueprint_of, build_on_meta, read_model
from tests.networks.zoo.test_zoo import make_spec

SPEC = make_spec((1, 28, 28), 10)


def test_a_zoo_name_may_carry_options() -> None:
    assert read_model("feedforward1(hidden=500)").options == {"hidden": 500}
    network = st.build("feedforward2(hidden=(20, 30))", SPEC)
    assert [layer[0].out_features for layer in network.hidden] == [20, 30]  # type: ignore[union-attr, index]
    assert torch.equal(
        next(st.build("feedforward1", SPEC, hidden=9).parameters()),
        next(st.build("feedforward1(hidden=9)", SPEC).parameters()),
    )


def test_a_text_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("conv 4@3x3 relu  # edges\nmaxpool 2\nfc 10\n")
    network = st.build(str(tmp_path / "net.txt"), SPEC)
    assert network(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("lenet_5", "No network named 'lenet_5'. Did you mean 'lenet5'? `striate models` lists all."),
        ("feedforward1(hiden=3)", "feedforward1 has no option 'hiden'. Did you mean 'hidden'? It has hidden."),
        ("lenet5(width=3)", "lenet5 has no option 'width'. It has none."),
        (
            "feedforward1(hidden='x')",
            "feedforward1 cannot be built with (hidden='x'): '<' not supported between instances of 'str' and 'int'.",
        ),
        ("speednet(widths=5)", "speednet cannot be built with (widths=5): 'int' object is not iterable."),
        ("none.txt", "Cannot read the network text none.txt: No such file or directory."),
        ("feedforward1(hidden=open)", "Options must be written name=value with plain values, got (hidden=open)."),
    ],
)
def test_mistakes_are_named(model: str, message: str) -> None:
    with pytest.raises(st.NetworkError) as error:
        st.build(model, SPEC)
    assert str(error.value) == message


@pytest.mark.parametrize("model", ["lenet5", "speednet(widths=(32, 64), activation='gelu')", "conv 4 relu | fc 10"])
def test_a_network_is_said_as_it_is_read(model: str) -> None:
    assert read_model(model).call == model
    assert read_model(read_model(model).call) == read_model(model)


@pytest.mark.parametrize("model", ["fc 900000 relu | fc 900000 relu | fc 10", "feedforward1(hidden=2000000000)"])
def test_a_network_too_large_for_memory_is_refused_before_it_is_allocated(model: str) -> None:
    free = machine.available_memory()
    with pytest.raises(
        st.NetworkError, match=r"parameters, and training them takes about .* TB; .* are free\. Try fewer"
    ):
        st.build(model, SPEC)
    assert machine.available_memory() > free / 2


def test_maps_too_large_for_memory_are_refused_before_they_are_computed() -> None:
    with pytest.raises(
        st.NetworkError, match=r"Training this network with batches of 2 takes about .*smaller pictures"
    ):
        st.build("conv 60000@1x1 | conv 2@1x1 | gap | fc 10", make_spec((1, 2000, 2000), 10))


def test_a_network_text_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(st.NetworkError, match=r"Cannot read the network text .*net\.txt: it is not UTF-8 text\."):
        st.build(str(tmp_path / "net.txt"), SPEC)


def test_the_blueprint_builds_it_again() -> None:
    assert blueprint_of(st.build("lenet5", SPEC)) == Blueprint(kind="zoo", name="lenet5")
    text = blueprint_of(st.build("fc 10", SPEC))
    assert (text.kind, text.name) == ("text", "fc 10")
    assert blueprint_of(nn.Linear(1, 1)) == Blueprint(kind="foreign", name="torch.nn.modules.linear.Linear")


def test_the_meta_device_holds_shapes_only() -> None:
    assert next(build_on_meta("lenet5", SPEC).parameters()).is_meta
