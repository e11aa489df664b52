"""Fewer samples than dimensions: what is learnt in the directions that they span is what the whole covariance says."""

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity
from rarity.density.estimators.cross_fit import CrossFit
from rarity.density.estimators.sample_space import SampleSpace
from rarity.density.statistics.shrinkage import RadialMoments, ledoit_wolf, oas
from rarity.density.statistics.sufficient_statistics import FOLDS, Statistics

D = 96


def draw(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 5, generator=g) @ (3 * torch.randn(5, D, generator=torch.Generator().manual_seed(9))) + (
        torch.randn(count, D, generator=g) * torch.linspace(2, 0.1, D) + 0.5
    )


def check(fit, rows, left_out):
    """A fit against the literal covariance of its rows, in float64."""
    rows = rows.double()
    covariance, scale = torch.cov(rows.T, correction=0), float(rows.var(dim=0).sum())
    axes = fit.leading(D)
    expected = torch.linalg.eigvalsh(covariance).flip(0)
    torch.testing.assert_close(fit.spectrum, expected.clamp_min(0), rtol=1e-9, atol=1e-13 * scale)
    torch.testing.assert_close(fit.mean, rows.mean(dim=0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(axes.T @ axes, torch.eye(D, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close((axes * fit.spectrum) @ axes.T, covariance, rtol=0, atol=1e-12 * scale)
    leading = axes[:, : len(rows) - 1]
    torch.testing.assert_close(fit.leading(9), axes[:, :9], rtol=0, atol=1e-13)
    assert (leading.gather(0, leading.abs().argmax(dim=0, keepdim=True)) > 0).all()
    radial = RadialMoments(D).update(rows)
    assert fit.intensities["ledoit-wolf"] == pytest.approx(ledoit_wolf(radial), rel=1e-9)
    assert fit.intensities["oas"] == pytest.approx(oas(radial.moments), rel=1e-9)
    if left_out is not None:
        # Behind the directions that the fit's samples span only the sum is a matter of fact, and all that is read.
        seen = ((left_out.double() - fit.mean) @ axes).square().mean(dim=0)
        torch.testing.assert_close(fit.spread[: len(rows) - 1], seen[: len(rows) - 1], rtol=1e-9, atol=1e-12 * scale)
        torch.testing.assert_close(fit.spread.sum(), seen.sum(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("count", [50, 95, 96])
def test_every_fit_is_that_of_the_whole_covariance(count):
    statistics = Statistics(D).update(draw(count))
    assert SampleSpace.of(statistics) is not None
    cross, rows, which = CrossFit(statistics), statistics.rows, statistics.row_folds
    check(cross.whole, rows, None)
    for f in range(FOLDS):
        check(cross.others[f], rows[which != f], rows[which == f])
        check(cross.fewer[f], rows[(which != f) & (which != (f + 1) % FOLDS)], None)


def test_as_many_samples_as_dimensions_or_more_stay_where_they_are():
    assert SampleSpace.of(Statistics(D).update(draw(D + 1))) is None
    assert SampleSpace.of(Statistics(D)) is None


@pytest.mark.parametrize("estimator", ["ledoit-wolf", "oas"])
def test_what_is_held_out_has_its_share_of_the_last_direction_as_new_samples_have(estimator):
    """A direction that no sample spans at all would say that nothing ever lies in it."""
    density = GaussianDensity.fit(Embeddings(draw(80), EmbeddingSpace("test", "0" * 12, D)), estimator=estimator)
    beyond = (density.frame.residual(draw(4000, seed=1)) > density.frame.residual_limit(50)).double().mean()
    assert 0.25 < float(beyond) < 0.75  # the median of 80 in one direction of those it is drawn from


def test_twice_is_the_same():
    rows = draw(60)
    first, second = (CrossFit(Statistics(D).update(rows)).whole for _ in range(2))
    assert torch.equal(first.leading(D), second.leading(D)) and torch.equal(first.spectrum, second.spectrum)
