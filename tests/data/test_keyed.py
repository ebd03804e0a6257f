from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.keyed import keyed_bits, keyed_generator, keyed_seed

MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    """The published generator in Python integers: one output for a state."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
    return state ^ (state >> 31)


def test_the_reference_gives_the_published_outputs():
    # The first two outputs for the seed 1234567, from the author's splitmix64.c.
    first = splitmix64(1234567)
    second = splitmix64((1234567 + 0x9E3779B97F4A7C15) & MASK)
    assert (first, second) == (6457827717110365317, 3203168211198807973)


@given(index=st.integers(0, 2**40), key=st.lists(st.integers(-(2**63), 2**64), min_size=1, max_size=3))
def test_the_tensor_code_agrees_with_python_integers(index, key):
    state = (index - 1) * 0x9E3779B97F4A7C15 + keyed_seed(*key)
    assert int(keyed_bits(torch.tensor([index]), *key)) == splitmix64(state & MASK) >> 1


def test_bits_are_fair_and_differ_by_key():
    index = torch.arange(20_000)
    bits = keyed_bits(index, 0, 1)
    for place in (0, 1, 17, 40, 62):
        assert abs(float((bits >> place & 1).double().mean()) - 0.5) < 0.02
    other = keyed_bits(index, 1, 0)
    assert abs(float(((bits ^ other) & 1).double().mean()) - 0.5) < 0.02
    assert len(set(bits.tolist())) == len(index)


def test_generators_leave_the_global_one_alone():
    before = torch.get_rng_state()
    first = torch.randperm(50, generator=keyed_generator(1, 2))
    assert torch.equal(first, torch.randperm(50, generator=keyed_generator(1, 2)))
    assert not torch.equal(first, torch.randperm(50, generator=keyed_generator(2, 1)))
    assert torch.equal(before, torch.get_rng_state())
