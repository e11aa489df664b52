"""Tensors that a user has on another device than the processor: everything takes them, and answers on the processor."""

import pytest
import torch
from elsewhere import Elsewhere, elsewhere
from rarity.density import (
    AnchorGuardrail,
    BandLoss,
    Calibration,
    ContrastGuardrail,
    Direction,
    Embeddings,
    ExposureMemory,
    Moments,
    NormGuardrail,
    RadialMoments,
    RepelGuardrail,
    ResidualGuardrail,
    Statistics,
    drop_unusable,
    fit_density,
    log_gaussian,
    nearest,
    rank,
)


@pytest.fixture(params=[True, False], ids=["with float64", "without float64"])
def device(request):
    with elsewhere(doubles=request.param) as device:
        yield device


def same(there, here):
    """Equal to the last bits (1e-12), and on the processor."""
    assert not isinstance(there, Elsewhere)
    torch.testing.assert_close(there, here, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ["ppca", "mixture", "neighbours"])
def test_densities_and_their_gradients(estimator, baseline, mixture, device):
    density, x = fit_density(baseline, estimator, components=5), mixture(6, 30).vectors
    for read in (density.score, density.bits, density.log_prob, density.frame.t2, density.frame.residual, BandLoss(density, 6)):
        same(read(x.to(device)), read(x))
    for there, here in zip(density.frame.whiten(x.to(device)), density.frame.whiten(x), strict=True):
        same(there, here)
    parts = [part.float() for part in density.frame.whiten(x)]
    same(density.frame.unwhiten(*(part.to(device) for part in parts)), density.frame.unwhiten(*parts))
    same(log_gaussian(density, x.to(device)), log_gaussian(density, x))
    leaf = x.to(device).requires_grad_(True)
    (slope,) = torch.autograd.grad(density.score(leaf).sum(), leaf)
    assert slope.device == device and float(slope.abs().sum()) > 0
    scores, held_out = (one.float() for one in (density.score(x), density.calibration.scores))
    for read in (density.calibration.bits, density.calibration.deviations):
        same(read(scores.to(device)), read(scores))
    for there, here in zip(density.calibration.interval(scores.to(device)), density.calibration.interval(scores), strict=True):
        same(there, here)
    same(Calibration.fit(held_out.to(device)).scores, held_out.double())


def test_guardrails_and_directions(density, baseline, mixture, device):
    x, prototypes = mixture(6, 31).vectors, baseline.vectors[:3]
    examples = baseline.select([1, 2])
    rails = [
        AnchorGuardrail.from_baseline(baseline), ResidualGuardrail(density, 50.0), NormGuardrail(density),
        *(ContrastGuardrail.from_baseline(prototypes, 0, baseline, centred=centred) for centred in (False, True)),
        RepelGuardrail.from_density(density, 9.0), RepelGuardrail.from_examples(examples, baseline),
    ]
    directions = [
        Direction("a", 1.0, density.space, x[0]), Direction.towards(density), Direction.towards(examples),
    ]
    reads = [read for rail in rails for read in (rail.reading, rail.penalty, rail.accepts)]
    reads += [direction.place for direction in directions]
    for read in reads:
        same(read(x.to(device)), read(x))
    made = (
        lambda to: AnchorGuardrail(x[0].to(to), 0.5).anchor,
        lambda to: ContrastGuardrail.from_baseline(prototypes.to(to), 0, baseline, centred=True).subject,
        lambda to: Direction("a", 1.0, density.space, x[0].to(to)).vector,
        lambda to: Direction.between(x[:2].to(to), x[2:].to(to), density.space).vector,
    )
    for make in made:
        same(make(device), make("cpu"))


def test_sums_sets_and_scores(density, baseline, device):
    rows = baseline.vectors[:200]
    same(Moments(16).update(rows.to(device)).covariance(), Moments(16).update(rows).covariance())
    same(RadialMoments(16).update(rows.to(device)).third, RadialMoments(16).update(rows).third)
    same(Statistics(16).update(rows.to(device)).rows, Statistics(16).update(rows).rows)
    same(Embeddings(rows.to(device), baseline.space).vectors, rows)
    for chosen in (torch.tensor([3, 5]), rows[:, 0] > 0.5):
        small = baseline.select(range(200))
        same(small.select(chosen.to(device)).vectors, small.select(chosen).vectors)
    kept, *counts = drop_unusable(torch.cat([rows, rows[:4]]).to(device))
    assert kept.device == device and counts == [0, 4] and torch.equal(kept.cpu(), rows)
    for there, here in zip(nearest(rows[:5].to(device), rows.to(device), 2), nearest(rows[:5], rows, 2), strict=True):
        same(there, here)
    weights = torch.linspace(0, 1, 200)
    same(*(ExposureMemory(baseline.space).update(baseline.select(range(200)), w).weights for w in (weights.to(device), weights)))
    same(rank(baseline.select(range(200)), rows[:, 0].to(device), 9), rank(baseline.select(range(200)), rows[:, 0], 9))
