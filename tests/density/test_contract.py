"""What every density promises, whatever is inside it."""

import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, GaussianDensity, MixtureDensity, RarityError

KINDS = [GaussianDensity, MixtureDensity]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(kind, baseline):
    return kind.fit(baseline, components=9, seed=3)


def test_it_knows_its_samples(fitted, space, baseline):
    assert fitted.space == space and fitted.count == len(baseline)
    assert fitted.source == baseline.source and fitted.notes == ()


def test_scores_are_float64_and_agree_with_log_prob_in_order(fitted, mixture):
    x = mixture(300, 6).vectors
    score, log_prob, bits = fitted.score(x), fitted.log_prob(x), fitted.bits(x)
    for values in (score, log_prob, bits, fitted.one_in(x)):
        assert values.shape == (300,) and values.dtype == torch.float64 and torch.isfinite(values).all()
    order = score.argsort()
    assert score.min() >= 0 and (log_prob[order].diff() <= 1e-9).all() and (bits[order].diff() >= 0).all()
    assert torch.allclose(score.diff(), -2 * log_prob.diff(), atol=1e-8)
    assert torch.allclose(fitted.one_in(x).log2(), bits)


def test_half_precision_and_double_agree(fitted, mixture):
    x = mixture(40, 6).vectors.half()
    assert torch.equal(fitted.score(x), fitted.score(x.double()))
    assert torch.equal(fitted.bits(x.bfloat16()), fitted.bits(x.bfloat16().float()))


def test_rows_do_not_depend_on_each_other(fitted, mixture):
    x = mixture(30, 6).vectors
    alone = torch.cat([fitted.log_prob(row[None]) for row in x])
    assert torch.allclose(alone, fitted.log_prob(x), rtol=1e-12)


def test_the_gradient_equals_finite_differences(fitted, mixture):
    x = mixture(4, 4).vectors.double().requires_grad_(True)
    assert torch.autograd.gradcheck(fitted.score, (x,), eps=1e-6, atol=1e-4)
    assert torch.autograd.gradcheck(fitted.log_prob, (x,), eps=1e-6, atol=1e-4)


def test_far_away_is_finite_and_rarer(fitted, baseline):
    x = (fitted.mean + 1e4 * (baseline.vectors[:3].double() - fitted.mean)).requires_grad_(True)
    score = fitted.score(x)
    score.sum().backward()
    assert torch.isfinite(score).all() and torch.isfinite(x.grad).all() and (x.grad.abs().sum(1) > 0).all()
    assert (fitted.bits(x) > fitted.bits(baseline.vectors).max()).all()


def test_the_density_integrates_to_one(kind):
    """In two dimensions a fine grid can be summed."""
    g = torch.Generator().manual_seed(4)
    x = torch.randn(600, 2, generator=g) * torch.tensor([1.0, 0.5]) + torch.randint(2, (600, 1), generator=g) * 4.0
    fitted = kind.fit(Embeddings(x, EmbeddingSpace("flat", "f", 2)), seed=1)
    axis = torch.arange(-12, 18, 0.05, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    assert float(fitted.log_prob(grid).exp().sum() * 0.05**2) == pytest.approx(1, abs=1e-3)


def test_bits_of_fresh_samples_are_what_they_say(kind, mixture):
    fitted = kind.fit(mixture(4000, 1), seed=2)
    bits = fitted.bits(mixture(20_000, 2).vectors)
    for wanted in (1.0, 3.0, 5.0, 7.0):
        assert -math.log2(float((bits >= wanted).double().mean())) == pytest.approx(wanted, abs=0.5)


def test_score_at_inverts_the_calibration_and_the_interval_holds_it(fitted, mixture):
    for bits in (0.5, 4.0, 10.0, 20.0):
        score = torch.tensor(fitted.score_at(bits), dtype=torch.float64)
        assert float(fitted.calibration.bits(score)) == pytest.approx(bits, abs=0.01)
        low, high = fitted.interval(bits)
        assert low <= bits + 0.01 and bits - 0.01 <= high
    x = mixture(50, 8).vectors
    low, high = fitted.interval(x)
    assert ((low <= fitted.bits(x)) & (fitted.bits(x) <= high)).all()


def test_whitening_round_trips(fitted, baseline):
    assert torch.allclose(fitted.unwhiten(*fitted.whiten(baseline.vectors)), baseline.vectors.double(), atol=1e-12)


def test_draws_repeat_with_the_seed_and_look_usual(fitted, space):
    draws = fitted.sample(2000, seed=5)
    assert draws.space == space and draws.source["kind"] == "drawn from the density"
    assert torch.equal(draws.vectors, fitted.sample(2000, seed=5).vectors)
    assert not torch.equal(draws.vectors, fitted.sample(2000, seed=6).vectors)
    assert fitted.bits(draws.vectors).median() < 3
    assert fitted.sample(1, seed=0).vectors.shape == (1, 16)


def test_the_same_seed_is_the_same_density_and_the_global_state_is_left_alone(kind, baseline):
    before = torch.get_rng_state()
    one, two = (kind.fit(baseline, components=5, seed=7).state() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert one[0] == two[0] and one[1].keys() == two[1].keys()
    for name, tensor in one[1].items():
        assert torch.equal(tensor, two[1][name]), name


def test_under_inference_mode_all_is_ordinary_and_the_same(kind, baseline, mixture):
    plain = kind.fit(baseline, components=5, seed=7)
    with torch.inference_mode():
        inside = kind.fit(baseline, components=5, seed=7)
        bits = inside.bits(mixture(5, 1).vectors)
        assert inside.sample(3).vectors.is_inference() is False
    for name, tensor in inside.state()[1].items():
        assert not tensor.is_inference() and torch.equal(tensor, plain.state()[1][name]), name
    assert torch.equal(bits, plain.bits(mixture(5, 1).vectors))
    x = mixture(2, 1).vectors.requires_grad_(True)
    inside.score(x).sum().backward()
    assert x.grad is not None


def test_the_state_makes_the_same_density_again(kind, fitted, mixture):
    fields, tensors = fitted.state()
    again = kind.from_state(fields, tensors)
    x = mixture(50, 9).vectors
    for method in ("score", "log_prob", "bits", "t2", "residual"):
        assert torch.equal(getattr(again, method)(x), getattr(fitted, method)(x)), method
    assert torch.equal(again.sample(4, 1).vectors, fitted.sample(4, 1).vectors)
    assert again.describe(1000) == fitted.describe(1000)
    assert again.state()[0] == fields


def test_a_damaged_state_is_refused(kind, fitted):
    fields, tensors = fitted.state()
    for name in ("basis", "variances", "calibration_scores"):
        with pytest.raises(RarityError, match="damaged"):
            kind.from_state(fields, {**tensors, name: -tensors[name].abs() - 1})
    for name, wrong in (("residual_variance", -1.0), ("count", 0), ("norm_range", [2.0, 1.0])):
        with pytest.raises(RarityError, match="damaged"):
            kind.from_state({**fields, name: wrong}, tensors)


def test_the_description_is_in_plain_words(fitted):
    text = fitted.describe(1000)
    assert 'of "a test"' in text and "1 in 1,000 is 10.0 bits" in text and "between 1 in" in text
    with pytest.raises(RarityError):
        fitted.describe(100_000_000)


def test_progress_ends_at_its_total_and_cancels(kind, baseline):
    seen = []
    kind.fit(baseline, components=3, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1)) and seen[-1][0] == seen[-1][1]

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kind.fit(baseline, components=3, progress=cancel)


def test_bad_input_is_refused(kind, fitted, gaussian, space, baseline):
    with pytest.raises(RarityError, match=r"Expected embeddings of shape \[N, 16\], got \(4, 15\)"):
        fitted.score(torch.zeros(4, 15))
    with pytest.raises(RarityError, match="at least 50 different ones are needed, got 30"):
        kind.fit(gaussian(30))
    with pytest.raises(RarityError, match="at least 50 different ones"):
        kind.fit(Embeddings(torch.ones(200, 16), space))
    with pytest.raises(RarityError, match="1 to 15 components"):
        kind.fit(baseline, components=16)
    doubled = kind.fit(Embeddings.cat([baseline, baseline.select(range(100))]), components=3)
    assert doubled.count == 2000 and "100 of 2,100 samples were exact repeats" in doubled.notes[0]
