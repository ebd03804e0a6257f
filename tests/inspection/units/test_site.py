from __future__ import annotations

import pytest
import torch
from torch import nn

import striate as st
from striate.inspection.subject import subject_of
from striate.inspection.units.site import respond, sites_of, unit_of
from tests.inspection import subjects


def test_what_is_read_of_a_layer() -> None:
    network = subjects.build("resnet20_cifar10")
    sites = sites_of(subject_of(network, subjects.pictures("resnet20_cifar10", 1)))
    layers = [path for path, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert list(sites) == layers
    for name, site in sites.items():
        if site.sides:
            assert isinstance(site.watched, nn.BatchNorm2d), name  # every convolution is normalised
    # The first convolution of a block is rectified; the second is added to what was there before that.
    large = [name for name in layers[1:-1] if network.get_submodule(name).kernel_size == (3, 3)]
    assert [sites[name].rectified for name in large] == [True, False] * 9


def test_a_pass_ends_where_the_unit_is() -> None:
    network = subjects.build("in place")
    subject = subject_of(network, subjects.pictures("in place", 2))
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in network.named_children()
    ]
    site = sites_of(subject, "first")["first"]
    ran.clear()
    taken = respond(network.train(), site, subject.inputs, lambda output: output[:, 2].clone())
    for hook in hooks:
        hook.remove()
    assert ran == ["first", "norm"]
    assert taken.shape == (2, 32, 32)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_units_by_name() -> None:
    subject = subject_of(subjects.build("lenet5"), subjects.pictures("lenet5", 1))
    site, channel = unit_of(subject, "c3:5")
    assert (site.name, channel) == ("c3", 5)
    units = site.units
    with pytest.raises(st.NetworkError, match=rf"'c3' has units 0 to {units - 1}, so there is no 'c3:{units}'"):
        unit_of(subject, f"c3:{units}")
    with pytest.raises(st.NetworkError, match=r"no layer 'c33'\. Did you mean 'c3'\?"):
        unit_of(subject, "c33:1")
    for wrong in ("c3", "c3:", "c3:x", "c3:-1", "3"):
        with pytest.raises(
            st.NetworkError, match=rf"must be written as layer:channel, such as 'conv3:17', got '{wrong}'"
        ):
            unit_of(subject, wrong)


class Tokens(nn.Module):
    """Has a layer whose output is neither maps nor numbers, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = nn.Linear(32, 4)
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.lines(images.mean(1)).mean(1))


def test_layers_without_units() -> None:
    subject = subject_of(Tokens().eval(), subjects.pictures("in place", 1))
    with pytest.raises(st.NetworkError, match=r"'lines' returns .* neither maps .* nor numbers"):
        sites_of(subject, "lines")
    with pytest.raises(st.NetworkError, match="'unused' returned no tensor"):
        sites_of(subject, "unused")
    assert list(sites_of(subject)) == ["head"]  # where none is named, what has no units is left out
