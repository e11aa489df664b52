"""Calibration beside its literal formulas, mpmath's digits, and what it must never do."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rarity.density import MAX_ONE_IN, Calibration, RarityError, bits_from_one_in, one_in_from_bits
from rarity.density.calibration.tail import tail_bits
from scipy import stats


def heavy(count, seed=0):
    """Squared Student-t radii in eight dimensions: a tail far heavier than chi-squared."""
    g = torch.Generator().manual_seed(seed)
    scale = torch.rand(count, generator=g, dtype=torch.float64).clamp_min(1e-6) ** -0.3
    return scale * torch.randn(count, 8, generator=g, dtype=torch.float64).square().sum(1)


def reference_nats(calibration, score):
    """t(s) as the formula has it: a normal of the cube root, through the median and the 90th percentile."""
    middle, high = (np.quantile(calibration.scores.numpy(), q, method="inverted_cdf") for q in (0.5, 0.9))
    b = (high ** (1 / 3) - middle ** (1 / 3)) / stats.norm.ppf(0.9)
    return -stats.norm.logsf(score ** (1 / 3), middle ** (1 / 3), b)


@pytest.fixture(scope="module")
def calibration():
    return Calibration.fit(heavy(2000), seed=1)


def test_the_body_is_the_literal_formula(calibration):
    scores = calibration.scores.tolist()
    for s in [0.0, *scores[:1800:117], 5.0]:
        if s <= calibration.threshold:
            p = (1 + sum(1 for other in scores if other >= s)) / (len(scores) + 1)
            assert float(calibration.bits(torch.tensor(s, dtype=torch.float64))) == pytest.approx(
                -math.log2(p), abs=1e-12
            )


@pytest.mark.parametrize("shape", [0.0, 1e-7, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("excess", [1e-6, 1.0, 40.0, 1e5])
def test_the_tail_keeps_its_digits(shape, excess):
    """-log2 [p_u (1 + xi y / beta)^(-1/xi)] with 60 digits; the exponential where xi is 0."""
    with mpmath.workdps(60):
        y = mpmath.mpf(excess) / 3
        log_p = -y if shape == 0 else -mpmath.log1p(mpmath.mpf(shape) * y) / mpmath.mpf(shape)
        exact = float(-(mpmath.log(mpmath.mpf("0.1")) + log_p) / mpmath.log(2))
    ours = float(tail_bits(torch.tensor(excess, dtype=torch.float64), 0.1, shape, 3.0))
    assert ours == pytest.approx(exact, rel=1e-6 if shape == 0 else 1e-12)


def test_the_tail_is_fitted_to_the_best_posterior(calibration):
    """No nearby (xi, log beta) has a higher posterior, written with scipy's density."""
    excesses = reference_nats(calibration, calibration.scores[calibration.scores > calibration.threshold].numpy())
    excesses = excesses - reference_nats(calibration, calibration.threshold)

    def posterior(shape, scale):
        return stats.genpareto.logpdf(excesses, shape, scale=scale).sum() + stats.norm.logpdf(shape, 0, 0.2)

    best = posterior(calibration.shape, calibration.scale)
    for step in (1e-3, 1e-2, 0.05):
        for side in (-1, 1):
            if calibration.shape + side * step >= 0:
                assert posterior(calibration.shape + side * step, calibration.scale) <= best + 1e-6
            assert posterior(calibration.shape, calibration.scale * math.exp(side * step)) <= best + 1e-6


def test_bits_are_continuous_and_never_decrease(calibration):
    s = torch.linspace(0, 50 * calibration.threshold, 20_001, dtype=torch.float64)
    bits = calibration.bits(s)
    assert (bits.diff() >= 0).all() and torch.isfinite(bits).all()
    u = torch.tensor(calibration.threshold, dtype=torch.float64)
    assert float(calibration.bits(u * (1 + 1e-12)) - calibration.bits(u)) == pytest.approx(0, abs=1e-9)


@given(bits=st.floats(0.01, 30))
@settings(max_examples=200, deadline=None)
def test_score_at_is_the_inverse(bits):
    calibration = test_score_at_is_the_inverse.calibration
    found = float(calibration.bits(torch.tensor(calibration.score_at(bits), dtype=torch.float64)))
    if bits > -math.log2(calibration.tail_probability):
        assert found == pytest.approx(bits, abs=1e-6)
    else:  # the body is a staircase: at least as rare, within one step
        assert found >= min(bits, float(calibration.bits(calibration.scores[-1]))) - 1e-9
        assert 2**-bits - 2**-found <= 2.5 / (len(calibration.scores) + 1)


test_score_at_is_the_inverse.calibration = Calibration.fit(heavy(2000), seed=1)


def test_the_tail_of_fresh_samples_is_as_said():
    calibration, fresh = Calibration.fit(heavy(20_000, 1)), heavy(400_000, 2)
    for bits in (2, 4, 6, 8, 10):
        share = float((fresh >= calibration.score_at(bits)).double().mean())
        assert -math.log2(share) == pytest.approx(bits, abs=0.5), bits


@pytest.mark.parametrize("width", [8, 64, 768])
def test_gaussian_samples_need_no_tail_of_their_own(width):
    """D2 of Gaussian samples is chi-squared: the share beyond what is called 1 in 1,000 and 1 in 10,000 is that.

    The tail has 500 excesses: the figure is known to about 12 % and 25 % of itself.
    """
    for seed in (0, 1):
        scores = np.random.default_rng(seed).chisquare(width, 20_000)
        calibration = Calibration.fit(torch.from_numpy(scores))
        assert calibration.shape < 0.12
        for one_in, low, high in ((100, 0.85, 1.15), (1000, 0.65, 1.4), (10_000, 0.35, 1.9)):
            share = stats.chi2.sf(calibration.score_at(math.log2(one_in)), width)
            assert low < share * one_in < high, (one_in, share)


def test_what_the_samples_show_themselves_is_not_modelled():
    """One sample in twenty far outside all others: no tail above the 90th percentile fits; the samples still count."""
    rng = np.random.default_rng(0)

    def scores(count):
        return rng.chisquare(768, count) * np.where(rng.random(count) < 0.05, 1.5, 1.0)

    calibration, fresh = Calibration.fit(torch.from_numpy(scores(50_000))), scores(400_000)
    assert int((calibration.scores > calibration.threshold).sum()) == 500
    for one_in in (30, 100, 1000):
        share = (fresh >= calibration.score_at(math.log2(one_in))).mean()
        assert 0.7 < share * one_in < 1.5, (one_in, share)


@pytest.mark.parametrize("bits", [3.33, 5.0, 10.0, 30.0, 1000.0])
def test_the_reference_is_inverted_however_far_out(bits):
    """Also where the probability itself is far below the smallest float."""
    wide = torch.from_numpy(np.random.default_rng(0).chisquare(768, 2000))
    for scores in (heavy(2000), wide, torch.ones(100).cumsum(0)):
        calibration = Calibration.fit(scores)
        found = calibration.bits(torch.tensor(calibration.score_at(bits), dtype=torch.float64))
        assert float(found) == pytest.approx(bits, rel=1e-9)


def test_scores_of_zero_are_scores():
    """Six of ten scores are 0, as distances of copies are."""
    scores = heavy(1000) * (torch.arange(1000) % 10 > 5)
    calibration = Calibration.fit(scores)
    bits = calibration.bits(torch.linspace(0, 100, 500, dtype=torch.float64))
    assert torch.isfinite(bits).all() and (bits.diff() >= 0).all() and float(bits[0]) == 0


def test_what_is_no_number_has_no_rarity(calibration):
    """A score that is NaN was read as rarer than every sample."""
    scores = torch.tensor([1.0, math.nan, 1e4])
    bits, (low, high) = calibration.bits(scores), calibration.interval(scores)
    assert bits.isnan().tolist() == low.isnan().tolist() == high.isnan().tolist() == [False, True, False]
    assert torch.equal(bits[[0, 2]], calibration.bits(scores[[0, 2]]))
    assert float(calibration.bits(torch.tensor(math.inf))) == math.inf


@pytest.mark.parametrize("bits", [0.1, 0.5, 1.0, 2.0, 3.0])
def test_a_score_among_equal_ones_is_at_least_as_rare_as_asked(bits):
    """Scores of half precision, and of few kinds, are often equal."""
    for scores in (heavy(2000).round(), heavy(2000).round(decimals=-1)):
        calibration = Calibration.fit(scores + torch.linspace(0, 1e-3, 2000) * (scores > scores.quantile(0.9)))
        found = calibration.score_at(bits)
        assert float(calibration.bits(torch.tensor(found, dtype=torch.float64))) >= bits - 1e-9  # the tail is inverted by a formula
        lower = calibration.scores[calibration.scores < found]
        assert len(lower) == 0 or float(calibration.bits(lower[-1])) < bits, "the smallest such score"


def test_a_light_tail_never_ends():
    """Uniform scores have an end point; a negative shape would put infinite bits there."""
    scores = torch.rand(5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    calibration = Calibration.fit(scores)
    assert calibration.shape == 0 and 10 < float(calibration.bits(torch.tensor(1.5))) < 60


def test_the_interval_holds_the_estimate_and_widens_outwards(calibration):
    bits = torch.tensor([1.0, 3.0, 6.0, 10.0, 13.0], dtype=torch.float64)
    scores = torch.tensor([calibration.score_at(float(b)) for b in bits], dtype=torch.float64)
    low, high = calibration.interval(scores)
    estimate = calibration.bits(scores)
    assert (low <= estimate).all() and (estimate <= high).all() and ((high - low).diff() > 0).all()


def test_the_interval_covers_the_truth_about_nine_times_in_ten():
    """The true bits of one score, over calibrations from 60 other sets of samples."""
    truth = heavy(2_000_000, 999)
    hits = {"body": 0, "tail": 0}
    for name, score in (("body", truth.median()), ("tail", torch.quantile(truth[:1_000_000], 0.99))):
        true_bits = -math.log2(float((truth >= score).double().mean()))
        for seed in range(60):
            low, high = Calibration.fit(heavy(1000, seed), seed).interval(score)
            hits[name] += bool(low <= true_bits <= high)
    assert hits["body"] >= 48 and hits["tail"] >= 45, hits


def test_scale_does_not_matter():
    scores = heavy(1000)
    one, million = Calibration.fit(scores), Calibration.fit(scores * 1e6)
    s = torch.linspace(0, 200, 50, dtype=torch.float64)
    assert torch.allclose(one.bits(s), million.bits(s * 1e6), atol=1e-6)


def test_what_is_past_the_samples_is_extrapolated(calibration):
    assert not calibration.extrapolated(math.log2(2001)) and calibration.extrapolated(math.log2(2002))


def test_the_same_seed_is_the_same_calibration():
    one, two = (Calibration.fit(heavy(500), seed=4).state() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    "scores, message",
    [
        (torch.rand(49), "at least 50 held-out scores, got 49"),
        (torch.full((100,), float("nan")), "finite"),
        (torch.ones(100), "no tail"),
        (torch.linspace(-3, 1, 100), "0 or more"),
    ],
)
def test_unusable_scores_are_refused(scores, message):
    with pytest.raises(RarityError, match=message):
        Calibration.fit(scores)


def test_one_in_n_and_bits_are_inverses():
    assert bits_from_one_in(1024) == 10 and one_in_from_bits(10) == 1024 and one_in_from_bits(5000) == math.inf
    assert bits_from_one_in(MAX_ONE_IN) == pytest.approx(23.25, abs=0.01)


@pytest.mark.parametrize("one_in", [1, 0, -5, MAX_ONE_IN + 1, math.nan, math.inf, "1000", None, True])
def test_targets_out_of_range_are_refused(one_in):
    with pytest.raises(RarityError, match="from 2 to 10,000,000"):
        bits_from_one_in(one_in)


@pytest.mark.parametrize("one_in, advice", [
    (0, "choose a larger N"), (1.9, "choose a larger N"), (-5, "choose a larger N"), (-math.inf, "choose a larger N"),
    (2 * MAX_ONE_IN, "choose a smaller N"), (math.inf, "choose a smaller N"), ("a lot", "Give a number"), (math.nan, "Give a number"),
])
def test_the_advice_fits_what_was_asked_for(one_in, advice):
    with pytest.raises(RarityError, match=advice):
        bits_from_one_in(one_in)


@pytest.mark.parametrize("bits", [-1.0, math.inf, math.nan])
def test_bits_out_of_range_are_refused(calibration, bits):
    with pytest.raises(RarityError):
        calibration.score_at(bits)
