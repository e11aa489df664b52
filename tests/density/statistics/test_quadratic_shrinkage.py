"""Quadratic-inverse shrinkage beside its formula written term by term, its limits, and what it is for."""

import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError, fit_density, merge_densities
from rarity.density.estimators.cross_fit import CrossFit
from rarity.density.statistics.quadratic_shrinkage import quadratic_inverse
from rarity.density.statistics.sufficient_statistics import Statistics


def samples(count, width, seed, power=1.0):
    g = torch.Generator().manual_seed(seed)
    return 1 + torch.randn(count, width, generator=g) * torch.arange(1, width + 1) ** (-power / 2)


def embeddings(count, width, seed=0, power=1.0):
    return Embeddings(samples(count, width, seed, power), EmbeddingSpace("known", "0" * 16, width))


def literally(x):
    """Eigenvalues as Ledoit & Wolf (2022), section 4.5, give them, from the rows themselves, one sum after the other."""
    p, n = x.shape[1], len(x) - 1
    y = x.double() - x.double().mean(0)
    values = torch.linalg.eigvalsh(y.T @ y / n).clamp_min(0).tolist()
    inverse = [1 / value for value in values[max(0, p - n) :]]
    c, m = p / n, len(inverse)
    h = min(c**2, 1 / c**2) ** 0.35 / p**0.35
    found = []
    for own in inverse:
        theta = sum(other * (other - own) / ((other - own) ** 2 + (h * other) ** 2) for other in inverse) / m
        conjugate = sum(other * h * other / ((other - own) ** 2 + (h * other) ** 2) for other in inverse) / m
        amplitude = theta**2 + conjugate**2
        if p <= n:
            found.append(1 / ((1 - c) ** 2 * own + 2 * c * (1 - c) * own * theta + c**2 * own * amplitude))
        else:
            found.append(1 / (own * amplitude))
    if p > n:
        found += [1 / ((c - 1) * sum(inverse) / m)] * (p - n)
    scale = sum(values) / sum(found)
    return torch.tensor(sorted((scale * value for value in found), reverse=True), dtype=torch.float64)


@pytest.mark.parametrize("count, width", [(400, 12), (60, 40), (30, 40), (12, 40)])
def test_it_is_the_literal_formula(count, width):
    x = samples(count, width, 1)
    y = x.double() - x.double().mean(0)
    spectrum = torch.linalg.eigvalsh(y.T @ y / count).flip(0).clamp_min(0)
    ours = quadratic_inverse(spectrum, count, 1e-12)
    # The smallest of as many eigenvalues as samples is known to 1e-16 of the largest.
    assert torch.allclose(ours * count / (count - 1), literally(x), rtol=1e-7)
    assert float(ours.sum()) == pytest.approx(float(spectrum.sum())) and (ours.diff() <= 0).all() and (ours > 0).all()


def test_of_many_samples_the_spectrum_stays():
    spectrum = 1 / torch.arange(1, 9, dtype=torch.float64)
    for count, within in ((1000, 0.1), (1_000_000, 1e-3)):
        assert (quadratic_inverse(spectrum, count) / spectrum - 1).abs().max() < within


def test_directions_that_never_vary_keep_nothing():
    spectrum = torch.cat([1 / torch.arange(1, 9, dtype=torch.float64), torch.full((3,), 1e-16, dtype=torch.float64)])
    shrunk = quadratic_inverse(spectrum, 100, floor=1e-12)
    assert torch.equal(shrunk[8:], torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(shrunk[:8], quadratic_inverse(spectrum[:8], 100), rtol=1e-9)


@pytest.mark.parametrize("width", [768, 1280])
def test_it_predicts_unseen_samples_best(width):
    """300 samples, as a baseline of Stable Diffusion has: the held-out likelihood of every estimator that can learn from them."""
    for power in (0.5, 1.0, 1.5):
        cross = CrossFit(Statistics(width).update(samples(300, width, 3, power)))
        qis = float(cross.log_likelihoods("qis"))
        for other in ("ppca", "ledoit-wolf", "oas"):
            assert qis >= float(cross.log_likelihoods(other).max()) - 1e-3, (power, other)


@pytest.mark.parametrize("count, width", [(300, 24), (80, 64), (132, 128), (100, 64), (120, 300)])
def test_what_is_called_one_in_n_happens_so_often(count, width):
    """In the mean over 12 baselines: 12 times the held-out rows know a share of 1 in 10 to a tenth, of 1 in 50 to a fifth."""
    shares = {10: 0.0, 50: 0.0}
    fresh = samples(4000, width, 999)
    for seed in range(12):
        bits = fit_density(embeddings(count, width, seed), "qis").bits(fresh)
        for one_in in shares:
            shares[one_in] += float((bits >= math.log2(one_in)).double().mean()) / 12
    assert all(0.7 <= share * one_in <= 1.5 for one_in, share in shares.items()), shares


def test_shards_merge_and_choices_are_checked():
    both = embeddings(200, 12)
    parts = [fit_density(both.select(range(*ends)), "qis") for ends in ((0, 90), (90, 200))]
    merged, whole = merge_densities(parts), fit_density(both, "qis")
    assert merged.estimator == "qis" and torch.equal(merged.frame.variances, whole.frame.variances)
    assert torch.equal(merged.calibration.scores, whole.calibration.scores)
    assert "quadratic-inverse" in whole.describe(100)
    with pytest.raises(RarityError, match="Components are chosen for ppca, mixture"):
        fit_density(both, "qis", components=3)


def test_auto_may_choose_it():
    density = fit_density(embeddings(150, 200), "auto")
    assert density.estimator == "qis" and "Chosen: qis" in density.notes[-1]
