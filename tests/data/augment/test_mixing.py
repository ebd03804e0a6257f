from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from striate.data.augment.draws import Draws, Stream
from striate.data.augment.mixing import _beta, mix, partners
from striate.data.augment.policy import Augmentation

CLASSES = 5
policies = st.sampled_from(
    [Augmentation(mixup=0.2), Augmentation(cutmix=1.0), Augmentation(mixup=1.0, cutmix=1.0), Augmentation(mixup=8)]
)


def batch(count: int, side: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures of which each pixel is the picture's number, and labels."""
    numbers = torch.arange(count, dtype=torch.float32)
    return numbers.view(-1, 1, 1, 1).expand(-1, 3, side, side).clone(), torch.arange(count) % CLASSES


def mixed(pictures, labels, index, policy, epoch=0, seed=0):
    return mix(pictures, labels, index, policy, classes=CLASSES, epoch=epoch, seed=seed)


@settings(max_examples=50, deadline=None)
@given(
    policy=policies, count=st.integers(1, 12), epoch=st.integers(0, 50), seed=st.integers(0, 2**31), multi=st.booleans()
)
def test_pictures_and_targets_are_mixed_by_the_same_shares(policy, count, epoch, seed, multi):
    pictures, labels = batch(count)
    if multi:
        labels = torch.randint(0, 2, (count, CLASSES), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    before = pictures.clone()
    result, targets = mixed(pictures, labels, torch.arange(count), policy, epoch, seed)
    assert torch.equal(pictures, before)
    assert result.shape == pictures.shape
    assert result.dtype == targets.dtype == torch.float32
    rows = labels.float() if multi else torch.eye(CLASSES)[labels]
    partner = partners(Draws(torch.arange(count), epoch, seed))
    for number, other in enumerate(partner.tolist()):
        if number == other:
            share = 0.0
            assert torch.equal(result[number], pictures[number])
        else:
            share = (result[number].double().mean().item() - number) / (other - number)
        expected = (1 - share) * rows[number] + share * rows[other]
        np.testing.assert_allclose(targets[number].numpy(), expected.numpy(), atol=1e-5)
    if not multi:
        assert torch.allclose(targets.sum(1), torch.ones(count))


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(9)), policy=policies)
def test_the_order_of_the_batch_does_not_matter(order, policy):
    pictures, labels = batch(9)
    index = torch.tensor(order)
    whole, shares = mixed(pictures, labels, torch.arange(9) + 100, policy, 3, 4)
    result, targets = mixed(pictures[index], labels[index], index + 100, policy, 3, 4)
    assert torch.equal(result, whole[index])
    assert torch.equal(targets, shares[index])


def test_nothing_asked_for_is_nothing_done():
    pictures, labels = batch(4)
    result = mixed(pictures, labels, torch.arange(4), Augmentation())
    assert result[0] is pictures
    assert result[1] is labels


def test_partners_are_a_permutation_of_others():
    seen = torch.zeros(6, 6)
    for epoch in range(600):
        partner = partners(Draws(torch.arange(6), epoch, 0))
        assert sorted(partner.tolist()) == list(range(6))
        seen[torch.arange(6), partner] += 1
    assert (seen.diagonal() == 0).all()
    assert torch.allclose(seen + 120 * torch.eye(6), torch.full((6, 6), 120.0), atol=45)  # four deviations


def test_a_pasted_box_is_whole_and_of_the_partner():
    pictures, labels = batch(200, 10)
    result, targets = mixed(pictures, labels, torch.arange(200), Augmentation(cutmix=1))
    partner = partners(Draws(torch.arange(200), 0, 0))
    for number, picture in enumerate(result[:, 0]):
        mask = picture != number
        assert (picture[mask] == partner[number]).all()
        assert mask.sum() == mask.any(0).sum() * mask.any(1).sum()
        if labels[number] != labels[partner[number]]:
            assert targets[number, labels[number]].item() == pytest.approx(1 - mask.double().mean().item(), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 4.0, 50.0])
def test_shares_are_of_the_beta_distribution(alpha):
    shares = _beta(Draws(torch.arange(20_000), 0, 0), alpha)
    assert kstest(shares.numpy(), beta(alpha, alpha).cdf).statistic < 0.015
    assert 0 <= shares.min() <= shares.max() <= 1


def test_where_both_are_asked_for_each_picture_gets_one():
    pictures, labels = batch(2000, 6)
    draws = Draws(torch.arange(2000), 0, 0)
    result, _ = mixed(pictures, labels, draws.index, Augmentation(mixup=1, cutmix=1))
    even = (result == result[:, :1, :1, :1]).flatten(1).all(1)
    blended = draws.chance(Stream.MIXTURE, 0.5)
    assert blended.double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert even[blended].all()
    assert even[~blended].double().mean() < 0.15  # boxes of no or all pixels
