"""Shells of a mixture: every ray ends on the target, one mode is the Gaussian, gradients are those of differences."""

import math

import pytest
import torch
from rarity.density import (
    Calibration,
    Embeddings,
    MixtureDensity,
    NeighbourDensity,
    NormGuardrail,
    RarityError,
    choose_starts,
    optimize,
)
from rarity.density.estimators.modes import Modes
from rarity.density.steering.shells import GaussianShell, MixtureShell
from torch.nn.functional import normalize


def with_modes(density, modes):
    """A mixture around a fitted Gaussian with given modes, calibrated on its own draws."""
    fields = {name: value for name, value in vars(density).items() if name != "own_calibration"}
    mixture = MixtureDensity(modes=modes, **{**fields, "estimator": "mixture"})
    mixture.calibration = Calibration.fit(mixture.score(mixture.sample(4000, 7).vectors))
    return mixture


@pytest.fixture(scope="module")
def kinds(density):
    """Three modes in four leading scores: a large one, a near one that is turned and narrow, a small one far out."""
    g = torch.Generator().manual_seed(4)
    sharp = torch.tensor([1.0, 2.0, 1.0])[:, None, None]
    factors = torch.randn(3, 4, 4, generator=g, dtype=torch.float64).triu(1) * 0.3 + torch.eye(4) * sharp
    means = torch.tensor([[0.0, 0, 0, 0], [1.5, 1, 0, 0], [-5, 3, 2, 0]]).double()
    return with_modes(density, Modes(torch.tensor([0.9, 0.1 - 1e-6, 1e-6]).double(), means, factors))


@pytest.fixture(scope="module")
def drawn(kinds):
    """Samples of the two large modes, and 50 around the third."""
    g = torch.Generator().manual_seed(6)
    w = torch.cat([kinds.modes.means[2], torch.zeros(5)]) + 0.5 * torch.randn(50, 9, generator=g)
    few = kinds.frame.unwhiten(w, torch.zeros(50, 16))
    return Embeddings(torch.cat([kinds.sample(2000, 1).vectors, few.float()]), kinds.space)


def shell(density, x, bits):
    return MixtureShell(density, x.double(), math.inf, density.score_at(bits), 0)


def test_every_ray_ends_on_the_target_and_keeps_its_residual(kinds, drawn):
    x = drawn.vectors[:300]
    there = shell(kinds, x, 10.0)
    g = torch.Generator().manual_seed(1)
    for u in (there.start, normalize(torch.randn(there.start.shape, generator=g).double(), dim=1)):
        placed = there.place(u)
        assert torch.allclose(kinds.score(placed), torch.tensor(kinds.score_at(10.0), dtype=torch.float64), rtol=1e-9)
        assert torch.allclose(kinds.frame.whiten(placed)[1], there.r, atol=1e-12)
    assert not there.shellless.any()


def test_the_own_mode_is_the_most_responsible_by_the_literal_formula(kinds, drawn):
    x = drawn.vectors[:40]
    there, modes = shell(kinds, x, 10.0), kinds.modes
    for w, centre in zip(kinds.frame.whiten(x)[0], there.mean, strict=True):
        heights = []
        for weight, mean, factor in zip(modes.weights, modes.means, modes.factors, strict=True):
            spread = torch.linalg.inv(factor @ factor.T)
            own = torch.distributions.MultivariateNormal(mean, spread).log_prob(w[:4])
            heights.append(float(weight.log() + own))
        assert torch.equal(centre, modes.means[max(range(3), key=heights.__getitem__)])
    assert len(shell(kinds, drawn.vectors, 10.0).mean.unique(dim=0)) == 3


def test_the_residual_keeps_its_share_as_far_as_it_may(density, baseline):
    x, target = baseline.vectors[:50].double(), density.score_at(9.0)
    _, r = density.frame.whiten(x)
    own = r * (target / density.score(x)).sqrt()[:, None]
    usual = density.frame.residual_variance * target * (16 - density.frame.components) / 16
    for limit, most in ((math.inf, usual), (usual / 2, usual / 2)):
        expected = own * (most / own.square().sum(dim=1)).sqrt().clamp_max(1)[:, None]
        there = GaussianShell(density, x, limit, target, 0)
        assert torch.allclose(there.r, expected, rtol=1e-9)
        assert ((there.r - own).norm(dim=1) < 1e-9).any() and ((there.r - own).norm(dim=1) > 1e-3).any()
        assert torch.allclose(density.score(there.place(there.start)), torch.tensor(target, dtype=torch.float64), rtol=1e-9)


def test_one_standard_mode_is_the_gaussian(density, baseline):
    one = with_modes(density, Modes.standard(4))
    one.calibration = density.calibration
    x = baseline.vectors[:50].double()
    target = density.score_at(9.0)
    ours, theirs = (kind(d, x, 2.0, target, 0) for kind, d in ((MixtureShell, one), (GaussianShell, density)))
    assert torch.allclose(ours.start, theirs.start) and torch.allclose(ours.r, theirs.r)
    assert torch.allclose(ours.place(ours.start), theirs.place(theirs.start))
    starts = baseline.select(range(20))
    assert torch.allclose(optimize(one, starts, 500).final.vectors, optimize(density, starts, 500).final.vectors, atol=1e-5)


@pytest.mark.parametrize("kind", [GaussianShell, MixtureShell])
def test_pulled_back_gradients_are_those_of_finite_differences(kind, density, kinds, baseline):
    density = kinds if kind is MixtureShell else density
    g = torch.Generator().manual_seed(2)
    there = kind(density, baseline.vectors[:30].double(), math.inf, density.score_at(10.0), 0)
    u, slope = there.start, torch.randn(16, generator=g, dtype=torch.float64)
    gradient = there.pull_back(slope.expand(30, 16), u)
    for _ in range(3):
        move = torch.randn(u.shape, generator=g, dtype=torch.float64)
        move = move - (move * u).sum(dim=1, keepdim=True) * u
        ends = [there.place(normalize(u + sign * 1e-5 * move, dim=1)) @ slope for sign in (1, -1)]
        assert torch.allclose((gradient * move).sum(dim=1), (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-5)


def test_optimize_on_a_mixture_lands_in_the_band_inside_the_guardrails(kinds, drawn, contrast):
    for kind in ("usual", "rarer"):
        starts = choose_starts(drawn, kinds, 40, kind, 1, (contrast,))
        trajectory = optimize(kinds, starts, 1000, (contrast,))
        assert torch.allclose(kinds.bits(trajectory.final.vectors), torch.tensor(math.log2(1000)).double(), atol=1e-3)
        assert trajectory.in_band.all() and trajectory.accepted.double().mean() >= 0.9
        assert NormGuardrail(kinds).accepts(trajectory.final.vectors).double().mean() >= 0.9


def test_a_mode_rarer_than_the_target_is_told_not_hidden(kinds, drawn):
    """At 1 in 2 the far, small mode has no shell: its starts stay, and are reported outside the band."""
    far = shell(kinds, drawn.vectors, 1.0).shellless[:, 0]
    assert 0 < int(far.sum()) < len(far)
    starts = drawn.select(torch.cat([far.nonzero()[:5, 0], (~far).nonzero()[:5, 0]]))
    trajectory = optimize(kinds, starts, 2, steps=3)
    assert torch.isfinite(trajectory.final.vectors).all()
    assert not trajectory.in_band[:5].any() and trajectory.in_band[5:].all()


def test_nearest_neighbours_are_refused(baseline):
    neighbours = NeighbourDensity.fit(baseline)
    with pytest.raises(RarityError, match="estimator ppca or mixture"):
        optimize(neighbours, Embeddings(baseline.vectors[:2], baseline.space), 100)
