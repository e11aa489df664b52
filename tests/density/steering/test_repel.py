"""Away, not towards: the sign, the literal formulas and what the limits mean."""

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, Guardrail, RarityError, optimize
from rarity.density.steering.repel import RepelGuardrail, distance

FLAT = EmbeddingSpace("flat", "0123", 2)


def rails(density, baseline):
    return [RepelGuardrail.from_density(density, 6), RepelGuardrail.from_examples(baseline.select(range(3)), baseline, 0.5)]


def test_on_a_map_the_arrow_points_away():
    """One example at the origin: from (1, 0) downhill is to the right, from (0, -1) down."""
    rail = RepelGuardrail(Embeddings(torch.zeros(1, 2), FLAT), 3.0, scale=0.5)
    x = torch.tensor([[1.0, 0.0], [0.0, -1.0], [4.0, 0.0]], dtype=torch.float64, requires_grad=True)
    penalty = rail.penalty(x)
    assert penalty.tolist() == [4.0, 4.0, 0.0]  # (3 - 1) / 0.5
    (gradient,) = torch.autograd.grad(penalty.sum(), x)
    assert torch.equal(-gradient, torch.tensor([[2.0, 0.0], [0.0, -2.0], [0.0, 0.0]], dtype=torch.float64))
    assert rail.accepts(x).tolist() == [False, False, True]


def test_the_distances_are_the_literal_formulas(density, baseline, mixture):
    x = mixture(20, 4).vectors.double()
    examples = baseline.select(range(5))
    nearest = [min(float((row - e.double()).norm()) for e in examples.vectors) for row in x]
    assert torch.allclose(distance(x, examples), torch.tensor(nearest).double(), atol=1e-12)
    assert torch.allclose(distance(x, density), density.score(x).sqrt(), atol=1e-9)


def test_a_step_down_the_penalty_leads_away(density, baseline):
    for rail in rails(density, baseline):
        assert isinstance(rail, Guardrail)
        x = (baseline.vectors[:3].double() + 0.01).requires_grad_(True)
        penalty = rail.penalty(x)
        assert (penalty > 0).all()
        (gradient,) = torch.autograd.grad(penalty.sum(), x)
        assert (rail.reading(x - 1e-3 * gradient) > rail.reading(x)).all()


def test_limits_are_the_usual_ones(density, baseline, mixture):
    usual, apart = rails(density, baseline)
    assert float(usual.accepts(mixture(4000, 8).vectors).double().mean()) == pytest.approx(2**-6, abs=0.01)
    x = baseline.vectors.double()
    pairs = (x[:1000] - x[1000:]).norm(dim=1)  # of the baseline, in its own order: no row twice
    assert apart.limit == pytest.approx(float(pairs.median()), rel=0.1)
    assert apart.scale == pytest.approx(float(pairs.std()), rel=0.2)


def test_a_rare_result_stays_clear_of_an_example(density, baseline):
    starts = baseline.select(range(12))
    shut = optimize(density, starts, 300, steps=30).final.select(range(4))
    rail = RepelGuardrail.from_examples(shut, baseline, 0.5)
    assert not rail.accepts(optimize(density, starts, 300, steps=30).final.vectors)[:4].any()
    kept = optimize(density, starts, 300, (rail,), steps=60)
    assert kept.accepted.all() and kept.in_band.all() and "repel" in kept.readings


def test_nonsense_is_refused(baseline, density):
    same = baseline.select([0, 0, 0])
    foreign = Embeddings(baseline.vectors[:2], EmbeddingSpace("another", "encoder", 16))
    for make, message in [
        (lambda: RepelGuardrail(density, 0.0, scale=1.0), "positive numbers, got 0.0"),
        (lambda: RepelGuardrail.from_examples(foreign, baseline), "different embedding spaces"),
        (lambda: RepelGuardrail.from_examples(baseline, same), "at least two different samples"),
        (lambda: RepelGuardrail.from_examples(same, baseline, 1.0), "quantile"),
        (lambda: distance(torch.ones(3, 2), baseline), r"shape \[N, 16\]"),
    ]:
        with pytest.raises(RarityError, match=message):
            make()
