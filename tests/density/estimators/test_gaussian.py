"""The density beside slow literal formulas, scikit-learn in float64, and its limits."""

import logging
import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity, RarityError
from scipy.stats import chi2
from sklearn.decomposition import PCA


def literal_log_prob(density, x):
    """log N(x | mean, C) with the full covariance C = U diag(lambda) U' + sigma2 (1 - U U'), one row at a time."""
    d = len(density.frame.mean)
    inside = density.frame.basis @ density.frame.basis.T
    cov = density.frame.basis @ density.frame.variances.diag() @ density.frame.basis.T
    cov = cov + density.frame.residual_variance * (torch.eye(d, dtype=torch.float64) - inside)
    values = []
    for row in x.double():
        y = row - density.frame.mean
        d2 = y @ torch.linalg.inv(cov) @ y
        values.append(-0.5 * (d * math.log(2 * math.pi) + torch.logdet(cov) + d2))
    return torch.stack(values)


def test_log_prob_equals_the_full_covariance_formula(density, mixture):
    x = mixture(50, 7).vectors
    assert torch.allclose(density.log_prob(x), literal_log_prob(density, x), rtol=1e-9)


def test_log_prob_equals_scikit_learn(density, baseline, mixture):
    """sklearn's PCA.score_samples is the same model, but for its covariance's n - 1."""
    n = len(baseline)
    pca = PCA(n_components=9, svd_solver="full").fit(baseline.vectors.double().numpy())
    pca.explained_variance_ *= (n - 1) / n
    pca.noise_variance_ *= (n - 1) / n
    x = mixture(200, 8).vectors.double()
    ours = density.log_prob(x).numpy()
    assert abs(ours - pca.score_samples(x.numpy())).max() < 1e-4 * abs(ours).max()


def test_the_parts_of_the_score_add_up(density, mixture):
    x = mixture(40, 9).vectors.double()
    y = x - density.frame.mean
    z = y @ density.frame.basis
    t2 = torch.stack([sum(z[i, j] ** 2 / density.frame.variances[j] for j in range(9)) for i in range(len(x))])
    q = torch.stack([(y[i] - density.frame.basis @ z[i]).square().sum() for i in range(len(x))])
    assert torch.allclose(density.frame.t2(x), t2) and torch.allclose(density.frame.residual(x), q)
    assert torch.allclose(density.score(x), t2 + q / density.frame.residual_variance)


def test_moving_off_the_subspace_is_seen(density, mixture):
    x = mixture(20, 9).vectors.double()
    _, r = density.frame.whiten(x)
    away = x + 10 * r
    assert torch.allclose(density.frame.t2(away), density.frame.t2(x)) and (density.score(away) > density.score(x)).all()


def test_whitening_round_trips_and_whitens(density, baseline):
    w, r = density.frame.whiten(baseline.vectors)
    assert torch.allclose(density.frame.unwhiten(w, r), baseline.vectors.double(), atol=1e-12)
    assert (r @ density.frame.basis).abs().max() < 1e-10
    assert torch.allclose(torch.cov(w.T, correction=0), torch.eye(9, dtype=torch.float64), atol=1e-4)


def test_the_gradient_is_the_textbook_one(density, mixture):
    x = mixture(5, 4).vectors.double().requires_grad_(True)
    (-density.log_prob(x)).sum().backward()
    z, r = (x.detach() - density.frame.mean) @ density.frame.basis, density.frame.whiten(x.detach())[1]
    assert torch.allclose(x.grad, (z / density.frame.variances) @ density.frame.basis.T + r / density.frame.residual_variance)


def test_components_are_those_of_the_best_held_out_likelihood():
    """Seven strong directions over isotropic noise: the held-out samples ask for seven."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 20, generator=g) * torch.tensor([5.0, 4, 4, 3, 3, 2, 2] + [0.5] * 13)
    density = GaussianDensity.fit(Embeddings(x, EmbeddingSpace("e", "f", 20)), seed=1)
    assert density.frame.components == 7
    assert density.frame.residual_variance == pytest.approx(0.25, rel=0.02)


def test_every_number_of_components_is_scored_as_its_own_fit_would(baseline):
    """The one-pass likelihoods of all k equal fitting each k and averaging its held-out log-likelihood."""
    from rarity.density.calibration.held_out import log_likelihoods
    from rarity.density.statistics.eigen import principal_axes
    from rarity.density.statistics.moments import Moments

    seen, held_out = baseline.vectors[:1000], baseline.vectors[1000:]
    moments = Moments(16).update(seen)
    values, axes = principal_axes(moments)
    spread = ((held_out.double() - moments.mean) @ axes).square().mean(dim=0)
    fast = log_likelihoods(values, spread, 15)
    for k in (1, 4, 15):
        y = held_out.double() - moments.mean
        z = y @ axes[:, :k]
        sigma2 = values[k:].mean()
        d2 = (z**2 / values[:k]).sum(1) + (y - z @ axes[:, :k].T).square().sum(1) / sigma2
        slow = -0.5 * (16 * math.log(2 * math.pi) + values[:k].log().sum() + (16 - k) * sigma2.log() + d2).mean() / 16
        assert fast[k - 1] == pytest.approx(float(slow), rel=1e-9)


def test_bits_of_gaussian_samples_follow_chi_squared(gaussian):
    density = GaussianDensity.fit(gaussian(20_000, 1), components=8)
    x = gaussian(5000, 2).vectors
    theory = torch.tensor(-chi2.logsf(density.score(x).numpy(), 16) / math.log(2))
    # PPCA averages the eight small variances, so only the order of magnitude of the tail is chi-squared's.
    assert (density.bits(x) - theory)[theory < 6].abs().mean() < 0.6
    for bits in (1.0, 3.0, 6.0):
        assert float((density.bits(x) >= bits).double().mean()) == pytest.approx(2**-bits, rel=0.25)


def test_fresh_samples_of_a_heavy_tailed_mixture_are_as_rare_as_said(mixture):
    density = GaussianDensity.fit(mixture(5000, 1))
    bits = density.bits(mixture(20_000, 2).vectors)
    for wanted in (1.0, 3.0, 5.0, 7.0):
        assert -math.log2(float((bits >= wanted).double().mean())) == pytest.approx(wanted, abs=0.5)


def test_the_same_seed_is_the_same_density(baseline):
    one, two = (GaussianDensity.fit(baseline, seed=5) for _ in range(2))
    for name, tensor in one.state()[1].items():
        assert torch.equal(tensor, two.state()[1][name]), name


def test_fitting_under_inference_mode_gives_ordinary_tensors(baseline):
    with torch.inference_mode():
        density = GaussianDensity.fit(baseline)
    assert not any(tensor.is_inference() for tensor in density.state()[1].values())


def test_samples_of_the_density_have_its_covariance(density):
    draws = density.sample(20_000, seed=1)
    assert torch.equal(draws.vectors, density.sample(20_000, seed=1).vectors)
    w, r = density.frame.whiten(draws.vectors)
    assert torch.allclose(torch.cov(w.T), torch.eye(9, dtype=torch.float64), atol=0.06)
    assert float(r.square().sum(1).mean()) == pytest.approx(7 * density.frame.residual_variance, rel=0.05)


def test_the_limits_of_two_dimensions_and_of_all_but_one_component():
    g = torch.Generator().manual_seed(0)
    flat = GaussianDensity.fit(Embeddings(torch.randn(200, 2, generator=g), EmbeddingSpace("e", "f", 2)))
    assert flat.frame.components == 1
    x = torch.randn(400, 6, generator=g, dtype=torch.float64)
    full = GaussianDensity.fit(Embeddings(x, EmbeddingSpace("e", "f", 6)), components=5)
    cov = torch.cov(x.float().double().T, correction=0)
    y = x.float().double() - full.frame.mean
    assert torch.allclose(full.score(x.float()), (y @ torch.linalg.inv(cov) * y).sum(1), rtol=1e-4)


def test_too_few_samples_say_how_many_are_needed(gaussian):
    with pytest.raises(RarityError, match="at least 50 different ones are needed, got 30"):
        GaussianDensity.fit(gaussian(30))
    wide = Embeddings(torch.randn(60, 200), EmbeddingSpace("e", "f", 200))
    with pytest.raises(RarityError, match="with 100 components: at least 211 .* got 60"):
        GaussianDensity.fit(wide, components=100)
    with pytest.raises(RarityError, match="1 to 15 components"):
        GaussianDensity.fit(gaussian(500), components=16)


def test_samples_that_do_not_vary_are_refused(space):
    constant = torch.ones(200, 16) + 1e-9
    with pytest.raises(RarityError, match="at least 50 different ones"):  # all repeats of one
        GaussianDensity.fit(Embeddings(constant, space))
    line = torch.ones(200, 16)
    line[:, 0] = torch.arange(200.0)
    with pytest.raises(RarityError, match="hardly vary"):
        GaussianDensity.fit(Embeddings(line, space))
    plane = torch.cat([torch.randn(200, 3), torch.zeros(200, 13)], dim=1)
    with pytest.raises(RarityError, match="vary in 3 directions only: choose at most 2"):
        GaussianDensity.fit(Embeddings(plane, space), components=5)


def test_repeats_are_dropped_and_noted(baseline, caplog):
    doubled = Embeddings.cat([baseline, baseline.select(range(100))])
    with caplog.at_level(logging.WARNING):
        density = GaussianDensity.fit(doubled)
    assert density.count == 2000 and any("100 of 2,100 samples were repeats" in note for note in density.notes)
    assert "were repeats" in caplog.text


def test_few_samples_for_the_components_are_noted(gaussian):
    assert any("100 or more are better" in note for note in GaussianDensity.fit(gaussian(80), components=10).notes)


def test_cancelling_a_fit_raises_what_progress_raised(baseline):
    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GaussianDensity.fit(baseline, progress=cancel)


def test_the_description_is_in_plain_words(density):
    text = density.describe(1000)
    assert 'of "a test"' in text and "1 in 1,000 is 10.0 bits" in text and "between 1 in" in text
    assert "That is extrapolated: learn from at least 10,000 samples" in density.describe(10_000)
    assert "20,000 samples are kept one by one, so that beyond 1 in 20,000 every figure is." in density.describe(100_000)
    for wrong in (0, -1, 100.5, math.nan):
        with pytest.raises(RarityError, match="above 0 and at most 100"):
            density.frame.residual_limit(wrong)
    with pytest.raises(RarityError):
        density.describe(100_000_000)


def test_rows_of_another_shape_are_refused(density):
    with pytest.raises(RarityError, match=r"Expected embeddings of shape \[N, 16\], got \(4, 15\)"):
        density.score(torch.zeros(4, 15))
