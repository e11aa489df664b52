"""Streaming moments beside the literal two-pass formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rarity.density import Moments, RarityError


def literal(rows):
    """Mean and scatter as the textbook writes them, one row at a time in float64."""
    mean = sum(row.double() for row in rows) / len(rows)
    scatter = sum(torch.outer(row.double() - mean, row.double() - mean) for row in rows)
    return mean, scatter


@pytest.mark.parametrize("offset", [0.0, 5.0, 300.0, 1e4])
def test_moments_equal_the_literal_formula_at_every_offset(offset):
    rows = torch.randn(500, 12, generator=torch.Generator().manual_seed(1)) + offset
    mean, scatter = literal(rows)
    moments = Moments(12).update(rows)
    assert moments.count == 500
    assert torch.allclose(moments.mean, mean, rtol=0, atol=1e-7 + 1e-9 * offset)
    assert (moments.scatter - scatter).abs().max() < 1e-5 * scatter.diagonal().max()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_shards_merge_in_any_order(sizes, random):
    rows = torch.randn(sum(sizes), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3 + 7
    shards = [Moments(5).update(part) for part in rows.split(sizes)]
    random.shuffle(shards)
    merged = Moments(5)
    for shard in shards:
        merged = merged.merge(shard)
    mean, scatter = literal(rows)
    assert merged.count == len(rows)
    assert torch.allclose(merged.mean, mean, rtol=1e-12) and torch.allclose(merged.scatter, scatter, atol=1e-9)


def test_long_streams_are_split_and_one_row_has_no_scatter():
    rows = torch.randn(10_000, 3, generator=torch.Generator().manual_seed(3))
    moments = Moments(3).update(rows)
    assert torch.allclose(moments.covariance(), torch.cov(rows.double().T, correction=0), atol=1e-6)
    assert Moments(3).update(rows[:1]).scatter.abs().max() == 0


def test_merging_leaves_both_sides_as_they_were():
    one, two = Moments(2).update(torch.ones(3, 2)), Moments(2).update(torch.zeros(2, 2))
    one.merge(two)
    assert (one.count, two.count) == (3, 2) and one.mean.tolist() == [1.0, 1.0]


def test_unusable_batches_change_nothing():
    moments = Moments(3).update(torch.ones(4, 3))
    for batch in (torch.zeros(2, 4), torch.zeros(3), torch.full((2, 3), float("nan"))):
        with pytest.raises(RarityError):
            moments.update(batch)
    assert moments.count == 4
    with pytest.raises(RarityError):
        moments.merge(Moments(4))
    with pytest.raises(RarityError):
        Moments(3).covariance()
