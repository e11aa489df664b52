"""Held-out scores beside refits without each sample, and fresh samples beside what the calibration says of them."""

import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, fit_density
from rarity.density.calibration.held_out import STEP, extrapolate, leave_one_out
from rarity.density.statistics.shrinkage import RadialMoments, ledoit_wolf


def samples(count, width, seed):
    g = torch.Generator().manual_seed(seed)
    return 1 + torch.randn(count, width, generator=g) * torch.arange(1, width + 1).rsqrt()


@pytest.mark.parametrize("shrunk", [False, True])
def test_leaving_one_out_is_a_refit_without_it(shrunk):
    x = samples(60, 8, 0).double()
    n, mean = len(x), x.mean(0)
    spectrum, axes = torch.linalg.eigh((x - mean).T @ (x - mean) / n)
    rho = ledoit_wolf(RadialMoments(8).update(x)) if shrunk else 0.0
    ours = leave_one_out((x - mean) @ axes, spectrum, rho, n)
    for i in range(0, n, 7):
        rest = torch.cat([x[:i], x[i + 1 :]])
        y = rest - rest.mean(0)
        covariance = (1 - rho) * y.T @ y / (n - 1) + rho * spectrum.mean() * torch.eye(8, dtype=torch.float64)
        off = x[i] - rest.mean(0)
        assert float(ours[i]) == pytest.approx(float(off @ torch.linalg.solve(covariance, off)), rel=1e-10)


def test_a_sample_that_is_alone_in_a_direction_is_very_far():
    """The others have no variance there: their D2 of it is infinite, and rounding made it minus 400 million."""
    space = EmbeddingSpace("test encoder", "0" * 16, 8, "raw")
    for seed in range(8):
        x = samples(200, 8, seed)
        x[:, 7] = 1
        x[3, 7] = 1 + 10.0 ** (seed - 4)
        scores = fit_density(Embeddings(x, space), "full").calibration.scores
        assert scores[0] > 0 and scores[-1] > 1e6 and scores[-2] < 100


def test_extrapolation_is_exact_where_the_inverse_is_linear():
    assert STEP == pytest.approx(0.6)
    best = torch.linspace(50, 150, 40, dtype=torch.float64)
    growing = torch.linspace(0.001, 0.0002, 40, dtype=torch.float64)
    fewer, more, all_of_them = (1 / (1 / best - growing * part) for part in (5 / 3, 5 / 4, 1))
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(extrapolate(fewer[shuffled], more[shuffled]), all_of_them.sort().values, rtol=1e-12)


def test_scores_that_do_not_change_stay_and_impossible_ones_are_bounded():
    scores = torch.rand(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).sort().values
    assert torch.allclose(extrapolate(scores, scores), scores)
    assert torch.allclose(extrapolate(torch.full_like(scores, 1e300), scores), scores / (1 + STEP))
    zero = extrapolate(torch.zeros(100, dtype=torch.float64), scores)
    assert torch.isfinite(zero).all() and (zero >= 0).all()


@pytest.mark.parametrize("estimator, width", [("ppca", 96), ("ledoit-wolf", 96), ("oas", 96), ("full", 96)])
def test_fresh_samples_are_as_rare_as_they_are_called(estimator, width):
    """Four samples a dimension: by fits of four fifths of them one in ten would be one in 13 (shrunk) to one in 30 (full).

    Shares of five baselines together: 2,000 samples know one in ten to 7 %, one in a hundred to 20 % or so.
    """
    space = EmbeddingSpace("test encoder", "0" * 16, width, "raw")
    fresh = samples(20_000, width, 100)
    shares = {0.1: 0.0, 0.01: 0.0}
    for seed in range(5):
        density = fit_density(Embeddings(samples(400, width, seed), space), estimator)
        scores = density.score(fresh)
        for level in shares:
            shares[level] += float((scores >= density.score_at(-math.log2(level))).double().mean()) / 5
    assert 0.075 < shares[0.1] < 0.13 and 0.005 < shares[0.01] < 0.018, shares
