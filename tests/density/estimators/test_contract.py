"""What every density promises, whatever is inside it; where one cannot keep a promise, the reason stands beside it."""

import itertools
import math

import pytest
import torch
from rarity.density import (
    Density,
    Embeddings,
    EmbeddingSpace,
    GaussianDensity,
    MixtureDensity,
    RarityError,
    fit_density,
    load_density,
    merge_densities,
    save_density,
)
from rarity.density.statistics.sufficient_statistics import Statistics

KINDS = ("ppca", "ledoit-wolf", "oas", "full", "qis", "mixture", "neighbours")
SHRUNK = ("ledoit-wolf", "oas", "full", "qis")  # they have a variance for every direction, so that no components are chosen
METHODS = ("score", "log_prob", "bits")


def fit(kind, embeddings, components=9, **more):
    """A density of some kind. Mixtures have two modes: to choose a number takes ten times as long, and tests of theirs do it."""
    if kind == "mixture":
        return MixtureDensity.fit(embeddings, components=components, modes=2, **more)
    return fit_density(embeddings, kind, components=0 if kind in SHRUNK else components, **more)


def same(one, two):
    """Whether two densities are the same in every bit of what they hold."""
    (fields, tensors), (other_fields, other_tensors) = one.state(), two.state()
    return (
        type(one) is type(two)
        and fields == other_fields
        and tensors.keys() == other_tensors.keys()
        and all(torch.equal(tensor, other_tensors[name]) for name, tensor in tensors.items())
    )


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(kind, baseline):
    return fit(kind, baseline, seed=3)


@pytest.fixture(scope="module")
def few(mixture):
    return mixture(400, 3)


@pytest.fixture(scope="module")
def small(kind, few):
    return fit(kind, few, components=0)


def test_it_knows_its_samples(kind, fitted, space, baseline):
    assert fitted.estimator == kind
    assert fitted.space == space and fitted.count == len(baseline) == fitted.statistics.count
    assert fitted.source == baseline.source and fitted.notes == ()


def test_scores_are_float64_and_agree_with_log_prob_in_order(fitted, mixture):
    x = mixture(300, 6).vectors
    score, log_prob, bits = fitted.score(x), fitted.log_prob(x), fitted.bits(x)
    for values in (score, log_prob, bits, fitted.one_in(x)):
        assert values.shape == (300,) and values.dtype == torch.float64 and torch.isfinite(values).all()
    order = score.argsort()
    assert score.min() >= 0 and (log_prob[order].diff() <= 1e-9).all() and (bits[order].diff() >= 0).all()
    assert torch.allclose(fitted.one_in(x).log2(), bits)


def test_what_the_score_is_to_log_prob(kind, fitted, mixture):
    """Twice the nats below a constant; for neighbours it is a distance, and the nats are d times its logarithm."""
    x = mixture(300, 6).vectors
    score = fitted.score(x)
    nats = -16 * score.log() if kind == "neighbours" else -0.5 * score
    assert torch.allclose(fitted.log_prob(x).diff(), nats.diff(), atol=1e-8)


def test_only_a_gaussian_answers_for_the_one_gaussian_around_all_samples(kind, fitted, mixture):
    """What speaks of that Gaussian is asked of the frame by name; a mixture and neighbours have a score of their own."""
    x = mixture(300, 6).vectors
    one_gaussian = kind not in ("mixture", "neighbours")
    assert isinstance(fitted, Density) and isinstance(fitted, GaussianDensity) == one_gaussian
    assert torch.equal(fitted.score(x), fitted.frame.d2(x)) == one_gaussian
    assert {"d2", "t2", "residual", "residual_limit", "whiten", "mean", "basis", "variances", "spectrum"} <= set(dir(fitted.frame))
    answered = {name for name in dir(fitted) if not name.startswith("_")} & set(dir(fitted.frame))
    assert answered == {"describe", "state", "from_state"}


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
    x = (fitted.frame.mean + 1e4 * (baseline.vectors[:3].double() - fitted.frame.mean)).requires_grad_(True)
    score = fitted.score(x)
    score.sum().backward()
    assert torch.isfinite(score).all() and torch.isfinite(x.grad).all() and (x.grad.abs().sum(1) > 0).all()
    assert (fitted.bits(x) > fitted.bits(baseline.vectors).max()).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "neighbours"])
def test_the_density_integrates_to_one(kind):
    """In two dimensions a fine grid can be summed. The neighbours' estimate falls like |e|^-d: its integral diverges."""
    g = torch.Generator().manual_seed(4)
    x = torch.randn(600, 2, generator=g) * torch.tensor([1.0, 0.5]) + torch.randint(2, (600, 1), generator=g) * 4.0
    fitted = fit(kind, Embeddings(x, EmbeddingSpace("flat", "f", 2)), components=0)
    axis = torch.arange(-12, 18, 0.05, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    assert float(fitted.log_prob(grid).exp().sum() * 0.05**2) == pytest.approx(1, abs=1e-3)


def test_bits_of_fresh_samples_are_what_they_say(kind, fitted, mixture):
    """Within 2.5 standard errors; distances to shared neighbours are not independent, and err together: 4 of them."""
    allowed = 4 if kind == "neighbours" else 2.5
    bits = fitted.bits(mixture(10_000, 2).vectors)
    for wanted in (1.0, 3.0, 5.0, 7.0):
        # Of the share of 2,000 held-out scores, and of 10,000 fresh ones.
        off = allowed * math.sqrt(2**wanted * (1 / 2000 + 1 / 10_000)) / math.log(2)
        assert -math.log2(float((bits >= wanted).double().mean())) == pytest.approx(wanted, abs=off)


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
    assert torch.allclose(fitted.frame.unwhiten(*fitted.frame.whiten(baseline.vectors)), baseline.vectors.double(), atol=1e-12)


def test_draws_repeat_with_the_seed_and_look_usual(fitted, space):
    draws = fitted.sample(2000, seed=5)
    assert draws.space == space and draws.source["kind"] == "drawn from the density"
    assert torch.equal(draws.vectors, fitted.sample(2000, seed=5).vectors)
    assert not torch.equal(draws.vectors, fitted.sample(2000, seed=6).vectors)
    assert fitted.bits(draws.vectors).median() < 3
    assert fitted.sample(1, seed=0).vectors.shape == (1, 16)


def test_the_same_seed_is_the_same_density_and_the_global_state_is_left_alone(kind, few, small):
    before = torch.get_rng_state()
    assert same(small, fit(kind, few, components=0))
    assert torch.equal(before, torch.get_rng_state())


def test_under_inference_mode_all_is_ordinary_and_the_same(kind, few, small, mixture):
    with torch.inference_mode():
        inside = fit(kind, few, components=0)
        bits = inside.bits(mixture(5, 1).vectors)
        assert not inside.sample(3).vectors.is_inference()
    assert not any(tensor.is_inference() for tensor in inside.state()[1].values())
    assert same(inside, small) and torch.equal(bits, small.bits(mixture(5, 1).vectors))
    x = mixture(2, 1).vectors.requires_grad_(True)
    inside.score(x).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_batches_are_learnt_from_as_the_whole(kind, few, small):
    batches = (few.select(range(i, min(i + 90, 400))) for i in range(0, 400, 90))
    assert same(fit(kind, batches, components=0), small)


def test_the_order_of_samples_does_not_matter(kind, few, small):
    mixed = few.select(torch.randperm(400, generator=torch.Generator().manual_seed(1)))
    assert same(fit(kind, mixed, components=0), small)


def test_shards_merge_to_the_fit_of_the_whole_in_any_order(kind, few, small):
    shards = [fit(kind, few.select(range(*ends)), components=0) for ends in ((0, 150), (150, 250), (250, 400))]
    assert all(shard.estimator == kind for shard in shards)
    assert same(merge_densities(shards), small)
    assert same(merge_densities(shards[::-1]), small)
    with pytest.raises(RarityError, match="same seed"):
        merge_densities([shards[0], small])


def test_only_what_belongs_together_merges(kind, small, mixture, gaussian):
    elsewhere = Embeddings(mixture(200, 9).vectors, EmbeddingSpace("another encoder", "f", 16))
    with pytest.raises(RarityError, match="different embedding spaces"):
        merge_densities([small, fit(kind, elsewhere, components=0)])
    other = "ppca" if kind == "neighbours" else "neighbours"
    with pytest.raises(RarityError, match="of the estimators"):
        merge_densities([small, fit(other, gaussian(200, 9), components=0)])


def test_a_file_makes_the_same_density_again(fitted, mixture, tmp_path):
    save_density(fitted, tmp_path / "d.safetensors")
    again = load_density(tmp_path / "d.safetensors")
    x = mixture(50, 9).vectors
    for method in METHODS:
        assert torch.equal(getattr(again, method)(x), getattr(fitted, method)(x)), method
    assert torch.equal(again.frame.residual(x), fitted.frame.residual(x))
    assert torch.equal(again.sample(4, 1).vectors, fitted.sample(4, 1).vectors)
    assert again.describe(1000) == fitted.describe(1000) and same(again, fitted)


def test_a_density_from_a_file_merges_on(kind, few, small, tmp_path):
    shards = [fit(kind, few.select(range(*ends)), components=0) for ends in ((0, 200), (200, 400))]
    for i, shard in enumerate(shards):
        save_density(shard, tmp_path / f"{i}.safetensors")
    assert same(merge_densities([load_density(tmp_path / f"{i}.safetensors") for i in range(2)]), small)


def test_a_damaged_state_is_refused(fitted):
    fields, tensors = fitted.state()
    for name in ("basis", "variances", "calibration_scores"):
        with pytest.raises(RarityError, match="damaged"):
            type(fitted).from_state(fields, {**tensors, name: -tensors[name].abs() - 1})
    for name, wrong in (("residual_variance", -1.0), ("count", 0), ("norm_range", [2.0, 1.0]), ("estimator", "odd")):
        with pytest.raises(RarityError, match="damaged"):
            type(fitted).from_state({**fields, name: wrong}, tensors)


def test_the_description_is_in_plain_words(fitted):
    text = fitted.describe(1000)
    assert 'of "a test"' in text and "1 in 1,000 is 10.0 bits" in text and "between 1 in" in text
    with pytest.raises(RarityError):
        fitted.describe(100_000_000)


def test_progress_ends_at_its_total_and_cancels(kind, few):
    seen = []
    fit(kind, few, components=3, progress=lambda done, total: seen.append((done, total)))
    (total,) = {total for _, total in seen[1:]}
    moves = {later[0] - earlier[0] for earlier, later in itertools.pairwise(seen)}
    assert moves <= {0, 1} and seen[0][0] == 0 and seen[-1] == (total, total)

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(kind, few, components=3, progress=cancel)


def test_half_precision_samples_are_learnt_from_as_their_float32_values(kind, few):
    for dtype in (torch.float16, torch.bfloat16):
        half = few.vectors.to(dtype)
        one, two = (fit(kind, Embeddings(x, few.space), components=0) for x in (half, half.float()))
        assert same(one, two)


def test_rows_that_are_not_finite_and_repeats_are_dropped_counted_and_said(kind, few, small):
    """Embeddings refuse such rows; statistics of a stream drop them."""
    bad = few.vectors[:5].clone()
    bad[0, 3], bad[1, 0], bad[2, 15] = math.nan, math.inf, -math.inf
    statistics = Statistics(16).update(torch.cat([bad, few.vectors]))
    assert (statistics.count, statistics.dropped, statistics.repeats) == (400, 3, 2)
    density = type(small).from_statistics(statistics, few.space, source=few.source, **estimator(kind))
    assert "2 of 405 samples were repeats" in density.notes[0]
    assert "3 of 405 samples were not finite" in density.notes[1]
    x = few.vectors[:50]
    assert torch.equal(density.score(x), small.score(x)) and torch.equal(density.bits(x), small.bits(x))


def estimator(kind):
    """What `from_statistics` is told: the class says it already, but for the four that one class holds."""
    return {} if kind in ("mixture", "neighbours") else {"estimator": kind}


def test_columns_that_never_change(kind, few):
    still = few.vectors.clone()
    still[:, 4:7] = 0.25
    embeddings = Embeddings(still, few.space)
    if kind == "full":  # such a covariance has no inverse
        with pytest.raises(RarityError, match="vary in 13 of 16 directions only, too few for a full covariance"):
            fit(kind, embeddings)
        return
    density = fit(kind, embeddings, components=0)
    moved = still[:20].clone()
    moved[:, 5] += 10
    assert torch.isfinite(density.log_prob(still)).all()
    assert (density.bits(moved) > density.bits(still[:20])).all()
    assert density.bits(moved).min() > 3


def test_bad_input_is_refused(kind, fitted, gaussian, space, few, mixture):
    with pytest.raises(RarityError, match=r"Expected embeddings of shape \[N, 16\], got \(4, 15\)"):
        fitted.score(torch.zeros(4, 15))
    with pytest.raises(RarityError, match="at least 50 different ones are needed, got 30"):
        fit(kind, gaussian(30), components=0)
    with pytest.raises(RarityError, match="at least 50 different ones are needed, got 1"):
        fit(kind, Embeddings(torch.ones(200, 16), space))
    elsewhere = Embeddings(mixture(200, 9).vectors, EmbeddingSpace("another encoder", "f", 16))
    with pytest.raises(RarityError, match="different embedding spaces"):
        fit(kind, [few, elsewhere])
    with pytest.raises(RarityError, match="no embeddings to learn a density from"):
        fit(kind, iter(()))
    with pytest.raises(RarityError, match="Components are chosen for" if kind in SHRUNK else "1 to 15 components"):
        fit_density(few, kind, components=16)
