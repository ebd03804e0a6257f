from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from striate.core.spec import TaskSpec
from striate.inspection.saliency import deletion
from striate.inspection.saliency.deletion import compare_with_random_maps
from tests.inspection.saliency.references import TARGETS, inputs, small

TASK = TaskSpec(class_names=("a", "b"))
ZERO = torch.tensor([0])


class Corner(nn.Module):
    """Sees the upper left quarter alone: the more light there, the surer it is of the first class."""

    def forward(self, images: Tensor) -> Tensor:
        light = images[:, :, :10, :10].mean((1, 2, 3)) * 8 - 4
        return torch.stack([light, -light], 1)


def corner() -> Tensor:
    map_ = torch.zeros(1, 20, 20)
    map_[:, :10, :10] = 1
    return map_


def test_the_right_map_beats_random_ones_and_the_wrong_one_does_not() -> None:
    picture = torch.ones(1, 1, 20, 20)
    right = compare_with_random_maps(Corner(), picture, ZERO, corner(), TASK)
    assert right.passes.item()
    assert right.deletion < right.deletion_interval[0, 0]
    wrong = compare_with_random_maps(Corner(), picture, ZERO, -corner(), TASK)
    assert not wrong.passes.item()
    assert not compare_with_random_maps(Corner(), picture, ZERO, torch.ones(1, 20, 20), TASK).passes.item()


def test_the_scores_by_hand() -> None:
    network, pictures = small(), inputs()
    maps = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(3))
    task = TaskSpec(class_names=("a", "b", "c"), temperature=0.5)
    found = compare_with_random_maps(network, pictures, TARGETS, maps, task)
    for number in range(3):
        order = maps[number].flatten().argsort(descending=True)
        taken, given = [], []
        blurred = deletion._blurred(pictures[number])
        for step in range(deletion.STEPS + 1):
            most = order[: -(-144 * step // deletion.STEPS)]  # rounded up: ranks below the share
            less, more = pictures[number].clone().flatten(1), blurred.clone().flatten(1)
            less[:, most] = 0
            more[:, most] = pictures[number].flatten(1)[:, most]
            for curve, one in ((taken, less), (given, more)):
                with torch.no_grad():
                    logits = network(one.view(1, 2, 12, 12)) / 0.5
                curve.append(float(logits.softmax(1)[0, TARGETS[number]]))
        for curve, score in ((taken, found.deletion), (given, found.insertion)):
            area = (sum(curve) - (curve[0] + curve[-1]) / 2) / deletion.STEPS
            assert float(score[number]) == pytest.approx(area, abs=1e-9)


def test_the_interval_is_that_of_one_more_normal_number() -> None:
    scores = torch.randn(2, 10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    interval = deletion._interval(scores)
    values = scores[1, :, 0].numpy()
    reach = stats.t(9).ppf(0.975) * values.std(ddof=1) * (1.1**0.5)
    assert interval[1, 0].tolist() == pytest.approx([values.mean() - reach, values.mean() + reach])


def test_equal_values_are_taken_at_random_and_greater_ones_first() -> None:
    order = deletion._order(corner()[0], torch.Generator().manual_seed(0))
    assert order[:10, :10].max() == pytest.approx(99 / 400)
    assert not (order[:10, :10].flatten().diff() > 0).all()
    assert len(order.unique()) == 400


def test_a_random_map_has_the_same_values() -> None:
    map_ = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    moved = deletion._moved(map_, torch.Generator().manual_seed(1))
    assert not torch.equal(moved, map_)
    assert torch.equal(moved.flatten().sort().values, map_.flatten().sort().values)


def test_blurring_keeps_what_is_even_and_the_mean_of_what_is_far_from_the_border() -> None:
    torch.testing.assert_close(deletion._blurred(torch.ones(3, 30, 40)), torch.ones(3, 30, 40))
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    blurred = deletion._blurred(point)
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)
    assert float(blurred[0, 20, 22] / blurred[0, 20, 20]) == pytest.approx(
        float(torch.tensor(-4 / 2 / 2.05**2).exp()), rel=1e-4
    )
