"""The four covariance estimators beside scikit-learn and literal held-out likelihoods, and the choice among all kinds."""

import pytest
import torch
from rarity.density import (
    CHOICES,
    Embeddings,
    EmbeddingSpace,
    GaussianDensity,
    MixtureDensity,
    RarityError,
    fit_density,
)
from rarity.density.calibration.enough import check_enough
from rarity.density.estimators.cross_fit import CrossFit
from rarity.density.statistics.gather import gather
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf
from torch.distributions import MultivariateNormal

THEIRS = {"ledoit-wolf": LedoitWolf, "oas": OAS, "full": EmpiricalCovariance}


def draw(count, width=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    mixing = torch.linalg.qr(torch.randn(width, width, generator=g)).Q
    x = (torch.randn(count, width, generator=g) * torch.logspace(0, -1, width)) @ mixing + 2
    return Embeddings(x, EmbeddingSpace("drawn", "f", width), source={"prompt": "drawn"})


@pytest.mark.parametrize("estimator", THEIRS)
def test_log_prob_equals_that_of_scikit_learns_covariance(estimator):
    seen, fresh = draw(150), draw(40, seed=1).vectors.double()
    density = GaussianDensity.fit(seen, estimator=estimator)
    theirs = THEIRS[estimator]().fit(seen.vectors.double().numpy())
    normal = MultivariateNormal(torch.from_numpy(theirs.location_), torch.from_numpy(theirs.covariance_))
    # Moments are float32 products: 1e-6 of the spread.
    assert torch.allclose(density.log_prob(fresh), normal.log_prob(fresh), rtol=1e-4)
    assert density.frame.components == 11 and density.frame.residual_variance > 0 and density.estimator == estimator
    assert (density.frame.residual(fresh) > 0).all() and "All 12 directions" in density.describe()


@pytest.mark.parametrize("estimator", ["ppca", *THEIRS])
def test_held_out_likelihoods_are_those_of_the_fits_that_left_a_fold_out(estimator):
    statistics = gather(draw(300))[0]
    values = CrossFit(statistics).log_likelihoods(estimator)
    k = 4 if estimator == "ppca" else 11
    total = 0.0
    for f in range(5):
        rest = statistics.rows[statistics.row_folds != f].double()
        left_out = statistics.rows[statistics.row_folds == f].double()
        if estimator == "ppca":
            spectrum, axes = torch.linalg.eigh(torch.cov(rest.T, correction=0))
            spectrum[: 12 - k] = spectrum[: 12 - k].mean()
            covariance = axes @ spectrum.diag() @ axes.T
        else:
            covariance = torch.from_numpy(THEIRS[estimator]().fit(rest.numpy()).covariance_)
        total += float(MultivariateNormal(rest.mean(dim=0), covariance).log_prob(left_out).sum())
    assert float(values[k - 1 if estimator == "ppca" else 0]) == pytest.approx(total / 300 / 12, abs=1e-5)


def test_shrinkage_works_where_samples_are_fewer_than_dimensions_and_full_says_how_many_it_needs():
    few = draw(60, width=100)
    for estimator in ("ledoit-wolf", "oas"):
        density = GaussianDensity.fit(few, estimator=estimator)
        assert density.frame.components == 99 and torch.isfinite(density.log_prob(few.vectors)).all()
    with pytest.raises(RarityError, match="in full, 100 dimensions wide: at least 147 .* got 60.*use ledoit-wolf"):
        GaussianDensity.fit(few, estimator="full")
    assert GaussianDensity.fit(draw(147, width=100), estimator="full").count == 147


def test_a_constant_column_is_refused_in_full_and_shrunk_otherwise():
    flat = draw(200).vectors
    flat[:, 3] = 1
    flat = Embeddings(flat, EmbeddingSpace("drawn", "f", 12))
    with pytest.raises(RarityError, match="vary in 11 of 12 directions only"):
        GaussianDensity.fit(flat, estimator="full")
    for estimator in ("ledoit-wolf", "oas", "ppca"):
        density = GaussianDensity.fit(flat, estimator=estimator)
        assert density.frame.residual_variance > 0 and torch.isfinite(density.bits(draw(9).vectors)).all()
    assert "full" not in fit_density(flat, "auto").notes[-1].split(":")[1]


def test_auto_takes_the_highest_and_says_so():
    density = fit_density(draw(80, width=60), "auto")
    note = density.notes[-1]
    assert density.estimator in ("ledoit-wolf", "oas", "ppca", "qis") and note.startswith("Chosen: ")
    figures = {
        name: float(value) for name, value in (part.rsplit(" ", 1) for part in note[:-1].split(": ")[-1].split(", "))
    }
    assert len(figures) >= 3 and max(figures, key=figures.get) == note[8:].split(";")[0]
    same = fit_density(
        draw(80, width=60), density.estimator, components=density.frame.components * (density.estimator == "ppca")
    )
    x = draw(20, width=60, seed=3).vectors
    assert torch.equal(same.log_prob(x), density.log_prob(x)) and torch.equal(same.bits(x), density.bits(x))


def test_auto_takes_components_beyond_those_it_would_choose_from():
    density = fit_density(draw(100, width=60), "auto", components=20)  # a tenth of the samples is 10
    assert "ppca with 20 components " in density.notes[-1]
    with pytest.raises(RarityError, match="Choose 1 to 59 components"):
        fit_density(draw(100, width=60), "auto", components=60)


def test_components_need_three_fifths_of_the_samples():
    """Scores are extrapolated from fits of three fifths: of fewer samples than components, one in two was nobody at all."""
    with pytest.raises(RarityError, match="with 45 components: at least 106 .* got 75.*choose fewer components"):
        GaussianDensity.fit(draw(75, width=60), components=45)
    shares = []
    for seed in range(6):  # one baseline as small as that errs by a third of a bit, by which samples its folds hold
        drawn = draw(4120, width=60, seed=seed)
        bits = GaussianDensity.fit(drawn.select(range(120)), components=45).bits(drawn.vectors[120:])
        shares.append(float((bits >= 1).double().mean()))
    assert 2**-1.5 < sum(shares) / len(shares) < 2**-0.5  # within half a bit


def test_auto_takes_a_mixture_where_there_are_kinds():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1200, 6, generator=g) * 0.3
    x[:, 0] += 5 * torch.randint(2, (1200,), generator=g)
    seen = Embeddings(x, EmbeddingSpace("two", "f", 6))
    density = fit_density(seen, "auto", components=2)
    assert type(density) is MixtureDensity and "Chosen: a mixture of " in density.notes[-1]
    assert float(density.notes[-1][:-1].rsplit(" ", 1)[1]) > -0.45  # each Gaussian has less than -0.55


def test_a_stream_gives_the_same_density():
    whole = draw(400)
    parts = [whole.select(range(i, min(i + 37, 400))) for i in range(0, 400, 37)]
    for estimator in ("ppca", "oas"):
        one, two = fit_density(whole, estimator), fit_density(iter(parts), estimator)
        assert torch.equal(one.bits(whole.vectors), two.bits(whole.vectors)) and one.source == two.source


def test_what_nobody_knows_or_needs_is_refused():
    with pytest.raises(RarityError, match=f"one of {', '.join(CHOICES)}; got 'kde'"):
        fit_density(draw(100), "kde")
    with pytest.raises(RarityError, match="one of ppca, .*; got 'auto'"):
        GaussianDensity.fit(draw(100), estimator="auto")
    with pytest.raises(RarityError, match="Components are chosen for ppca, mixture.* oas has.*Got 3, set it to 0"):
        fit_density(draw(100), "oas", components=3)
    with pytest.raises(RarityError, match="values too large"):
        GaussianDensity.fit(Embeddings(draw(100).vectors * 1e25, EmbeddingSpace("drawn", "f", 12)))


def test_what_is_said_to_be_too_few_before_a_fit_is_too_few_for_it():
    for n, components in ((75, 45), (75, 44), (100, 59), (50, 29)):
        with pytest.raises(RarityError, match=f"with {components} components: .* got {n}") as before:
            check_enough(n, components)
        with pytest.raises(RarityError) as while_fitting:
            GaussianDensity.fit(draw(n, width=60), components=components)
        assert str(before.value) == str(while_fitting.value)
    check_enough(75, 43)  # here the folds decide, which only a fit knows
