from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import striate as st
from striate.inspection.invariance import Effect, change, invariance
from tests.inspection import subjects

FAST = ["feedforward1", "lenet5", "nin_cifar10", *subjects.FOREIGN]


class Brightest(nn.Module):
    """Answers with the column that is brightest: 4 classes for pictures 8 pixels wide, 2 columns each.

    Or, where asked to, from the sum of all columns alone.
    """

    def __init__(self, everywhere: bool = False) -> None:
        super().__init__()
        self.everywhere = everywhere
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight.data = 9 * torch.eye(4)

    def forward(self, images: Tensor) -> Tensor:
        columns = images.mean((1, 2)).view(-1, 4, 2).mean(2)
        columns = columns.sum(1, keepdim=True) * torch.tensor([0, 1, 0, 0]) if self.everywhere else columns
        logits: Tensor = self.head(columns)
        return logits


def bright_column() -> Tensor:
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    images[..., 2:4] = 255  # class 1
    return images


def split() -> st.Split:
    images = bright_column().repeat(8, 1, 1, 1)
    spec = st.Spec.of((1, 8, 8), 4)
    return st.Split(images, torch.full((8,), 1), spec, [f"p{i}" for i in range(8)])


def test_shifts_are_counted_as_by_hand() -> None:
    seen = invariance(Brightest(), split())
    effect = seen.effects["shift"]
    assert effect.amounts == (0.0, 1.0, 2.0)
    # Pictures 0 and 4 go to the right, 2 and 6 to the left; down and up nothing changes. One pixel is a tie of two
    # columns, of which the first wins; two pixels are another column.
    ways = [[1, 1, 1, 1], [1, 1, 0, 1], [2, 1, 0, 1]]
    assert effect.answers.tolist() == [row + row for row in ways]
    assert effect.unchanged.value == (1.0, 0.75, 0.5)
    assert effect.accuracy is not None
    assert effect.accuracy.value == effect.unchanged.value
    assert effect.area == pytest.approx((1 / 2 + 0.75 + 0.5 / 2) / 2)
    low, high = effect.area_interval
    assert low < effect.area < high
    # By two pixels to the right the features are at right angles to what they were, by one at 45°.
    assert effect.similarities[:, 0].tolist() == pytest.approx([1, math.sqrt(0.5), 0], abs=1e-6)
    logits = torch.tensor([[0, 9 * 0.5, 9 * 0.5, 0]], dtype=torch.float64)
    assert float(effect.probabilities[1, 0]) == pytest.approx(float(logits.softmax(1)[0, 1]), abs=1e-3)
    assert seen.features == "head"


def test_who_does_not_care_where_is_invariant() -> None:
    seen = invariance(Brightest(everywhere=True), split())
    assert seen.effects["shift"].unchanged.value == (1, 1, 1)
    assert seen.effects["shift"].similarity.value == pytest.approx((1, 1, 1))
    assert seen.consistency == 1
    assert invariance(Brightest(), split()).consistency < 0.9


def test_consistency_is_that_of_pairs() -> None:
    seen = invariance(Brightest(), bright_column().repeat(200, 1, 1, 1), count=200)
    # Both copies go −1, 0 or 1 to the side: the answers are 0, 1 and 1. They agree with probability (1 + 4) / 9.
    low, high = seen.consistency_interval
    assert seen.most_shift == 1
    assert low < 5 / 9 < high
    assert 0.03 < high - low < 0.11  # 800 pairs: ± 2 · √(0.25 / 800)


def test_the_area_of_a_scale_counts_half_and_twice_alike() -> None:
    amounts = tuple(2.0**step for step in (-1, 0, 1))
    originals = torch.tensor([3])
    for answers in ([[3], [3], [0]], [[0], [3], [3]]):
        answered = torch.tensor(answers)
        ones = torch.ones(3, 1, dtype=torch.float64)
        assert Effect("scale", amounts, answered, ones, ones, originals, None).area == pytest.approx(0.75)


def test_intervals_cover() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):
        values = torch.rand(1, 50, generator=generator, dtype=torch.float64)
        ones = torch.ones(1, 50, dtype=torch.int64)
        mean = Effect("blur", (0.0,), ones, values, values, ones[0], None).probability
        covered += mean.low[0] <= 0.5 <= mean.high[0]
    assert 180 <= covered <= 199


def test_the_features_are_what_the_head_is_given() -> None:
    network, pictures = subjects.build("in place"), subjects.pictures("in place", 3)
    assert isinstance(network, subjects.InPlace)
    seen = invariance(network, pictures)
    assert seen.features == "head"
    given: list[Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.no_grad():
        for images in (pictures, change(pictures, "rotation", 45)):
            network(images.float() / 255)
    hook.remove()
    expected = torch.cosine_similarity(given[0].double(), given[1].double())
    step = seen.effects["rotation"].amounts.index(45)
    torch.testing.assert_close(seen.effects["rotation"].similarities[step], expected, atol=1e-4, rtol=0)


def _check(name: str) -> None:
    network = subjects.build(name).train()
    modes = [module.training for module in network.modules()]
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    seen = invariance(network, subjects.pictures(name, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    for effect in seen.effects.values():
        start = effect.amounts.index(1.0 if effect.kind == "scale" else 0.0)
        assert effect.unchanged.value[start] == 1
        assert effect.similarities[start].tolist() == pytest.approx([1, 1])
        assert effect.probabilities.isfinite().all()
        assert effect.accuracy is None
        assert 0 <= effect.area <= 1


@pytest.mark.parametrize("name", FAST)
def test_any_network_is_looked_at_and_left_as_it_was(name: str) -> None:
    _check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in subjects.ZOO if name not in FAST])
def test_every_family_is_looked_at_and_left_as_it_was(name: str) -> None:
    _check(name)


def test_a_split_is_chosen_from_by_the_seed() -> None:
    images = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(20, 1, 8, 8)
    whole = st.Split(images, torch.zeros(20, dtype=torch.int64), st.Spec.of((1, 8, 8), 4), [str(i) for i in range(20)])
    chosen = [invariance(Brightest(), whole, count=5, seed=seed).origins for seed in (0, 0, 1)]
    assert list(chosen[0]) == list(chosen[1]) != list(chosen[2])
    assert len(set(chosen[0])) == 5
    of_list = invariance(st.Classifier(Brightest(), whole.spec), list(images.numpy()[:, 0]), count=5)
    assert [str(int(one[0, 0, 0])) for one in of_list.images] == list(chosen[0])


def test_drawings_say_what_was_measured() -> None:
    seen = invariance(Brightest(), split())
    drawn = str(seen.draw())
    for words in ("Shift: 75% of the answers stay", "shift consistency", "edge pixels repeated", "accuracy", "n = 8"):
        assert words in drawn
    sheet = seen.draw_pictures(1)
    assert sheet.image.width > 400
    assert sheet.png() != seen.draw_pictures(0).png()  # the other goes another way
    with pytest.raises(st.DataError, match="There are 8 pictures, numbered from 0; there is none at 8"):
        seen.draw_pictures(8)


def test_what_cannot_be_looked_at() -> None:
    with pytest.raises(st.DataError, match="count must be at least 1, got 0"):
        invariance(Brightest(), bright_column(), count=0)
    useless = Brightest()
    useless.head.weight.data.fill_(math.nan)
    with pytest.raises(st.NetworkError, match="not finite numbers"):
        invariance(useless, bright_column())
