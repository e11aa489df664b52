"""What every guardrail promises, and each one's literal formula."""

import pytest
import torch
from rarity.density import (
    AnchorGuardrail,
    ContrastGuardrail,
    Embeddings,
    Guardrail,
    NormGuardrail,
    RarityError,
    ResidualGuardrail,
    bits_from_one_in,
    fit_density,
    optimize,
)


@pytest.fixture(params=["anchor", "residual", "norm", "contrast"])
def rail(request, baseline, density, contrast):
    return {
        "anchor": lambda: AnchorGuardrail.from_baseline(baseline, 0.2),
        "residual": lambda: ResidualGuardrail(density, 80),
        "norm": lambda: NormGuardrail(density),
        "contrast": lambda: contrast,
    }[request.param]()


def far(mixture):
    """Rows in and out of every guardrail."""
    x = mixture(300, 11).vectors.double()
    g = torch.Generator().manual_seed(1)
    return torch.cat([x, 3 * x, x + 2 * torch.randn(x.shape, generator=g)])


def test_a_guardrail_keeps_its_promises(rail, mixture):
    assert isinstance(rail, Guardrail)
    x = far(mixture)
    penalty, accepts = rail.penalty(x), rail.accepts(x)
    assert penalty.shape == accepts.shape == rail.reading(x).shape == (len(x),)
    assert (penalty >= 0).all() and 0 < int(accepts.sum()) < len(x)
    assert (penalty[accepts] <= 1e-4).all() and (penalty[~accepts] > 0).all()
    low, high = rail.allowed
    assert torch.equal((rail.reading(x) >= low) & (rail.reading(x) <= high), accepts), "what is allowed is what is accepted"


def test_the_penalty_can_be_descended(rail, mixture):
    x = far(mixture)
    x = x[rail.penalty(x) > 0.05].clone().requires_grad_(True)
    before = rail.penalty(x)
    (gradient,) = torch.autograd.grad(before.sum(), x)
    assert torch.isfinite(gradient).all() and (gradient.norm(dim=1) > 0).all()
    step = 1e-3 * gradient / gradient.norm(dim=1, keepdim=True)
    assert (rail.penalty(x - step) < before).all()


def test_the_gradient_is_that_of_finite_differences(rail, mixture):
    x = far(mixture)
    x = x[rail.penalty(x) > 0.05][:4].clone().requires_grad_(True)
    assert torch.autograd.gradcheck(rail.penalty, (x,), eps=1e-7, atol=1e-4)


def test_guardrails_hold_ordinary_tensors(baseline, density):
    with torch.inference_mode():
        rails = [
            AnchorGuardrail.from_baseline(baseline),
            ContrastGuardrail.from_baseline(baseline.vectors[:4], 0, baseline),
            ResidualGuardrail(density),
            NormGuardrail(density),
        ]
    x = (3 * baseline.vectors[:8].double()).requires_grad_(True)
    sum(rail.penalty(x).sum() for rail in rails).backward()
    assert x.grad is not None


def test_the_margin_is_the_literal_formula(contrast, baseline):
    prototypes = torch.cat([contrast.subject[None], contrast.others])
    for row, reading in zip(baseline.vectors[:20].double(), contrast.reading(baseline.vectors[:20]), strict=True):
        cosines = [float(row @ p / (row.norm() * p.norm())) for p in prototypes]
        assert float(reading) == pytest.approx(cosines[0] - max(cosines[1:]), abs=1e-12)


def test_the_contrast_threshold_is_the_baselines_quantile(contrast, baseline):
    margins = contrast.reading(baseline.vectors)
    assert float((margins < contrast.threshold).double().mean()) == pytest.approx(0.3, abs=0.01)
    assert contrast.scale == pytest.approx(float(margins.std(correction=0)))
    assert float(contrast.accepts(baseline.vectors).double().mean()) == pytest.approx(0.7, abs=0.01)


def test_the_asked_subject_may_stand_anywhere(contrast, baseline):
    prototypes = torch.cat([contrast.others[:3], contrast.subject[None], contrast.others[3:]])
    moved = ContrastGuardrail.from_baseline(prototypes, 3, baseline)
    assert torch.allclose(moved.reading(baseline.vectors), contrast.reading(baseline.vectors))


def test_centring_takes_away_what_favours_one_alternative_everywhere(space):
    """Texts far from all pictures, and one of them nearer by a constant: uncentred it wins every time, centred never."""
    g = torch.Generator().manual_seed(3)
    subject, other, seen, read = torch.eye(16)[:4]
    noise = 0.02 * torch.randn(400, 16, generator=g)
    pictures = 2 * seen + 0.3 * torch.cat([subject.expand(200, 16), other.expand(200, 16)]) + noise
    texts = torch.stack([3 * read + 0.3 * subject, 3 * read + 0.3 * other + 0.25 * seen])
    baseline = Embeddings(pictures[:200], space)
    plain, centred = (ContrastGuardrail.from_baseline(texts, 0, baseline, centred=on) for on in (False, True))
    assert not (plain.reading(pictures[:200]) > 0).any()
    assert (centred.reading(pictures[:200]) > 0).all() and (centred.reading(pictures[200:]) < 0).all()
    again = ContrastGuardrail(texts, 0, 0.0, centre=centred.centre)
    assert torch.equal(again.reading(pictures), centred.reading(pictures))


def test_a_contrast_that_keeps_nothing_says_so_and_which_alternative_is_in_the_way(contrast, baseline):
    assert contrast.notes == ()
    names = ["a cat", "a shoe", "the subject", "a cat, too"]
    prototypes = torch.stack([contrast.others[0], contrast.others[1], contrast.subject, contrast.subject])
    rail = ContrastGuardrail.from_baseline(prototypes, 2, baseline, names=names, notes=("One more thing.",))
    assert rail.threshold == pytest.approx(0, abs=1e-12) and len(rail.notes) == 2 and rail.notes[0] == "One more thing."
    assert f"{len(baseline):,} of {len(baseline):,} usual samples are no more like the subject than" in rail.notes[1]
    assert "Nearest is the alternative 'a cat, too'. Leave that one out" in rail.notes[1]
    unnamed = ContrastGuardrail.from_baseline(prototypes, 2, baseline)
    assert "threshold is 0.000, not above 0 (quantile 0.5). Nearest is alternative 3." in unnamed.notes[0]
    same = ContrastGuardrail.from_pictures(baseline, Embeddings(baseline.vectors, baseline.space, ("twin",) * len(baseline)))
    assert "Nearest is the alternative 'twin'" in same.notes[0]


def test_pictures_of_alternatives_are_prototypes_by_label(baseline, mixture):
    others = mixture(9, 3)
    labelled = Embeddings(others.vectors, others.space, ("robot",) * 4 + ("building",) * 5)
    rail = ContrastGuardrail.from_pictures(baseline, labelled)
    assert len(rail.others) == 2 and float(rail.accepts(baseline.vectors).double().mean()) == 0.5
    unit = torch.nn.functional.normalize(others.vectors.double(), dim=1)
    robot = unit[:4].mean(dim=0)
    assert torch.allclose(rail.others[0], robot / robot.norm())
    assert len(ContrastGuardrail.from_pictures(baseline, others).others) == 1


def test_the_anchors_floor_is_the_baselines_quantile(baseline):
    rail = AnchorGuardrail.from_baseline(baseline, 0.1)
    assert float((rail.reading(baseline.vectors) < rail.min_cosine).double().mean()) == pytest.approx(0.1, abs=0.01)


def test_the_residual_limit_is_a_held_out_percentile(density, mixture):
    rail = ResidualGuardrail(density, 90)
    assert float(rail.accepts(mixture(5000, 6).vectors).double().mean()) == pytest.approx(0.9, abs=0.03)


def test_nonsense_is_refused(baseline, density, space):
    for make, message in [
        (lambda: AnchorGuardrail(torch.zeros(16), 0.5), "not zero"),
        (lambda: AnchorGuardrail(torch.ones(16), 1.0), "lowest cosine"),
        (lambda: AnchorGuardrail.from_baseline(baseline, 1.0), "quantile"),
        (lambda: ResidualGuardrail(density, 0), "percentile"),
        (lambda: ContrastGuardrail(torch.ones(1, 16), 0, 0.0), "at least one alternative"),
        (lambda: ContrastGuardrail(torch.ones(2, 16), 2, 0.0), "one of the 2 prototypes"),
        (lambda: ContrastGuardrail(torch.zeros(2, 16), 0, 0.0), "finite and not zero"),
        (lambda: ContrastGuardrail.from_baseline(torch.ones(2, 15), 0, baseline), "15 wide, the embeddings 16"),
        (lambda: ContrastGuardrail(torch.ones(2, 15), 0, 0.0).reading(baseline.vectors), r"shape \[N, 15\]"),
    ]:
        with pytest.raises(RarityError, match=message):
            make()


def test_a_baseline_that_is_all_one_direction_still_makes_an_anchor(space):
    same = Embeddings(torch.ones(60, 16) * torch.arange(1, 61)[:, None], space)
    rail = AnchorGuardrail.from_baseline(same)
    assert rail.accepts(same.vectors).all()


@pytest.mark.parametrize("estimator", ["ledoit-wolf", "oas", "full", "qis", "ppca"])
@pytest.mark.parametrize("count", [150, 1500])
def test_where_nothing_is_left_over_no_single_direction_is_far_out(estimator, count, space):
    """A row 50 standard deviations out along one direction was accepted unless that was the last; usual rows stay."""

    def draw(rows, seed):
        g = torch.Generator().manual_seed(seed)
        return 1 + torch.randn(rows, 16, generator=g) * torch.arange(1, 17).rsqrt()

    accepted = []
    for seed in range(8):  # a percentile of 150 samples is off by a percentage point or two
        components = {"components": 15} if estimator == "ppca" else {}
        density = fit_density(Embeddings(draw(count, seed), space), estimator, **components)
        rail = ResidualGuardrail(density, 95)
        accepted.append(float(rail.accepts(draw(4000, 999)).double().mean()))
        spread = torch.cat([density.frame.variances, torch.tensor([density.frame.residual_variance])]).sqrt()
        axes = torch.linalg.qr(density.frame.basis, mode="complete").Q
        out = density.frame.mean + 50 * spread[:, None] * axes.T
        assert not rail.accepts(out).any() and (rail.penalty(out) > 10).all()
    # Three standard errors of 8 baselines, whose 5 % are 7 and 75 samples each, with as much again from the fits.
    assert sum(accepted) / 8 == pytest.approx(0.95, abs=0.03 if count == 150 else 0.015)


@pytest.mark.parametrize("estimator", ["full", "qis"])
def test_what_is_steered_stays_inside_where_nothing_is_left_over(estimator, space, mixture):
    baseline = mixture(1000, 3)
    density = fit_density(baseline, estimator)
    rail = ResidualGuardrail(density, 99)
    rare = optimize(density, baseline.select(range(40)), 300, (rail,))
    assert rail.accepts(rare.final.vectors).double().mean() >= 0.95
    assert torch.allclose(rare.readings["bits"][-1], torch.full((40,), bits_from_one_in(300)).double(), atol=1e-3)
