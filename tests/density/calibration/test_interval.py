"""The interval of a rarity holds the truth about nine times in ten, whatever was learnt from what."""

import math

import pytest
import torch
from rarity.density import Calibration, Embeddings, EmbeddingSpace, fit_density
from rarity.density.calibration.held_out import extrapolate, independent

DRAWS, LEVELS = 300, (2, 10, 100, 1000)


def normal(count, width, seed):
    g = torch.Generator().manual_seed(seed)
    return 1 + torch.randn(count, width, generator=g) * torch.arange(1, width + 1).rsqrt()


def student(count, width, seed):
    """Multivariate t of 5 degrees of freedom."""
    g = torch.Generator().manual_seed(seed)
    chi2 = torch.randn(count, 5, generator=g).square().sum(1, keepdim=True)
    return 1 + torch.randn(count, width, generator=g) / (chi2 / 5).sqrt()


@pytest.mark.parametrize(
    "draw, width, count, estimator",
    [
        (normal, 8, 300, "full"),
        (normal, 8, 800, "ppca"),
        (normal, 24, 160, "ppca"),
        (normal, 32, 60, "ledoit-wolf"),
        (student, 8, 500, "ppca"),
    ],
)
def test_it_covers_what_fresh_samples_do(draw, width, count, estimator):
    """Of 300 densities learnt from other samples. The truth of each is the share of 20,000 fresh samples beyond the score that
    it calls 1 in N: known to a fifth of itself for 1 in 1,000, a third of a bit where intervals are three bits wide.

    300 draws know a share to two percentage points: 85 to 95 % are asked for over all levels, four points more for each.
    """
    space = EmbeddingSpace("known", "0" * 16, width)
    fresh = draw(20_000, width, 999_999).double().split(1000)
    hits = dict.fromkeys(LEVELS, 0)
    for seed in range(DRAWS):
        density = fit_density(Embeddings(draw(count, width, seed), space), estimator, seed=seed)
        score = torch.cat([density.score(part) for part in fresh])
        for one_in in LEVELS:
            limit = density.score_at(math.log2(one_in))
            truth = -math.log2(max(0.5, float((score >= limit).sum())) / len(score))
            low, high = density.interval(math.log2(one_in))
            hits[one_in] += float(low) <= truth <= float(high)
    shares = {one_in: hit / DRAWS for one_in, hit in hits.items()}
    assert 0.85 <= sum(shares.values()) / len(shares) <= 0.95, shares
    assert all(0.81 <= share <= 0.97 for share in shares.values()), shares


def test_independent_scores_are_covered_as_often():
    """Scores of one fixed density, so that none of them is a refit's: the tail's own uncertainty."""
    hits, g = dict.fromkeys(LEVELS, 0), torch.Generator().manual_seed(0)
    for seed in range(DRAWS):
        scores = torch.randn(500, 2, generator=g, dtype=torch.float64).square().sum(1)
        calibration = Calibration.fit(scores, seed, worth=1.0)
        for one_in in LEVELS:
            score = calibration.score_at(math.log2(one_in))
            low, high = calibration.interval(torch.tensor(score, dtype=torch.float64))
            hits[one_in] += float(low) <= score / 2 / math.log(2) <= float(high)  # -log P of chi-squared with 2 is s / 2
    assert all(0.85 <= hit / DRAWS <= 0.95 for hit in hits.values()), hits


def test_going_on_from_two_fits_makes_scores_worth_less():
    """Rows that both fits see alike are as good as independent ones; the more the fits differ the less."""
    g = torch.Generator().manual_seed(0)
    more = torch.randn(2000, 30, generator=g, dtype=torch.float64).square().sum(1)
    worths = []
    for apart in (0.0, 0.1, 0.2, 0.3):
        fewer = more * (1.05 + apart * torch.rand(2000, generator=g, dtype=torch.float64))
        worths.append(independent(fewer, more))
        assert torch.allclose(extrapolate(fewer.expand(3, -1), more.expand(3, -1))[1], extrapolate(fewer, more))
    assert worths[0] == pytest.approx(1, abs=0.02) and worths == sorted(worths, reverse=True) and worths[-1] < 0.9


def test_what_scores_are_worth_widens_the_interval_and_changes_nothing_else():
    scores = torch.randn(1000, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).square().sum(1)
    one, half = Calibration.fit(scores, worth=1.0), Calibration.fit(scores, worth=0.5)
    at = torch.tensor([one.score_at(bits) for bits in (1.0, 3.0, 6.0, 10.0)], dtype=torch.float64)
    assert torch.equal(one.bits(at), half.bits(at))
    wide, narrow = (high - low for low, high in (half.interval(at), one.interval(at)))
    assert (wide > 1.2 * narrow).all()
    state = half.state()
    again = Calibration.from_state(state)
    assert again.worth == 0.5 and torch.equal(torch.stack(again.interval(at)), torch.stack(half.interval(at)))
    before = Calibration.from_state({**state, "calibration_tail": state["calibration_tail"][:2]})
    assert before.worth == 1 and torch.equal(before.bits(at), one.bits(at)), "a file of before"
