"""The band loss beside its formula, and what the published objective does instead."""

import math

import pytest
import torch
from rarity.density import BandLoss, Embeddings, EmbeddingSpace, GaussianDensity, RarityError, log_gaussian
from torch.distributions import MultivariateNormal

SPACE = EmbeddingSpace("test", "0123", 12)
BITS = math.log2(1000)


@pytest.fixture(scope="module")
def density():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 12, generator=draw, dtype=torch.float64) * torch.linspace(3, 0.2, 12) + 1
    return GaussianDensity.fit(Embeddings(x, SPACE), components=5)


def z(density, score):
    a, b = density.calibration.reference
    return (score ** (1 / 3) - a) / b


@pytest.mark.parametrize("half_width", [1.0, 0.25])
def test_the_literal_formula(density, half_width):
    loss = BandLoss(density, BITS, half_width)
    low, high = (z(density, density.score_at(BITS + sign * half_width / 2)) for sign in (-1, 1))
    for score in (0.01, 3.0, 12.0, density.score_at(BITS - half_width), density.score_at(BITS), 45.0, 1e3, 1e9):
        away = max(low - z(density, score), 0, z(density, score) - high)
        got = float(loss.of_score(torch.tensor(score, dtype=torch.float64)))
        assert got == pytest.approx(away**2 / 2, rel=1e-9, abs=1e-12)


def test_usual_samples_are_as_far_away_as_a_normal_has_it(density):
    """The reference makes z of usual samples standard normal: E (low - z)^2 / 2 = (low^2 + 1) / 2 while all are below."""
    loss = BandLoss(density, BITS)
    usual = float(loss.of_score(density.calibration.scores).mean())
    assert usual == pytest.approx((loss.low**2 + 1) / 2, rel=0.05)  # the cube root is normal to a few percent


def test_zero_in_the_band_and_monotone_on_both_sides(density):
    loss = BandLoss(density, BITS)
    inside = torch.linspace(density.score_at(BITS - 0.49), density.score_at(BITS + 0.49), 50, dtype=torch.float64)
    assert torch.equal(loss.of_score(inside), torch.zeros(50, dtype=torch.float64))
    below = torch.linspace(0, density.score_at(BITS - 0.5), 200, dtype=torch.float64)
    above = torch.logspace(math.log10(density.score_at(BITS + 0.5)), 12, 200, dtype=torch.float64)
    assert (loss.of_score(below).diff() < 0).all() and (loss.of_score(above).diff() > 0).all()


def test_the_slope_leads_back_from_both_sides(density):
    loss = BandLoss(density, BITS)
    scores = torch.tensor([5.0, density.score_at(BITS), 80.0, 1e6], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss.of_score(scores).sum(), scores)
    assert slope[0] < 0 and slope[1] == 0 and (slope[2:] > 0).all()
    assert torch.autograd.gradcheck(loss.of_score, scores.detach().clone().requires_grad_(True))


def test_a_score_of_zero_has_a_finite_slope(density):
    x = density.frame.mean[None].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(BandLoss(density, BITS)(x).sum(), x)
    assert torch.isfinite(slope).all()


def test_descent_ends_in_the_band_from_inside_and_from_far_out(density):
    loss = BandLoss(density, BITS)
    x = density.frame.mean + torch.randn(40, 12, generator=torch.Generator().manual_seed(1)) * 2
    x[20:] = density.frame.mean + 5 * (x[20:] - density.frame.mean)
    x.requires_grad_(True)
    optimiser = torch.optim.Adam([x], 0.1)
    for _ in range(800):
        optimiser.zero_grad()
        loss(x).sum().backward()
        optimiser.step()
    assert ((density.bits(x.detach()) - BITS).abs() <= 1).all()


def test_the_published_objective_is_the_gaussian_of_the_leading_scores_and_has_no_end(density):
    x = density.sample(20, seed=3).vectors.double()
    scores = (x - density.frame.mean) @ density.frame.basis
    expected = MultivariateNormal(torch.zeros(5, dtype=torch.float64), density.frame.variances.diag()).log_prob(scores)
    torch.testing.assert_close(log_gaussian(density, x), expected, rtol=1e-9, atol=1e-9)
    outside = torch.linalg.qr(torch.cat([density.frame.basis, torch.eye(12, dtype=torch.float64)], dim=1)).Q[:, 5]
    torch.testing.assert_close(log_gaussian(density, x + 1e3 * outside), expected, rtol=1e-6, atol=1e-6)
    assert (log_gaussian(density, density.frame.mean + 1e6 * (x - density.frame.mean)) < -1e9).all()


@pytest.mark.parametrize("bits", [math.nan, math.inf])
def test_no_such_rarity(density, bits):
    for wrong in (-3.0, 0.0, math.inf, math.nan):
        with pytest.raises(RarityError, match="half width must be above 0"):
            BandLoss(density, 10.0, half_width=wrong)
    with pytest.raises(RarityError, match="Bits must be zero or more and finite"):
        BandLoss(density, bits)
