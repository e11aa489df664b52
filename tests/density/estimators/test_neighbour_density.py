"""Neighbours beside literal formulas, scikit-learn and a density that is known; what a Gaussian cannot see."""

import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity, NeighbourDensity, RarityError
from rarity.density.estimators.neighbour_density import NEIGHBOURS
from scipy.special import digamma
from sklearn.neighbors import NearestNeighbors


def draw_ring(count, seed=0):
    """A ring of radius 3 in the plane, nothing inside it, with a little noise in all six directions."""
    g = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(count, generator=g)
    x = 0.1 * torch.randn(count, 6, generator=g)
    x[:, 0] += 3 * angle.cos()
    x[:, 1] += 3 * angle.sin()
    return Embeddings(x + 1, EmbeddingSpace("ring", "f", 6), source={"prompt": "a ring"})


@pytest.fixture(scope="module")
def ring():
    return draw_ring(1500, 1)


@pytest.fixture(scope="module")
def found(ring):
    return NeighbourDensity.fit(ring, seed=1)


@pytest.fixture(scope="module")
def broad(baseline):
    return NeighbourDensity.fit(baseline, components=9, seed=3)


def literal_distances(x, rows):
    return torch.stack([(row.double() - rows.double()).square().sum(1).sqrt().sort().values for row in x])


def test_the_score_is_the_distance_to_the_tenth_nearest_row(broad, baseline, mixture):
    x = mixture(40, 7).vectors
    expected = literal_distances(x, baseline.vectors)[:, 9]
    assert broad.neighbours == NEIGHBOURS == 10
    assert torch.allclose(broad.score(x), expected, rtol=1e-13)


def test_the_score_equals_scikit_learn(broad, baseline, mixture):
    x = mixture(200, 8).vectors.double()
    theirs = NearestNeighbors(n_neighbors=10, algorithm="brute").fit(baseline.vectors.double().numpy())
    distances = torch.from_numpy(theirs.kneighbors(x.numpy())[0])[:, -1]
    # They form |q|^2 + |r|^2 - 2 q'r, which loses digits where it cancels.
    assert torch.allclose(broad.score(x), distances, rtol=1e-9)


def test_log_prob_is_the_share_of_rows_over_the_volume_of_the_ball(broad, baseline, mixture):
    x = mixture(20, 9).vectors
    volume = math.pi**8 / math.factorial(8) * broad.score(x) ** 16  # of a ball in 16 dimensions
    assert torch.allclose(broad.log_prob(x), (10 / 2000 / volume).log(), rtol=1e-12)


def test_a_uniform_density_is_read_back():
    """Inside the unit square p = 1; the logarithm of a k-nearest estimate is log k - digamma(k) too large on average."""
    g = torch.Generator().manual_seed(0)
    flat = EmbeddingSpace("flat", "f", 2)
    density = NeighbourDensity.fit(Embeddings(torch.rand(4000, 2, generator=g), flat))
    inside = 0.2 + 0.6 * torch.rand(3000, 2, generator=g)
    log_prob = density.log_prob(inside)
    # Neighbouring figures share their rows: about 4000 * 0.36 / 10 independent ones, each 0.32 off.
    assert float(log_prob.mean()) == pytest.approx(math.log(10) - digamma(10), abs=0.08)
    assert float(log_prob.std()) == pytest.approx(0.32, abs=0.06)


def test_the_calibration_leaves_every_row_itself_out(found, ring):
    expected = literal_distances(ring.vectors[:200], ring.vectors)[:, 10].contiguous()  # the first is the row itself
    scores = found.calibration.scores
    assert len(scores) == 1500
    places = torch.searchsorted(scores, expected).clamp_max(1499)
    nearest = torch.minimum((scores[places] - expected).abs(), (scores[(places - 1).clamp_min(0)] - expected).abs())
    assert nearest.max() < 1e-12


def test_fresh_samples_are_as_rare_as_said(found):
    bits = found.bits(draw_ring(20_000, 2).vectors)
    for wanted in (1.0, 3.0, 5.0, 7.0):
        assert -math.log2(float((bits >= wanted).double().mean())) == pytest.approx(wanted, abs=0.4)


def test_the_middle_of_a_ring_is_rare_for_neighbours_only(found, ring):
    gaussian = GaussianDensity.fit(ring, components=2, seed=1)
    middle = torch.ones(1, 6)
    assert found.bits(middle) > 10 > 1 > gaussian.bits(middle)


def test_the_gradient_points_away_from_the_tenth_row(broad, mixture):
    x = mixture(5, 4).vectors.double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(broad.score(x).sum(), x)
    rows = broad.statistics.rows.double()
    for row, slope in zip(x.detach(), gradient, strict=True):
        tenth = rows[(rows - row).norm(dim=1).argsort()[9]]
        assert torch.allclose(slope, (row - tenth) / (row - tenth).norm(), atol=1e-12)


def test_upon_a_row_the_gradient_is_finite(broad):
    fields = {name: value for name, value in vars(broad).items() if name != "neighbours"}
    x = broad.statistics.rows[:3].double().requires_grad_(True)
    one = NeighbourDensity(neighbours=1, **fields)
    (gradient,) = torch.autograd.grad(one.score(x).sum(), x)
    assert torch.equal(one.score(x), torch.zeros(3, dtype=torch.float64)) and torch.equal(gradient, 0 * x)
    assert broad.score(x).min() > 0 and torch.isfinite(broad.log_prob(x)).all()


@pytest.mark.parametrize("width", [2, 16, 300])
def test_draws_are_as_usual_as_rows_in_few_and_in_many_dimensions(width):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(800, width, generator=g) * torch.logspace(0, -0.5, width)
    density = NeighbourDensity.fit(Embeddings(x, EmbeddingSpace("e", "f", width)), components=1)
    draws = density.sample(600, seed=5)
    bits = density.bits(draws.vectors)
    assert 0.5 < bits.median() < 2 and 0.005 < (bits > 5).double().mean() < 0.1
    assert not (draws.vectors[:, None] == x[None, :50]).all(dim=2).any()


def test_rows_are_kept_as_they_came_whatever_their_order(found, ring):
    mixed = ring.select(torch.randperm(1500, generator=torch.Generator().manual_seed(3)))
    again = NeighbourDensity.fit(mixed, seed=1)
    assert torch.equal(again.score(ring.vectors), found.score(ring.vectors))
    assert torch.equal(again.calibration.scores, found.calibration.scores)


def test_damaged_neighbours_are_refused(found):
    fields, tensors = found.state()
    assert fields["neighbours"] == 10 and fields["estimator"] == "neighbours"
    for wrong in (0, 1, 1500, 10.0, True, None, "10"):
        with pytest.raises(RarityError, match="neighbours in this file are damaged"):
            NeighbourDensity.from_state({**fields, "neighbours": wrong}, tensors)
    with pytest.raises(RarityError, match="damaged"):
        NeighbourDensity.from_state({**fields, "estimator": "ppca"}, tensors)


def test_the_description_says_what_is_measured(found):
    text = found.describe(1000)
    assert "within which the 10 nearest of 1,500 samples lie" in text and "1 in 1,000 is 10.0 bits" in text
    assert "times as far from them as the typical sample" in text
