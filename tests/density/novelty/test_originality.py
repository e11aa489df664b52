"""Copies and their probability: the curve beside scikit-learn's, and what it says of copies that were made."""

import json
import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError
from rarity.density.novelty.originality import COPY_RANGE, _copies, originality
from sklearn.linear_model import LogisticRegression


@pytest.fixture(scope="module")
def reference(gaussian):
    return gaussian(400, 1)


@pytest.fixture(scope="module")
def unrelated(gaussian):
    return gaussian(500, 2)


def distances(items, reference):
    return (items.vectors.double()[:, None] - reference.vectors.double()).norm(dim=2).sort(dim=1)


def copies(reference, typical, seed=3):
    """Every reference item moved by a share of the typical distance, even on a logarithmic scale."""
    g = torch.Generator().manual_seed(seed)
    low, high = map(math.log, COPY_RANGE)
    size = typical * torch.exp(low + (high - low) * torch.rand(len(reference), 1, generator=g))
    noise = torch.nn.functional.normalize(torch.randn(reference.vectors.shape, generator=g), dim=1)
    return Embeddings(reference.vectors + size * noise, reference.space)


def test_neighbours_are_the_nearest_ones(reference, unrelated):
    found = originality(unrelated, reference, 4)
    expected = distances(unrelated, reference)
    assert torch.equal(found.indices, expected.indices[:, :4])
    assert torch.allclose(found.distances, expected.values[:, :4], rtol=1e-12)


def literal_separation(items, reference, others=None):
    """d min(1, d / b)^64 of the nearest reference item, b to the nearest of the others or to the second nearest."""
    d = distances(items, reference).values
    b = d[:, 1] if others is None else distances(items, others).values[:, 0]
    return d[:, 0] * (d[:, 0] / b).clamp_max(1).pow(64)


@pytest.mark.parametrize("given", [True, False])
def test_the_curve_is_scikit_learn_s(given, reference, unrelated, gaussian):
    """The same likelihood: each separation counted as both kinds, with the weights of Platt's targets."""
    items, others = gaussian(50, 9), unrelated if given else None
    found = originality(items, reference, 1, unrelated=others)
    if given:
        x = unrelated.vectors.double()
        own = (x[:, None] - x).norm(dim=2).fill_diagonal_(math.inf).amin(dim=1)
        d = distances(unrelated, reference).values[:, 0]
    else:
        d, own = distances(reference, reference).values[:, 1:3].T
    usual, n = d * (d / own).clamp_max(1).pow(64), len(d)
    made = Embeddings(_copies(reference.vectors, float(d.median()), n), reference.space)
    t = torch.cat([usual, literal_separation(made, reference, others)]).log()[:, None].repeat(2, 1).numpy()
    new = [(n + 1) / (n + 2)] * n + [1 / (n + 2)] * n
    fit = LogisticRegression(C=1e12, tol=1e-13, max_iter=100_000)
    fit.fit(t, [1] * 2 * n + [0] * 2 * n, sample_weight=[*new, *(1 - w for w in new)])
    expected = fit.predict_proba(literal_separation(items, reference, others).log()[:, None].numpy())[:, 0]
    assert torch.allclose(found.copy_probability[:, 0], torch.from_numpy(expected), rtol=1e-2, atol=1e-7)


def test_copies_to_learn_from_lie_as_far_off_as_said(reference):
    made = _copies(reference.vectors, 2.0, 300)
    moved = distances(Embeddings(made, reference.space), reference).values[:, 0] / 2.0
    assert moved.min() > COPY_RANGE[0] * 0.99 and moved.max() < COPY_RANGE[1] * 1.01
    assert float(moved.median()) == pytest.approx(math.sqrt(math.prod(COPY_RANGE)), rel=0.1)


def test_copies_are_told_from_the_unrelated(reference, unrelated, gaussian):
    typical = float(distances(unrelated, reference).values[:, 0].median())
    made = originality(copies(reference, typical), reference, 1, unrelated=unrelated)
    fresh = originality(gaussian(500, 9), reference, 1, unrelated=unrelated)
    assert torch.equal(made.indices[:, 0], torch.arange(len(reference)))
    assert float((made.copy_probability > 0.5).double().mean()) > 0.98
    assert float((fresh.copy_probability < 0.5).double().mean()) > 0.98


def test_the_probability_is_calibrated(space):
    """In three dimensions unrelated items do come near: of those given about p, about p are copies."""
    narrow = EmbeddingSpace("test encoder", "f", 3)
    draw = lambda count, seed: Embeddings(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), narrow)  # noqa: E731
    reference, unrelated = draw(2000, 1), draw(2000, 2)
    typical = float(distances(unrelated, reference).values[:, 0].median())
    made = originality(copies(reference, typical), reference, 1, unrelated=unrelated).copy_probability[:, 0]
    fresh = originality(draw(2000, 4), reference, 1, unrelated=unrelated).copy_probability[:, 0]
    p, truth = torch.cat([made, fresh]), torch.cat([torch.ones(2000), torch.zeros(2000)]).double()
    for low, high in ((0, 0.1), (0.1, 0.9), (0.9, 1.01)):
        some = (p >= low) & (p < high)
        assert float(truth[some].mean()) == pytest.approx(float(p[some].mean()), abs=0.1)


def test_an_item_farther_away_is_never_the_likelier_original(reference, unrelated, gaussian):
    items = Embeddings.cat([gaussian(200, 5), copies(reference, 1.0)])
    for others in (None, unrelated):
        found = originality(items, reference, 3, unrelated=others)
        assert (found.copy_probability.diff(dim=1) <= 0).all()


def test_an_exact_copy_is_certain(reference):
    found = originality(reference, reference, 2)
    assert (found.distances[:, 0] == 0).all() and (found.copy_probability[:, 0] == 1).all()
    rows = found.rows()
    assert rows[7][0] == {"index": 7, "distance": 0.0, "copy_probability": 1.0}
    json.dumps(rows, allow_nan=False)


def test_one_reference_item_is_enough_with_unrelated_pictures(reference, unrelated):
    one = reference.select([5])
    found = originality(reference.select([5, 6]), one, 3, unrelated=unrelated)
    assert found.distances.shape == (2, 1) and found.copy_probability[0] == 1 > found.copy_probability[1]


def test_repeats_in_the_reference_do_not_pass_for_the_usual(reference, gaussian):
    twice = Embeddings.cat([reference, reference.select(range(100))])
    found = originality(gaussian(200, 5), twice, 1)
    assert float((found.copy_probability > 0.5).double().mean()) < 0.05


def beside(reference, apart, seed=8):
    """The reference with a near repeat of every item, as a picture kept as PNG and as JPEG; at 0 with an exact one."""
    way = torch.randn(reference.vectors.shape, generator=torch.Generator().manual_seed(seed))
    twins = reference.vectors + apart * torch.nn.functional.normalize(way, dim=1)
    return Embeddings.cat([reference, Embeddings(twins, reference.space)])


@pytest.mark.parametrize("apart", [0.02, 1e-3, 1e-5, 0.0])
@pytest.mark.parametrize("some", [slice(None), slice(0, 40)], ids=["all", "a tenth"])
def test_near_repeats_in_the_reference_change_no_probability(apart, some, reference, gaussian):
    pairs = beside(reference.select(range(400)[some]), apart)
    doubled = Embeddings.cat([pairs, reference.select([i for i in range(400) if i not in range(400)[some]])]) if some.stop else pairs
    fresh, made = gaussian(300, 9), copies(reference, 1.0)
    for items in (fresh, made, reference):
        alone, beside_twins = (originality(items, one, 1).copy_probability[:, 0] for one in (reference, doubled))
        assert float((alone - beside_twins).abs().max()) < 0.05
    assert (originality(reference, doubled, 1).copy_probability == 1).all()


@pytest.mark.parametrize("apart", [None, 0.02])
def test_the_probability_falls_with_the_distance(apart, reference):
    known = reference if apart is None else beside(reference, apart)
    way = torch.nn.functional.normalize(torch.randn(1, 16, generator=torch.Generator().manual_seed(2)), dim=1)
    steps = torch.cat([torch.zeros(1), torch.logspace(-4, 0.3, 40)])
    moved = Embeddings(reference.vectors[7] + steps[:, None] * way, reference.space)
    found = originality(moved, known, 1)
    p = found.copy_probability[found.indices[:, 0] % len(reference) == 7, 0]
    assert p[0] == 1 and (p.diff() <= 1e-12).all() and len(p) > 20


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite(dtype, reference, space):
    found = originality(Embeddings(reference.vectors.to(dtype), space), reference, 1)
    assert torch.isfinite(found.copy_probability).all() and float(found.copy_probability.median()) > 0.9


def test_bad_input_says_so(reference, unrelated, space):
    foreign = Embeddings(unrelated.vectors, EmbeddingSpace("another", "f", 16))
    for items, others in ((foreign, None), (unrelated, foreign)):
        with pytest.raises(RarityError, match="different embedding spaces"):
            originality(items, reference, unrelated=others)
    with pytest.raises(RarityError, match="at least 1 nearest item, got 0"):
        originality(unrelated, reference, 0)
    for few in (reference.select([0]), reference.select(range(9)), Embeddings(torch.ones(50, 16), space)):
        with pytest.raises(RarityError, match="At least 20 unrelated pictures are needed"):
            originality(unrelated, few)
