"""Every result in the band and inside its guardrails, the same twice, and nothing touched on the way."""

import math
import time

import pytest
import torch
from rarity.density import (
    AnchorGuardrail,
    Embeddings,
    EmbeddingSpace,
    GaussianDensity,
    NormGuardrail,
    RarityError,
    ResidualGuardrail,
    choose_starts,
    make_rare,
    optimize,
    variations,
)


@pytest.fixture(scope="module", params=["usual", "rarer", "new"])
def starts(request, mixture, baseline, density):
    """Samples that the density has learnt from, and others."""
    if request.param == "new":
        return choose_starts(mixture(500, 8), density, 48, seed=2)
    return choose_starts(baseline, density, 48, request.param, seed=2)


@pytest.fixture(scope="module")
def calibration(density, starts):
    """The one that rows are read by which began in the starts."""
    return density.calibration if starts.source["seed"] == 8 else density.own_calibration


@pytest.fixture(scope="module")
def chain(baseline, density, contrast):
    return (contrast, AnchorGuardrail.from_baseline(baseline), ResidualGuardrail(density, 95))


def test_every_sample_lands_on_the_target_inside_every_guardrail(density, starts, calibration, chain):
    trajectory = optimize(density, starts, 1000, chain)
    assert torch.allclose(calibration.bits(density.score(trajectory.final.vectors)), torch.tensor(math.log2(1000)).double(), atol=1e-3)
    assert trajectory.in_band.all() and trajectory.accepted.all()
    for rail in (*chain, NormGuardrail(density)):
        assert rail.accepts(trajectory.final.vectors).all(), rail.name


@pytest.mark.parametrize("one_in", [2, 10, 300, 100_000, 10_000_000])
def test_any_allowed_rarity_is_hit(density, starts, calibration, one_in):
    trajectory = optimize(density, starts, one_in, steps=20)
    target = math.log2(one_in)
    assert trajectory.in_band.all()
    assert (calibration.bits(density.score(trajectory.final.vectors)) - target).abs().max() < (1e-3 if one_in > 10 else 0.01)
    assert trajectory.extrapolated == (one_in > 2001)


def test_the_contrast_guardrail_is_what_keeps_the_subject(density, starts, contrast):
    without = optimize(density, starts, 1000).final.vectors
    assert contrast.accepts(without).double().mean() < 0.9
    assert contrast.accepts(optimize(density, starts, 1000, (contrast,)).final.vectors).all()


@pytest.mark.parametrize("kind", ["usual", "rarer", "new"])
def test_results_stay_near_their_own_starts_and_varied(density, mixture, baseline, contrast, kind):
    """Of 200 starts: a share of them is known to 2 %."""
    starts = mixture(200, 8) if kind == "new" else choose_starts(baseline, density, 200, kind, seed=2)
    final = optimize(density, starts, 1000, (contrast,)).final
    before = torch.nn.functional.normalize(density.frame.whiten(starts.vectors)[0], dim=1)
    after = torch.nn.functional.normalize(density.frame.whiten(final.vectors)[0], dim=1)
    cosines = before @ after.T
    own, others = cosines.diagonal(), (cosines.sum(dim=0) - cosines.diagonal()) / 199
    assert (own > others).double().mean() > 0.9 and own.median() > 0.4
    assert ((after @ after.T).fill_diagonal_(0).sum() / (200 * 199)) < 0.55


def test_a_start_that_needs_no_step_only_moves_outwards(density, starts, calibration):
    """Without guardrails in reach, the pull keeps the direction: the radial scaling, literally."""
    trajectory = optimize(density, starts, 4, steps=10)
    w, r = density.frame.whiten(trajectory.final.vectors)
    w0, _ = density.frame.whiten(starts.vectors)
    assert torch.nn.functional.cosine_similarity(w, w0).median() > 1 - 1e-9
    d2 = w.square().sum(1) + r.square().sum(1) / density.frame.residual_variance
    assert torch.allclose(d2, torch.tensor(calibration.score_at(2.0)).double(), rtol=1e-5)


def test_a_residual_beyond_its_limit_is_shortened(density, baseline):
    x = baseline.vectors[:8].double()
    _, r = density.frame.whiten(x)
    wild = Embeddings(x + 30 * r, baseline.space)
    rail = ResidualGuardrail(density, 90)
    trajectory = optimize(density, wild, 500, (rail,))
    assert rail.accepts(trajectory.final.vectors).all() and trajectory.in_band.all()


def test_starts_at_the_very_centre_get_a_direction(density):
    centre = Embeddings(density.frame.mean.float().expand(4, -1), density.space)
    trajectory = optimize(density, centre, 100)
    assert trajectory.in_band.all() and torch.isfinite(trajectory.final.vectors).all()
    assert trajectory.final.vectors.unique(dim=0).shape[0] == 4


def test_rarer_starts_are_rare_and_inside_the_guardrails(density, baseline, contrast):
    rare = density.score(baseline.vectors) >= density.score(baseline.vectors).quantile(0.9)
    inside = int((rare & contrast.accepts(baseline.vectors)).sum())
    picked = choose_starts(baseline, density, min(inside, 16), "rarer", 1, (contrast,))
    assert contrast.accepts(picked.vectors).all()
    assert (density.score(picked.vectors) >= density.score(baseline.vectors).quantile(0.9)).all()
    more = choose_starts(baseline, density, inside + 5, "rarer", 1, (contrast,))  # too few inside: the nearest to it
    outside = baseline.vectors[rare & ~contrast.accepts(baseline.vectors)]
    worst = contrast.penalty(more.vectors).max()
    assert torch.isclose(worst, contrast.penalty(outside).sort().values[4])


def test_the_best_point_is_kept(density, starts, contrast):
    """More checkpoints never look worse: the penalty of the kept point falls, step by step."""
    trajectory = optimize(density, starts, 1000, (contrast,), keep_every=5)
    penalties = torch.stack([contrast.penalty(step.vectors) for step in trajectory.embeddings[1:]])
    broken = (penalties > 1e-4).sum(dim=1)
    assert (broken.diff() <= 0).all() and broken[-1] == 0


def test_the_trajectory_reads_what_it_holds(density, starts, calibration, chain):
    trajectory = optimize(density, starts, 1000, chain, steps=25, keep_every=10)
    assert trajectory.steps == (0, 10, 20, 25) and len(trajectory.embeddings) == 4
    assert torch.equal(trajectory.start.vectors, starts.vectors)
    assert {"bits", "t2", "residual", "norm", "anchor_cosine", "contrast", "anchor"} <= set(trajectory.readings)
    for i, step in enumerate(trajectory.embeddings):
        assert torch.equal(trajectory.readings["bits"][i], calibration.bits(density.score(step.vectors)))
        assert torch.equal(trajectory.readings["contrast"][i], chain[0].reading(step.vectors))
    result = trajectory.results()[0]
    assert set(result) == {"bits", "one_in", "in_band", "residual", "anchor_cosine"}
    assert result["one_in"] == pytest.approx(1000, rel=1e-3) and result["in_band"] is True
    assert trajectory.band == (trajectory.target_bits - 1, trajectory.target_bits + 1)
    assert "48 of 48 are about 1 in 1,000" in trajectory.report()
    assert trajectory.final.source["bits"] == trajectory.target_bits


def test_inside_is_what_every_guardrail_accepts_and_allowed_is_where_their_readings_may_be(density, starts, chain):
    trajectory = optimize(density, starts, 1000, chain)
    inside = trajectory.readings["inside"] > 0
    assert torch.equal(inside[-1], trajectory.accepted) and not inside[0].all(), "some starts are outside"
    assert set(trajectory.allowed) == {"residual", "norm", *(rail.name for rail in chain)}

    def within(slack):
        rows = [
            (trajectory.readings[name] >= low - slack) & (trajectory.readings[name] <= high + slack)
            for name, (low, high) in trajectory.allowed.items()
        ]
        return torch.stack(rows).all(dim=0)

    # Results lie on the very edge, and a stored embedding is rounded: guardrails tolerate 1e-4 of a spread.
    assert within(1e-3)[inside].all() and not within(-1e-3)[~inside].any()


def test_the_report_counts_the_same_results_inside_and_outside(density, starts, contrast, baseline):
    """Also where a margin is 0 at its limit, so that no share of it is a tolerance: an alternative that is the subject."""
    from rarity.density import ContrastGuardrail

    blind = ContrastGuardrail.from_baseline(torch.stack([contrast.subject, contrast.subject]), 0, baseline)
    nearly = ContrastGuardrail.from_baseline(torch.stack([contrast.subject, contrast.subject + 1e-7 * contrast.others[0]]), 0, baseline)
    for rail in (blind, nearly, contrast):
        trajectory = optimize(density, starts, 1000, (rail,), steps=3)
        outside = int((~trajectory.accepted).sum())
        assert f"{len(starts) - outside} inside every guardrail." in trajectory.report()
        assert max(trajectory.outside().values(), default=0) <= outside <= sum(trajectory.outside().values())
    assert outside and blind.notes[0] in optimize(density, starts, 1000, (blind,), steps=1).report()


def test_several_limits_on_one_number_leave_what_all_allow(density, starts):
    loose, tight = ResidualGuardrail(density, 99), ResidualGuardrail(density, 50)
    assert optimize(density, starts, 100, (tight, loose), steps=2).allowed["residual"] == tight.allowed


@pytest.mark.parametrize("kind", [ResidualGuardrail, NormGuardrail])
def test_a_guardrail_of_another_density_holds_as_any_other(kind, density, baseline, mixture):
    """Its subspace or its range is another one: what holds by construction here does not hold there."""
    starts = choose_starts(baseline, density, 16, seed=1)
    shifted = mixture(800, 5).vectors * torch.linspace(1.5, 0.6, 16)
    other = GaussianDensity.fit(Embeddings(shifted, density.space), components=2)
    rail = kind(other, 99.9) if kind is ResidualGuardrail else kind(other)

    class Wrapped:
        name, space, allowed, notes = "wrapped", rail.space, rail.allowed, ()
        reading, penalty, accepts = rail.reading, rail.penalty, rail.accepts

    alone, plain, wrapped = (optimize(density, starts, 200, chain) for chain in ((), (rail,), (Wrapped(),)))
    assert torch.equal(plain.final.vectors, wrapped.final.vectors)
    assert int(plain.accepted.sum()) == int(rail.accepts(plain.final.vectors).sum()) >= int(rail.accepts(alone.final.vectors).sum())
    assert plain.readings["residual"].equal(wrapped.readings["residual"]), "the residual that is read is this density's"


def test_two_guardrails_of_a_kind_are_both_read(density, starts, contrast):
    assert {"contrast", "contrast 2"} <= set(optimize(density, starts, 100, (contrast, contrast), steps=2).readings)


def test_the_same_seed_gives_the_same_result(density, starts, chain):
    one, two = (optimize(density, starts, 1000, chain, seed=4).final.vectors for _ in range(2))
    assert torch.equal(one, two)


def test_a_sample_does_not_depend_on_its_neighbours(density, starts, chain):
    together = optimize(density, starts, 1000, chain).final.vectors[5:9]
    apart = optimize(density, starts.select(range(5, 9)), 1000, chain).final.vectors
    assert torch.allclose(together, apart, atol=1e-5)


def test_it_works_under_inference_mode(baseline):
    with torch.inference_mode():
        made = Embeddings(baseline.vectors.clone(), baseline.space)
        density = GaussianDensity.fit(made)
        rail = AnchorGuardrail.from_baseline(made, 0.3)
        trajectory = optimize(density, choose_starts(made, density, 8), 1000, (rail,))
        assert trajectory.in_band.all() and rail.accepts(trajectory.final.vectors).all()


def test_cancelling_leaves_the_inputs_untouched(density, starts, chain):
    before = [starts.vectors.clone(), density.frame.mean.clone(), chain[0].subject.clone()]

    def cancel(done, total):
        if done == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        optimize(density, starts, 1000, chain, progress=cancel)
    assert all(torch.equal(a, b) for a, b in zip(before, [starts.vectors, density.frame.mean, chain[0].subject], strict=True))
    assert torch.is_grad_enabled() and optimize(density, starts, 1000, chain).in_band.all()


def test_progress_runs_from_nothing_to_all(density, starts):
    calls = []
    optimize(density, starts, 100, steps=7, progress=lambda done, total: calls.append((done, total)))
    assert calls[-8:] == [(i, 7) for i in range(8)] and set(calls[:-8]) <= {(0, 7)}


def test_another_fit_agrees_about_the_rarity(mixture):
    """Results of one fit, read under a fit of as many other samples: within a bit or so, the two fits' common offset."""
    train, test = mixture(10_000, 21), mixture(10_000, 22)
    density, other = GaussianDensity.fit(train), GaussianDensity.fit(test)
    final = optimize(density, choose_starts(train, density, 64), 1000).final.vectors
    away = (other.bits(final) - math.log2(1000)).abs()
    assert (away <= 1).double().mean() >= 0.75 and (away <= 2).double().mean() >= 0.97


def test_it_takes_milliseconds_a_sample(density, baseline, contrast):
    starts = choose_starts(baseline, density, 256)
    begin = time.process_time()
    optimize(density, starts, 1000, (contrast,))
    assert (time.process_time() - begin) / 256 < 0.02


def test_starts_are_rows_of_the_baseline(baseline, density):
    usual, rarer = (choose_starts(baseline, density, 100, kind, seed=1) for kind in ("usual", "rarer"))
    assert torch.equal(usual.vectors, choose_starts(baseline, density, 100, "usual", seed=1).vectors)
    for chosen in (usual, rarer):
        assert ((chosen.vectors[:, None] == baseline.vectors).all(-1).sum(1) == 1).all()
        assert len(chosen.vectors.unique(dim=0)) == 100
    tenth = density.score(baseline.vectors).sort().values[-200]
    assert (density.score(rarer.vectors) >= tenth).all()
    assert density.score(usual.vectors).median() < tenth


@pytest.mark.parametrize("kind", ["usual", "rarer"])
def test_one_call_does_what_the_node_does(baseline, density, contrast, kind):
    made, usual = make_rare(density, baseline, 1000, 9, (contrast,), start_from=kind, seed=4, steps=10)
    starts = choose_starts(baseline, density, 9, kind, 4, (contrast,))
    assert torch.equal(made.final.vectors, optimize(density, starts, 1000, (contrast,), seed=4, steps=10).final.vectors)
    assert torch.equal(usual.vectors, choose_starts(baseline, density, 9, "usual", 4).vectors)
    picture = baseline.select([3])
    made, beside = make_rare(density, baseline, 1000, 9, (contrast,), picture=picture, how_far=0.7, seed=4, steps=10)
    varied = variations(density, picture, 9, 0.7, 1000, (contrast,), seed=4, steps=10)
    assert torch.equal(made.final.vectors, varied.final.vectors) and torch.equal(beside.vectors, usual.vectors)


def test_wrong_input_is_one_clear_error(baseline, density, contrast):
    starts = baseline.select(range(4))
    foreign = Embeddings(starts.vectors, EmbeddingSpace("another", "encoder", 16))
    foreign_rail = AnchorGuardrail(torch.ones(16), 0.1, space=foreign.space)
    for call, message in [
        (lambda: optimize(density, starts, 1), "from 2 to 10,000,000, got 1"),
        (lambda: optimize(density, starts, 10_000_001), "from 2 to 10,000,000"),
        (lambda: optimize(density, foreign, 100), "different embedding spaces"),
        (lambda: optimize(density, starts, 100, (foreign_rail,)), "anchor guardrail .* different embedding spaces"),
        (lambda: optimize(density, starts, 100, steps=0), "at least 1 step"),
        (lambda: optimize(density, starts, 100, step_size=3.0), "step size"),
        (lambda: choose_starts(baseline, density, 2001), "count must be 1 to 2,000"),
        (lambda: choose_starts(baseline, density, 4, "odd"), "usual.*rarer.*got 'odd'"),
        (lambda: choose_starts(foreign, density, 4), "different embedding spaces"),
    ]:
        with pytest.raises(RarityError, match=message):
            call()


def test_the_report_names_what_the_results_leave(density, starts):
    from rarity.density import NormGuardrail

    tight = NormGuardrail(density)
    tight.low, tight.high = 0.0, 1e-6
    trajectory = optimize(density, starts, 1000, (tight,), steps=2)
    assert trajectory.outside() == {"norm": len(starts)}
    assert f"0 inside every guardrail. Outside: norm {len(starts)}. Theirs is a length" in trajectory.report()
    inside = optimize(density, starts, 2, steps=2)
    assert inside.outside() == {} and "Outside" not in inside.report()
