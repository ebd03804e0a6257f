from __future__ import annotations

import torch

import striate as st
from striate.inspection.subject import subject_of
from striate.inspection.units.crops import crop, cut, frame, mosaic, window_of
from striate.inspection.units.site import sites_of
from striate.networks.geometry import Geometry
from tests.inspection import subjects


def test_a_window_is_where_changes_of_pixels_change_the_unit() -> None:
    network = subjects.build("lenet5")
    subject = subject_of(network, subjects.pictures("lenet5", 1))
    site = sites_of(subject, "c3")["c3"]
    top, bottom, left, right = window_of(Geometry(subject.graph), site, (2, 3), subject.spec.input)
    inputs = subject.inputs.double().requires_grad_()
    seen: list[torch.Tensor] = []
    hook = site.watched.register_forward_hook(lambda module, given, output: seen.append(output))
    network.double()(inputs)
    hook.remove()
    (gradient,) = torch.autograd.grad(seen[0][0, :, 2, 3].square().sum(), [inputs])
    rows, columns = gradient[0, 0].abs().sum(1).nonzero()[:, 0], gradient[0, 0].abs().sum(0).nonzero()[:, 0]
    assert (top, left) <= (int(rows[0]), int(columns[0]))
    assert (int(rows[-1]), int(columns[-1])) <= (bottom, right)
    assert bottom - top + 1 == right - left + 1 < 28


def test_small_windows_go_on_beyond_the_border_and_large_ones_end_there() -> None:
    subject = subject_of(subjects.build("in place"), subjects.pictures("in place", 1))
    site = sites_of(subject, "second")["second"]
    geometry = Geometry(subject.graph)
    assert window_of(geometry, site, (0, 31), subject.spec.input) == (-2, 2, 29, 33)
    fully = sites_of(subject, "head")["head"]
    assert window_of(geometry, fully, (-1, -1), subject.spec.input) == (0, 31, 0, 31)
    deep = subject_of(subjects.build("resnet20_cifar10"), subjects.pictures("resnet20_cifar10", 1))
    last = [site for site in sites_of(deep).values() if site.sides][-1]
    top, bottom, left, right = window_of(Geometry(deep.graph), last, (0, 7), deep.spec.input)
    assert 0 <= top <= bottom <= 31
    assert 0 <= left <= right <= 31


def test_cut_and_crop() -> None:
    picture = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)
    assert cut(picture.float(), (1, 3, -1, 1), -5).tolist() == [[[-5, 4, 5], [-5, 8, 9], [-5, -5, -5]]]
    cropped = crop(picture, (1, 3, -1, 1))
    assert cropped.shape == (3, 3, 3)
    assert cropped[2, :2, 1:].tolist() == [[4, 5], [8, 9]]
    assert set(cropped[0, 2].tolist()) == {190, 235}  # striped
    assert frame((1, 3, -1, 1), picture) == (1, 2, 0, 1)
    assert frame((-1, 3, -1, 4), picture) is None


def test_a_mosaic_keeps_the_order_in_rows() -> None:
    parts = [torch.full((3, 16, 16), number, dtype=torch.uint8) for number in range(7)]
    whole = mosaic(parts)
    assert whole.shape == (3, 200, 200)
    assert [int(whole[0, 68 * row + 32, 68 * column + 32]) for row in range(3) for column in range(3)] == [
        *range(7),
        180,
        180,
    ]
    assert mosaic([torch.zeros(5, 5)] * 4).isnan().sum() == 4 * (65 * 2 + 65 * 2 + 4)


def test_spec_of_an_untraceable_network_gives_whole_pictures() -> None:
    subject = subject_of(subjects.build("untraceable"), subjects.pictures("untraceable", 1))
    site = sites_of(subject, "conv")["conv"]
    assert not site.rectified  # what follows it cannot be known
    assert window_of(Geometry(subject.graph), site, (3, 3), st.Spec.of((3, 32, 32), 5).input) == (0, 31, 0, 31)
