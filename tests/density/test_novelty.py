"""Readings of novelty beside their formulas, written out with full matrices one picture at a time."""

import json
import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity, RarityError
from rarity.density import novelty as module
from rarity.density.exposure import ExposureMemory
from rarity.density.novelty import (
    RESOLUTION,
    bayesian_surprise,
    conformity,
    information_gain,
    predictive_surprisal,
    score_novelty,
    session_gains,
    unseen_distances,
)
from scipy.stats import multivariate_t


@pytest.fixture(scope="module")
def items(mixture):
    return mixture(12, 21)


@pytest.fixture(scope="module")
def empty(space):
    return ExposureMemory(space)


@pytest.fixture(scope="module")
def memory(empty, mixture):
    return empty.update(mixture(5, 22)).forget(0.7).update(mixture(4, 23))


def covariance(density):
    inside = density.basis @ density.basis.T
    rest = density.residual_variance * (torch.eye(16, dtype=torch.float64) - inside)
    return density.basis @ density.variances.diag() @ density.basis.T + rest


def literal_whitened(density, x):
    values, vectors = torch.linalg.eigh(covariance(density))
    return (x.double() - density.mean) @ (vectors * values**-0.5) @ vectors.T


def test_predictive_surprisal_is_scipy_s_student_t(density, memory, empty, items):
    for seen in (memory, empty):
        belief = seen.belief(density)
        shape = covariance(density).numpy() * (belief.kappa + 1) / belief.kappa
        expected = multivariate_t(belief.mean.numpy(), shape, density.count - 16).logpdf(items.vectors.double().numpy())
        assert torch.allclose(
            predictive_surprisal(items, density, seen), -torch.from_numpy(expected) / math.log(2), rtol=1e-9
        )


def test_bayesian_surprise_is_the_divergence_of_the_two_beliefs(density, memory, empty, items):
    for seen in (memory, empty):
        before = seen.belief(density)
        normal = torch.distributions.MultivariateNormal
        prior = normal(before.mean, covariance(density) / before.kappa)
        for i, surprise in enumerate(bayesian_surprise(items, density, seen)):
            after = seen.update(items.select([i])).belief(density)
            posterior = normal(after.mean, covariance(density) / after.kappa)
            expected = torch.distributions.kl_divergence(posterior, prior) / math.log(2)
            assert float(surprise) == pytest.approx(float(expected), rel=1e-8)


def test_bayesian_surprise_fades_with_exposure(density, mixture, empty, items):
    once, often = empty.update(mixture(10, 1)), empty.update(mixture(1000, 1))
    ratio = bayesian_surprise(items, density, often) / bayesian_surprise(items, density, once)
    assert (ratio < 0.05).all()


def test_information_gain_equals_the_inverse_formula(density, memory, empty, items, monkeypatch):
    monkeypatch.setattr(module, "RESOLUTION", 0.01)  # so that the plain inverse keeps its digits, too
    v = literal_whitened(density, items.vectors)
    for seen in (memory, empty):
        rows = literal_whitened(density, seen.vectors)
        a = torch.eye(16, dtype=torch.float64)
        for w, row in zip(seen.weights, rows, strict=True):
            a += w * torch.outer(row, row) / 0.01
        expected = [0.5 * math.log2(1 + float(x @ torch.linalg.inv(a) @ x) / 0.01) for x in v]
        assert information_gain(items, density, seen).tolist() == pytest.approx(expected, rel=1e-8)


def test_a_repeat_gains_almost_nothing(density, empty, items):
    first = information_gain(items, density, empty)
    for i, gain in enumerate(first):
        again = information_gain(items.select([i]), density, empty.update(items.select([i])))
        assert 0 < again < 0.05 * gain


def test_session_gains_are_those_of_a_memory_that_takes_each_picture_in(density, memory, items):
    seen, gains = memory, []
    for i in range(len(items)):
        gains.append(float(information_gain(items.select([i]), density, seen)))
        seen = seen.update(items.select([i]))
    assert session_gains(items, density, memory).tolist() == pytest.approx(gains, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("block", [5, 256])
def test_a_session_s_total_does_not_depend_on_its_order(block, density, memory, empty, mixture, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    session = Embeddings.cat([mixture(40, 3), mixture(4, 3)])  # four shown twice
    for seen in (memory, empty):
        totals = [
            float(
                session_gains(
                    session.select(torch.randperm(44, generator=torch.Generator().manual_seed(s))), density, seen
                ).sum()
            )
            for s in range(6)
        ]
        assert max(totals) - min(totals) < 1e-9 * min(totals)


def test_a_session_s_total_is_the_determinant(density, empty, mixture):
    session = mixture(60, 3)
    v = literal_whitened(density, session.vectors)
    expected = 0.5 * torch.linalg.eigvalsh(v.T @ v / RESOLUTION).log1p().sum() / math.log(2)
    assert float(session_gains(session, density, empty).sum()) == pytest.approx(float(expected), rel=1e-9)


def test_nearest_and_survival_equal_the_literal_ones(density, memory, items, mixture):
    reading = score_novelty(items, density, memory, baseline=mixture(500, 31))
    distances = (items.vectors.double()[:, None] - memory.vectors.double()).norm(dim=2)
    assert torch.equal(reading.nearest, distances.argmin(dim=1))
    assert torch.allclose(reading.distance, distances.amin(dim=1), rtol=1e-12)
    unseen = (mixture(500, 31).vectors.double()[:, None] - memory.vectors.double()).norm(dim=2).amin(dim=1)
    threshold = unseen.sort().values[449]
    for survival, d in zip(reading.survival.tolist(), reading.distance, strict=True):
        if d <= threshold:
            assert survival == pytest.approx((1 + int((unseen >= d - 1e-12).sum())) / 501)
        else:
            assert survival < 0.11


@pytest.mark.parametrize("kind, shares", [("mixture", (0.9, 0.5, 0.2)), ("gaussian", (0.9, 0.5, 0.1, 0.05, 0.01))])
def test_survival_is_calibrated(kind, shares, empty, request):
    """A share p of fresh pictures is at least as far out as where the survival is p.

    Past the nine tenths a smooth tail stands for the distances: right for one mode, rough where modes are lumps.
    """
    draw = request.getfixturevalue(kind)
    fresh = score_novelty(
        draw(3000, 41), GaussianDensity.fit(draw(2000, 1)), empty.update(draw(9, 22)), baseline=draw(2000, 42)
    )
    for p in shares:
        assert float((fresh.survival <= p).double().mean()) == pytest.approx(p, abs=4 * math.sqrt(p / 2000))


def test_novelty_is_the_smaller_and_copies_have_none(density, memory, items, mixture):
    new = score_novelty(items, density, memory, baseline=mixture(500, 31))
    assert torch.equal(new.novelty, torch.minimum(new.global_bits, new.local_bits))
    noise = 1e-3 * torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
    copies = Embeddings(items.vectors + noise, items.space)
    seen = score_novelty(copies, density, memory.update(items), baseline=mixture(500, 31))
    assert (seen.novelty < 0.01).all() and (seen.bits > 0.01).any() and (new.novelty > 0.01).any()


def test_global_bits_follow_the_belief(density, memory, items):
    mean, precision = memory.belief(density).mean, torch.linalg.inv(covariance(density))
    d2 = torch.stack([(x - mean) @ precision @ (x - mean) for x in items.vectors.double()])
    assert torch.allclose(score_novelty(items, density, memory).global_bits, density.calibration.bits(d2), rtol=1e-6)


def test_an_empty_memory_leaves_the_density_s_own_bits(density, empty, items):
    reading = score_novelty(items, density, empty)
    assert torch.equal(reading.novelty, density.bits(items.vectors)) and torch.equal(reading.bits, reading.novelty)
    assert (reading.nearest == -1).all() and reading.distance.isinf().all() and (reading.survival == 0).all()
    rows = reading.rows()
    assert len(rows) == 12 and rows[0]["distance"] is None and rows[0]["nearest"] == -1
    json.dumps(rows, allow_nan=False)


def test_items_of_no_weight_change_nothing(density, memory, items):
    glanced = memory.update(items, [0.0] * 12)
    assert score_novelty(items, density, glanced).rows() == score_novelty(items, density, memory).rows()


def test_order_of_the_pictures_does_not_matter(density, memory, items):
    one, other = (score_novelty(e, density, memory) for e in (items, items.select(range(11, -1, -1))))
    for name in one.__dataclass_fields__:
        assert torch.allclose(getattr(one, name), getattr(other, name).flip(0), rtol=1e-9)


def test_a_faded_memory_without_items_still_moves_the_belief(density, memory, items):
    faded = memory.forget(1e-4)
    reading = score_novelty(items, density, faded)
    assert len(faded) == 0 and (reading.nearest == -1).all() and not torch.equal(reading.global_bits, reading.bits)


def test_conformity_is_a_cosine_to_the_mean(density, items):
    expected = [float(x @ density.mean / (x.norm() * density.mean.norm())) for x in items.vectors.double()]
    assert conformity(items, density).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_identical_rows_are_finite(dtype, density, memory, space, mixture):
    same = Embeddings(mixture(1, 9).vectors.expand(6, -1).to(dtype), space)
    reading = score_novelty(same, density, memory.update(same))
    assert all(None not in row.values() for row in reading.rows()) and (reading.novelty == 0).all()


def test_bad_input_says_so(density, memory, items, mixture):
    foreign = EmbeddingSpace("another", "f", 16)
    others = Embeddings(items.vectors, foreign)
    measures = (predictive_surprisal, bayesian_surprise, information_gain, session_gains, score_novelty)
    for use in measures:
        with pytest.raises(RarityError, match="different embedding spaces"):
            use(others, density, memory)
        with pytest.raises(RarityError, match="different embedding spaces"):
            use(items, density, ExposureMemory(foreign))
    with pytest.raises(RarityError, match="different embedding spaces"):
        score_novelty(items, density, memory, baseline=others)
    with pytest.raises(RarityError, match="at least 50"):
        unseen_distances(density, memory, baseline=mixture(20, 1))
