"""Shrinkage from sums beside scikit-learn, which sees all the samples, and in the limits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rarity.density import Moments, RarityError
from rarity.density.statistics.shrinkage import RadialMoments, ledoit_wolf, oas, shrink
from sklearn.covariance import OAS, LedoitWolf


def draw(n, d, seed=0, offset=3.0):
    g = torch.Generator().manual_seed(seed)
    scale = torch.rand(n, 1, generator=g, dtype=torch.float64).clamp_min(0.01) ** -0.3
    return offset + scale * torch.randn(n, d, generator=g, dtype=torch.float64) * torch.logspace(0, -1, d).double()


def literal(rows):
    """Sums of |y|^2 y and |y|^4 about the mean, one row at a time."""
    mean = rows.double().mean(dim=0)
    centred = [row.double() - mean for row in rows]
    return sum((y @ y) * y for y in centred), float(sum((y @ y) ** 2 for y in centred))


@pytest.mark.parametrize("n, d", [(2, 5), (3, 1), (10, 40), (100, 40), (5000, 40), (9000, 7), (30, 300)])
@pytest.mark.parametrize("offset", [0.0, 5.0, 100.0])
def test_intensities_equal_scikit_learn(n, d, offset):
    rows = draw(n, d, seed=n, offset=offset)
    radial = RadialMoments(d).update(rows)
    assert ledoit_wolf(radial) == pytest.approx(LedoitWolf().fit(rows.numpy()).shrinkage_, rel=1e-10, abs=1e-10)
    assert oas(radial.moments) == pytest.approx(OAS().fit(rows.numpy()).shrinkage_, rel=1e-10, abs=1e-10)


def test_the_shrunk_spectrum_is_that_of_the_shrunk_covariance():
    rows = draw(60, 20)
    radial, theirs = RadialMoments(20).update(rows), LedoitWolf().fit(rows.numpy())
    spectrum = torch.linalg.eigvalsh(radial.moments.covariance())
    expected = torch.linalg.eigvalsh(torch.from_numpy(theirs.covariance_))
    assert torch.allclose(shrink(spectrum, ledoit_wolf(radial)), expected, rtol=1e-10)
    assert torch.equal(shrink(spectrum, 0.0), spectrum)
    assert torch.allclose(shrink(spectrum, 1.0), spectrum.mean().expand(20))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_shards_merge_in_any_order(sizes, random):
    rows = draw(sum(sizes), 5, seed=2, offset=7.0)
    shards = [RadialMoments(5).update(part) for part in rows.split(sizes)]
    random.shuffle(shards)
    merged = RadialMoments(5)
    for shard in shards:
        merged = merged.merge(shard)
    third, fourth = literal(rows)
    assert torch.allclose(merged.third, third, rtol=1e-9, atol=1e-9 * (1 + fourth))
    assert merged.fourth == pytest.approx(fourth, rel=1e-11, abs=1e-20)


def test_a_long_stream_far_from_the_origin_loses_nothing():
    rows = draw(10_000, 4, seed=5, offset=1000.0)
    radial = RadialMoments(4).update(rows[:6000]).update(rows[6000:])
    assert radial.fourth == pytest.approx(literal(rows)[1], rel=1e-10)
    assert radial.moments.count == 10_000


def test_float32_samples_are_as_good_as_their_rounding():
    rows = draw(3000, 30, offset=5.0).float()
    ours = ledoit_wolf(RadialMoments(30).update(rows))
    assert ours == pytest.approx(LedoitWolf().fit(rows.double().numpy()).shrinkage_, rel=1e-4)


def test_the_limits():
    pair = RadialMoments(6).update(draw(2, 6))  # two rows: S is y y' for both, chance cannot be told
    assert ledoit_wolf(pair) == pytest.approx(0, abs=1e-12)
    line = torch.linspace(-1, 2, 50).double()[:, None] * torch.ones(8, dtype=torch.float64)
    rank_one = RadialMoments(8).update(line)
    assert ledoit_wolf(rank_one) == pytest.approx(LedoitWolf().fit(line.numpy()).shrinkage_, rel=1e-10)
    corners = torch.cat([torch.eye(5), -torch.eye(5)]).double()  # S is exactly a sphere
    sphere = RadialMoments(5).update(corners)
    assert ledoit_wolf(sphere) == 0 and oas(sphere.moments) == 1
    same = RadialMoments(3).update(torch.ones(9, 3))
    assert ledoit_wolf(same) == 0 and oas(same.moments) == 1
    one = RadialMoments(1).update(draw(40, 1))
    assert ledoit_wolf(one) == 0 and oas(one.moments) == 0
    isotropic = RadialMoments(50).update(torch.randn(400, 50, generator=torch.Generator().manual_seed(1)).double())
    assert ledoit_wolf(isotropic) > 0.9 and oas(isotropic.moments) > 0.9


def test_merging_leaves_both_sides_as_they_were_and_unusable_input_is_refused():
    one, two = RadialMoments(2).update(draw(7, 2)), RadialMoments(2).update(draw(5, 2, seed=1))
    before = one.third.clone(), one.fourth, two.fourth
    one.merge(two)
    assert torch.equal(one.third, before[0]) and (one.fourth, two.fourth) == before[1:] and one.moments.count == 7
    for batch in (torch.zeros(2, 3), torch.zeros(3), torch.full((2, 2), float("nan"))):
        with pytest.raises(RarityError):
            one.update(batch)
    assert one.moments.count == 7
    with pytest.raises(RarityError):
        one.merge(RadialMoments(3))
    with pytest.raises(RarityError):
        ledoit_wolf(RadialMoments(2))
    with pytest.raises(RarityError):
        oas(Moments(2))
    with pytest.raises(RarityError):
        shrink(torch.ones(2), 1.5)
