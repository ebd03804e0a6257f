from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.data.preprocess import normalise
from striate.inspection.record import record
from striate.inspection.subject import subject_of
from striate.inspection.units import top
from striate.inspection.units.top import top_pictures
from tests.inspection import subjects


def by_sorting(maps: Tensor, most: int) -> tuple[list[list[float]], list[list[int]]]:
    """The largest values of each unit and the numbers of their pictures, from all maps (N, units, H, W) at once."""
    values, numbers = [], []
    for unit in range(maps.shape[1]):
        peaks = [(-float(one[unit].max()), number) for number, one in enumerate(maps)]
        best = sorted(peaks)[:most]
        values.append([-value for value, _ in best])
        numbers.append([number for _, number in best])
    return values, numbers


def shown(network: nn.Module, images: Tensor, where: str) -> Tensor:
    spec = st.Spec.of((int(images.shape[1]), *images.shape[2:]), 1).input
    return record(network, normalise(images, spec), [where]).activations[where]


@pytest.mark.parametrize("at_once", [4, 7, 512])
def test_in_one_pass_as_by_sorting_everything(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "PICTURES_AT_ONCE", at_once)
    network, images = subjects.build("in place"), subjects.pictures("in place", 30)
    images[20:25] = images[3:8]  # ties
    found = top_pictures(network, images, ["first", "second", "act"])
    maps = {where: shown(network, images, where) for where in ("act", "second")}
    maps["first"] = maps["act"]  # convolution, normalisation, rectification
    for where, expected in maps.items():  # of "second", which is changed before it is rectified, its own output
        best = found[where]
        values, numbers = by_sorting(expected, 9)
        assert best.pictures.tolist() == numbers
        torch.testing.assert_close(best.values, torch.tensor(values), rtol=1e-5, atol=1e-6)
        for unit, row in enumerate(best.pictures.tolist()):
            for value, number, (y, x) in zip(best.values[unit], row, best.positions[unit].tolist(), strict=True):
                torch.testing.assert_close(expected[number, unit, y, x], value, rtol=1e-5, atol=1e-6)
    assert not any(module._forward_hooks for module in network.modules())


def test_equal_values_in_the_order_of_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "PICTURES_AT_ONCE", 5)
    images = subjects.pictures("in place", 1).repeat(23, 1, 1, 1)
    best = top_pictures(subjects.build("in place"), images, "first")["first"]
    assert best.pictures.tolist() == [list(range(9))] * 8
    assert (best.values.diff(dim=1) == 0).all()


def test_what_answers_nowhere_has_a_place_all_the_same() -> None:
    network = subjects.build("in place")
    assert isinstance(network, subjects.InPlace)
    with torch.no_grad():
        network.norm.bias.fill_(-100)
    images = subjects.pictures("in place", 4)
    best = top_pictures(network, images, "first")["first"]
    assert (best.values == 0).all()
    assert best.pictures.tolist() == [[0, 1, 2, 3]] * 8
    spec = st.Spec.of((3, 32, 32), 5).input
    with torch.no_grad():
        before = network.norm(network.first(normalise(images, spec)))
    y, x = best.positions[2, 1].tolist()
    assert before[1, 2, y, x] == before[1, 2].max()


def test_every_layer_where_none_is_named() -> None:
    network, images = subjects.build("lenet5"), subjects.pictures("lenet5", 12)
    found = top_pictures(network, images, most=3)
    assert set(found.layers) >= {"c1", "c3"}
    for layer, best in found.layers.items():
        sides = found.sites[layer].sides
        assert best.values.shape == best.pictures.shape == (found.sites[layer].units, 3)
        inside = best.positions < torch.tensor(sides) if sides else best.positions == -1
        assert inside.all()
    logits = subject_of(network, images).logits
    last = list(found.layers)[-1]
    values, numbers = by_sorting(logits[..., None, None], 3)
    assert found[last].pictures.tolist() == numbers
    torch.testing.assert_close(found[last].values, torch.tensor(values))


def test_nothing_is_kept_but_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is carried from batch to batch has the same size whatever the number of pictures."""
    monkeypatch.setattr(top, "PICTURES_AT_ONCE", 8)
    kept: list[int] = []
    merged = top._merged

    def watched(best: top._Running, *rest: object) -> top._Running:
        kept.append(sum(one.numel() for one in best))
        bases = [one for one in merged(best, *rest) if one.untyped_storage().nbytes() > 9 * 8 * 8 * 8]  # type: ignore[arg-type]
        assert not bases, "a view keeps something larger alive"
        return merged(best, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(top, "_merged", watched)
    top_pictures(subjects.build("in place"), subjects.pictures("in place", 80), "first")
    assert kept[2:] == [3 * 8 * 9] * 8


class Shared(nn.Module):
    """Uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(self.conv(images).tanh()).mean((2, 3)))


def test_of_a_layer_used_twice_the_last_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "PICTURES_AT_ONCE", 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Shared().eval()
    images = subjects.pictures("in place", 10)
    values, numbers = by_sorting(shown(network, images, "conv"), 9)
    best = top_pictures(network, images, "conv")["conv"]
    assert best.pictures.tolist() == numbers
    torch.testing.assert_close(best.values, torch.tensor(values))


def test_bad_input() -> None:
    network, images = subjects.build("in place"), subjects.pictures("in place")
    with pytest.raises(st.NetworkError, match=r"no layer 'firts'\. Did you mean 'first'\?"):
        top_pictures(network, images, "firts")
    with pytest.raises(st.DataError, match="most must be at least 1, got 0"):
        top_pictures(network, images, most=0)
    with pytest.raises(st.DataError, match="at least one picture"):
        top_pictures(network, images[:0])
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(st.NetworkError, match="'first' are not finite"):
        top_pictures(network, images)


def test_drawn() -> None:
    sheet = top_pictures(subjects.build("in place"), subjects.pictures("in place", 9)).draw()
    assert sheet.image.width <= 1440
    assert sheet.png() == top_pictures(subjects.build("in place"), subjects.pictures("in place", 9)).draw().png()
