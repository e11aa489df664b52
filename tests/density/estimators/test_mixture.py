"""The mixture beside scikit-learn, literal formulas and the Gaussian, and whether it finds what is there."""

import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity, MixtureDensity, RarityError
from rarity.density.estimators import mixture_choice
from rarity.density.estimators.cross_fit import CrossFit
from rarity.density.estimators.mixture_choice import learn_mixture
from rarity.density.estimators.modes import COARSE, GUESSES, NARROWEST, TOLERANCE, Modes, learn_modes
from rarity.density.statistics.sufficient_statistics import Statistics
from sklearn.mixture import GaussianMixture
from torch.distributions import MultivariateNormal


def draw_two(count, seed=0):
    """Two kinds, 70 % and 30 %, eight spreads apart in the first direction; the other five are noise."""
    g = torch.Generator().manual_seed(seed)
    second = torch.rand(count, generator=g) < 0.3
    x = torch.randn(count, 6, generator=g) * torch.tensor([0.5, 0.8, 0.6, 0.3, 0.3, 0.3])
    x[:, 0] += torch.where(second, 2.8, -1.2)
    return Embeddings(x + 2, EmbeddingSpace("two", "f", 6), source={"prompt": "two"}), second


@pytest.fixture(scope="module")
def two():
    return draw_two(3000, 1)[0]


@pytest.fixture(scope="module")
def found(two):
    return MixtureDensity.fit(two, components=3, seed=1)


@pytest.fixture(scope="module")
def several(baseline):
    return MixtureDensity.fit(baseline, components=9, modes=4, seed=3)


def literal_log_prob(density, x):
    """log sum_j pi_j N(x | m_j, S_j) with whole d x d covariances."""
    root = density.frame.basis * density.frame.variances.sqrt()
    d, m = len(density.frame.mean), density.modes.means.shape[1]
    off = density.frame.residual_variance * (torch.eye(d, dtype=torch.float64) - density.frame.basis @ density.frame.basis.T)
    values = []
    for weight, mu, factor in zip(density.modes.weights, density.modes.means, density.modes.factors, strict=True):
        inside = torch.eye(density.frame.components, dtype=torch.float64)
        inside[:m, :m] = torch.linalg.inv(factor @ factor.T)
        cov = root @ inside @ root.T + off
        mean = density.frame.mean + root[:, :m] @ mu
        values.append(weight.log() + MultivariateNormal(mean, (cov + cov.T) / 2).log_prob(x.double()))
    return torch.stack(values).logsumexp(dim=0)


def test_log_prob_equals_the_full_covariance_formula(several, mixture):
    x = mixture(50, 7).vectors
    assert torch.allclose(several.log_prob(x), literal_log_prob(several, x), rtol=1e-9)


def test_log_prob_equals_scikit_learn_plus_the_log_volume(several, mixture):
    """Learnt on the rows as they are kept, scores of other rows: scikit-learn's own best, and what is not mixed."""
    w, _ = several.frame.whiten(several.statistics.rows)
    m = several.modes.means.shape[1]
    settings = {"tol": TOLERANCE, "reg_covar": NARROWEST}
    found = [GaussianMixture(4, random_state=3 + i, **settings).fit(w[:, :m].numpy()) for i in range(GUESSES)]
    theirs = max(found, key=lambda model: model.lower_bound_)
    x = mixture(200, 8).vectors
    w, r = several.frame.whiten(x)
    sigma2 = several.frame.residual_variance
    residual = -0.5 * (7 * math.log(2 * math.pi * sigma2) + r.square().sum(1) / sigma2)
    residual = residual - 0.5 * ((9 - m) * math.log(2 * math.pi) + w[:, m:].square().sum(1))
    mixed = torch.from_numpy(theirs.score_samples(w[:, :m].numpy()))
    expected = mixed - 0.5 * several.frame.variances.log().sum() + residual
    assert (several.log_prob(x) - expected).abs().max() < 1e-9


def test_the_gradient_equals_finite_differences(several, mixture):
    x = mixture(6, 4).vectors.double().requires_grad_(True)
    assert torch.autograd.gradcheck(several.log_prob, (x,), eps=1e-6, atol=1e-5)


def test_one_mode_is_the_gaussian(baseline, density, mixture):
    one = MixtureDensity.fit(baseline, components=9, modes=1, seed=3)
    x = mixture(200, 5).vectors
    assert torch.allclose(one.score(x), density.score(x), rtol=1e-12)
    assert torch.allclose(one.log_prob(x), density.log_prob(x), rtol=1e-12)
    # Its calibration is that of held-out densities, the Gaussian's that of held-out distances: folds differ in volume.
    assert (one.bits(x) - density.bits(x)).abs().max() < 0.2


def test_dimensions_beyond_the_mixed_ones_stay_gaussian():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(700, 44, generator=g) * torch.logspace(0.5, -0.5, 44)
    embeddings = Embeddings(x, EmbeddingSpace("e", "f", 44))
    density = MixtureDensity.fit(embeddings, components=40, modes=2)
    assert density.modes.means.shape == (2, 8)
    assert torch.allclose(density.log_prob(x[:20]), literal_log_prob(density, x[:20]), rtol=1e-9)


def test_the_held_out_likelihood_is_that_of_fits_that_did_not_see_the_row(two):
    """The naive way: a mixture of the four other folds for each fold, as scikit-learn scores it."""
    statistics, total = Statistics(6).update(two.vectors), 0.0
    _, held_out = learn_mixture(CrossFit(statistics), 3, 2, 1)
    for f in range(5):
        mine = statistics.row_folds == f
        rest, own = statistics.rows[~mine].double(), statistics.rows[mine].double()
        values, axes = torch.linalg.eigh(torch.cov(rest.T, correction=0))
        values, axes, sigma2 = values.flip(0), axes.flip(1), float(values[:3].mean())

        def whiten(x, mean=rest.mean(0), scale=values[:3].sqrt(), axes=axes):
            return (x - mean) @ axes[:, :3] / scale

        mixed = GaussianMixture(2, reg_covar=NARROWEST, n_init=5, random_state=1).fit(whiten(rest).numpy())
        inside = torch.from_numpy(mixed.score_samples(whiten(own).numpy())) - 0.5 * values[:3].log().sum()
        q = ((own - rest.mean(0)) @ axes[:, 3:]).square().sum(1)
        total += float((inside - 0.5 * (3 * math.log(2 * math.pi * sigma2) + q / sigma2)).sum())
    # EM ends within a hundredth of a nat, over six dimensions.
    assert held_out == pytest.approx(total / 3000 / 6, abs=TOLERANCE / 6)


def test_the_held_out_likelihood_is_that_of_fresh_samples(found):
    _, held_out = learn_mixture(CrossFit(found.statistics), 0, 0, 0)
    fresh = draw_two(20_000, 5)[0].vectors
    assert held_out == pytest.approx(float(found.log_prob(fresh).mean()) / 6, abs=0.02)


def test_modes_of_few_samples_are_said_or_not_chosen(two):
    """One far outlier makes a mode of its own likelier to be learnt; it is a sample, no kind."""
    lonely = Embeddings(torch.cat([two.vectors[:300], torch.full((1, 6), 40.0)]), two.space)
    density = MixtureDensity.fit(lonely, components=3, modes=3)
    assert float(density.modes.weights.min()) * 301 < 3
    assert any("hold no more samples than the 3 directions" in note for note in density.notes)
    chosen = MixtureDensity.fit(two.select(range(300)), components=3)
    assert chosen.notes == () and float(chosen.modes.weights.min()) * 300 > 3


def test_two_kinds_are_found(found):
    assert len(found.modes.weights) == 2
    order = found.modes.weights.argsort(descending=True)
    assert found.modes.weights[order].tolist() == pytest.approx([0.7, 0.3], abs=0.03)
    w = torch.zeros(2, 3, dtype=torch.float64) + found.modes.means[order]
    centres = found.frame.unwhiten(w, torch.zeros(2, 6))
    assert centres[:, 0].tolist() == pytest.approx([0.8, 4.8], abs=0.1)
    assert (centres[:, 1:] - 2).abs().max() < 0.15


def test_what_lies_between_two_kinds_is_rare_for_the_mixture_only(found, two):
    gaussian = GaussianDensity.fit(two, components=3, seed=1)
    between = torch.full((1, 6), 2.0)
    between[0, 0] = 2.8
    assert found.bits(between) > 5 > 1 > gaussian.bits(between)


def test_few_samples_are_enough_for_kinds_in_the_leading_directions():
    """Four kinds in 40 dimensions from 1,000 samples: whole covariances of 32 dimensions could not be learnt."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 40, generator=g) * torch.logspace(0, -1, 40)
    x[:, :2] += 6 * torch.randint(2, (2000, 2), generator=g)
    seen, fresh = Embeddings(x[:1000], EmbeddingSpace("e", "f", 40)), x[1000:]
    density, gaussian = (kind.fit(seen, components=35) for kind in (MixtureDensity, GaussianDensity))
    assert len(density.modes.weights) >= 4 and density.modes.means.shape[1] == 8
    assert density.log_prob(fresh).mean() > gaussian.log_prob(fresh).mean() + 0.5


def test_a_gaussian_gets_one_mode(gaussian):
    one = MixtureDensity.fit(gaussian(1500, 3), components=6)
    assert len(one.modes.weights) == 1 and "They are one kind." in one.describe()


def test_fresh_samples_are_as_rare_as_said(found):
    bits = found.bits(draw_two(20_000, 2)[0].vectors)
    for wanted in (1.0, 3.0, 5.0, 7.0):
        assert -math.log2(float((bits >= wanted).double().mean())) == pytest.approx(wanted, abs=0.35)


def test_held_out_samples_are_likelier_than_under_one_gaussian(several, density, mixture):
    x = mixture(2000, 11).vectors
    assert several.log_prob(x).mean() > density.log_prob(x).mean() + 0.1


def test_samples_have_the_moments_of_the_mixture(found, two):
    draws = found.sample(20_000, seed=1).vectors
    assert torch.equal(draws, found.sample(20_000, seed=1).vectors)
    assert torch.allclose(draws.mean(0), two.vectors.mean(0), atol=0.06)
    assert torch.allclose(torch.cov(draws.T), torch.cov(two.vectors.T), atol=0.12)
    assert float((draws[:, 0] > 2.8).double().mean()) == pytest.approx(0.3, abs=0.02)


def test_the_description_names_the_kinds(found):
    text = found.describe(1000)
    assert "They fall into kinds that make up " in text and "1 in 1,000 is 10.0 bits" in text
    assert "times as far out" not in text and "extrapolated: learn from at least 10,000" in found.describe(10_000)


def test_damaged_modes_are_refused(found):
    fields, tensors = found.state()
    lower = tensors["mode_factors"].transpose(1, 2)
    for name, wrong in (
        ("mode_weights", torch.tensor([0.7, 0.4], dtype=torch.float64)),
        ("mode_weights", torch.tensor([1.1, -0.1], dtype=torch.float64)),
        ("mode_means", tensors["mode_means"][:, :2]),
        ("mode_factors", -tensors["mode_factors"]),
        ("mode_factors", lower + lower.tril(-1) + 1e-3),
    ):
        with pytest.raises(RarityError, match="modes of the mixture in this file are damaged"):
            MixtureDensity.from_state(fields, {**tensors, name: wrong})
    with pytest.raises(RarityError, match="damaged"):
        MixtureDensity.from_state({**fields, "estimator": "ppca"}, tensors)


def test_too_many_modes_are_refused():
    few = Embeddings(draw_two(60)[0].vectors, EmbeddingSpace("two", "f", 6))
    with pytest.raises(RarityError, match="Choose 1 to 24 modes for 60 samples"):
        MixtureDensity.fit(few, components=2, modes=25)
    assert MixtureDensity.fit(few, components=2).count == 60


def test_many_rows_settle_from_a_guess_on_few():
    """From the start on COARSE rows to where all rows lead: as likely as learning on all from the start."""
    w = draw_two(COARSE + 2000, 4)[0].vectors.double()
    guessed, settled = learn_modes(w, 2, 0)
    theirs = GaussianMixture(2, reg_covar=NARROWEST, random_state=0).fit(w.numpy())
    likelihood = guessed.log_peak - 0.5 * float(guessed.depth(w).mean()) - 3 * math.log(2 * math.pi)
    assert settled and likelihood == pytest.approx(theirs.score(w.numpy()), abs=TOLERANCE)


def test_shares_and_the_modes_of_shares_are_scikit_learn_s_two_steps():
    w = draw_two(500, 4)[0].vectors.double()
    learnt, _ = learn_modes(w, 3, 0)
    theirs = GaussianMixture(3, max_iter=1, reg_covar=NARROWEST)
    theirs.weights_, theirs.means_, theirs.precisions_cholesky_ = (
        value.numpy() for value in (learnt.weights, learnt.means, learnt.factors)
    )
    shares = learnt.shares(w)
    assert torch.allclose(shares, torch.from_numpy(theirs.predict_proba(w.numpy())), atol=1e-12)
    theirs._m_step(w.numpy(), shares.log().numpy())
    again = Modes.of_shares(w, shares)
    # Every row belongs to every mode by a billionth more here.
    for ours, name in zip((again.weights, again.means, again.factors), ("weights_", "means_", "precisions_cholesky_")):
        assert torch.allclose(ours, torch.from_numpy(getattr(theirs, name)), rtol=1e-5, atol=1e-6), name


def test_a_mode_that_none_of_the_rows_belongs_to_is_spread_over_all():
    w = draw_two(200, 4)[0].vectors.double()
    shares = torch.stack([torch.ones(200), torch.zeros(200)], dim=1).double()
    modes = Modes.of_shares(w, shares)
    assert modes.weights[1] < 1e-8 and torch.allclose(modes.means[1], w.mean(0)) and torch.isfinite(modes.factors).all()
    assert modes.thin(200) == 1


def test_choosing_modes_can_be_cancelled_between_sizes(space):
    """It takes most of the time; how many sizes are tried is not known beforehand, but every one is told of."""
    rows = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    told, tried, gain = [], [], mixture_choice._held_out_gains
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture_choice, "_held_out_gains", lambda *given: (tried.append(told[-1]), gain(*given))[1])
        MixtureDensity.fit(Embeddings(rows, space), progress=lambda done, total: told.append(done))
    assert told == sorted(told) and told.count(tried[0]) > 2, "and while one is tried"
    assert len(tried) >= 3 and tried == list(range(tried[0], tried[0] + len(tried))), "one is told of before the next begins"
