"""Whether labels go with pictures."""

from __future__ import annotations

import math

import pytest
import torch

import striate as st
from striate.training.doctor.labels import MOST_BYTES, nearest, neighbours, neighbours_agree, outvoted, sample, shrunk
from striate.training.run import Run
from tests.conftest import make_image_set


def run_of(split: st.Split) -> Run:
    return Run(torch.nn.Identity(), split.spec, st.Recipe(), {"name": "x"}, 1, split)


def test_agreement_is_that_of_the_nearest_other_picture() -> None:
    split = make_image_set(pictures=60).train
    agree, by_chance, deviation = neighbours_agree(run_of(split))
    flat = split.images.double().flatten(1)
    right = 0
    for i in range(len(split)):
        others = [(float((flat[i] - flat[j]).norm()), j) for j in range(len(split)) if j != i]
        right += int(split.labels[min(others)[1]] == split.labels[i])
    assert agree == pytest.approx(right / len(split))
    shares = [float((split.labels == k).double().mean()) for k in range(3)]
    assert by_chance == pytest.approx(sum(one**2 for one in shares))
    assert deviation == pytest.approx(math.sqrt(by_chance * (1 - by_chance) / len(split)))
    assert agree - by_chance > 5 * deviation


def test_the_vote_of_ten_neighbours() -> None:
    split = make_image_set(pictures=600).train
    generator = torch.Generator().manual_seed(1)
    changed = torch.rand(len(split), generator=generator) < 0.3
    labels = torch.where(changed, torch.randint(0, 3, (len(split),), generator=generator), split.labels)
    noisy = st.Split(split.images, labels, split.spec, split.origins)
    flat = split.images.double().flatten(1)
    asked = none = right = 0
    for i in range(len(split)):
        apart = (flat[i] - flat).norm(dim=1)
        apart[apart < 1e-3] = math.inf
        own = labels[apart.argsort()[:10]].tolist()
        most = max(range(3), key=own.count)
        right += most == int(labels[i])
        asked += own.count(most) >= 6
        none += own.count(most) >= 6 and int(labels[i]) not in own
    guessed = float(torch.bincount(labels).max()) / len(labels)
    skill, wrong, count = outvoted(run_of(noisy))
    assert count == asked
    assert skill == pytest.approx((right / len(split) - guessed) / (1 - guessed))
    assert wrong == pytest.approx(none / asked)
    assert outvoted(run_of(split))[1] < 0.03 < 0.05 < wrong
    assert outvoted(run_of(split[torch.arange(30)]))[1:] == (0.0, 0)  # ten of a class: none has neighbours enough


def test_fewer_others_than_neighbours_are_all_of_them() -> None:
    assert sorted(neighbours(torch.zeros(1, 2), torch.eye(2), 5)[0].tolist()) == [0, 1]


def test_shuffled_labels_agree_by_chance_alone() -> None:
    split = make_image_set(pictures=400).train
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    mixed = st.Split(split.images, split.labels[order], split.spec, split.origins)
    agree, by_chance, deviation = neighbours_agree(run_of(mixed))
    assert abs(agree - by_chance) < 3 * deviation


def test_copies_are_no_evidence() -> None:
    split = make_image_set(pictures=400).train
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    labels = split.labels[order]
    twice = st.Split(
        torch.cat([split.images] * 2), torch.cat([labels] * 2), split.spec, [*split.origins, *split.origins]
    )
    agree, by_chance, deviation = neighbours_agree(run_of(twice))
    assert abs(agree - by_chance) < 4 * deviation


def test_a_sample_is_spread_over_the_whole() -> None:
    split = make_image_set(pictures=120).train
    assert len(sample(split, 10_000)) == len(split)
    some = sample(split, 5)
    assert len(some) == 5
    assert some.origins[0] == split.origins[0]
    assert some.origins[4] == split.origins[len(split) - 1]


def test_of_large_pictures_fewer_are_looked_at() -> None:
    spec = st.Spec.of((3, 1024, 1024), 2)
    images = torch.zeros(1, dtype=torch.uint8).expand(90, 3, 1024, 1024)  # of one byte
    split = st.Split(images, torch.arange(90) % 2, spec, [str(number) for number in range(90)])
    some = sample(split, 90)
    assert len(some) == MOST_BYTES // (3 * 1024 * 1024) == 10
    assert some.origins[9] == "89"
    assert shrunk(some.images).shape == (10, 3 * 16 * 16)


def test_pictures_are_shrunk_and_compared_alike_in_pieces_and_at_once() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (100, 1, 20, 20), dtype=torch.uint8, generator=draw)
    images[70] = images[3]
    flat = shrunk(images)
    assert torch.equal(flat, torch.nn.functional.adaptive_avg_pool2d(images.float(), 16).flatten(1))
    apart = (flat[:, None].double() - flat.double()).norm(dim=2)
    assert nearest(flat, flat, copies=True)[70] == apart[70].argmin()
    apart[apart == 0] = math.inf
    assert torch.equal(nearest(flat, flat), apart.argmin(1))
