"""Measures of sets beside their definitions, written out pair by pair."""

import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError
from rarity.density.novelty.diversity import density_and_coverage, mean_pairwise_distance, rarity_score, vendi_score

SPACE = EmbeddingSpace("test encoder", "0123456789abcdef", 6)


def draw(count, seed=0, offset=0.5, dtype=torch.float32):
    x = offset + torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return Embeddings(x.to(dtype), SPACE)


def of(rows):
    return Embeddings(torch.as_tensor(rows), SPACE)


def literal_vendi(x, order):
    """Eigenvalues of the n x n kernel, entry by entry."""
    n = len(x)
    kernel = torch.tensor([[float(a @ b / (a.norm() * b.norm())) / n for b in x.double()] for a in x.double()])
    values = [v for v in torch.linalg.eigvalsh(kernel.double()).tolist() if v > 1e-14]
    if order == 1:
        return math.exp(-sum(v * math.log(v) for v in values))
    return 1 / sum(v * v for v in values) if order == 2 else 1 / max(values)


@pytest.mark.parametrize("order", [1, 2, math.inf])
@pytest.mark.parametrize("count", [1, 4, 40])
def test_vendi_equals_the_kernel_s_eigenvalues(order, count):
    x = draw(count)
    assert vendi_score(x, order) == pytest.approx(literal_vendi(x.vectors, order), rel=1e-6)


def test_vendi_counts_what_differs():
    for order in (1, 2, math.inf):
        assert vendi_score(of(torch.ones(9, 6)), order) == pytest.approx(1)
        assert vendi_score(of(torch.eye(6)), order) == pytest.approx(6)
        assert vendi_score(of(torch.eye(6)[:3].repeat(50, 1)), order) == pytest.approx(3)


def literal_balls(reference, k):
    """Every |x_i - x_j|, and the k-th smallest to another row."""
    x = reference.vectors.double()
    return [sorted(float((a - b).norm()) for j, b in enumerate(x) if j != i)[k - 1] for i, a in enumerate(x)]


@pytest.mark.parametrize("k", [1, 3, 39])
def test_balls_equal_the_literal_ones(k):
    reference = draw(40)
    items = Embeddings.cat([draw(25, seed=1), draw(3, seed=2, offset=9.0), reference.select([0, 7])])
    radii = literal_balls(reference, k)
    inside = [
        [float((y - x).norm()) <= r * (1 + 1e-12) for x, r in zip(reference.vectors.double(), radii, strict=True)]
        for y in items.vectors.double()
    ]
    density, coverage = density_and_coverage(reference, items, k)
    assert density == pytest.approx(sum(map(sum, inside)) / (k * len(items)))
    assert coverage == pytest.approx(sum(any(row[i] for row in inside) for i in range(40)) / 40)
    scores = rarity_score(reference, items, k)
    for score, row in zip(scores.tolist(), inside, strict=True):
        smallest = [r for r, there in zip(radii, row, strict=True) if there]
        assert score == pytest.approx(min(smallest)) if smallest else math.isnan(score)
    assert k == 39 or scores[25:28].isnan().all()


def test_a_set_covers_itself():
    density, coverage = density_and_coverage(draw(200), draw(200), 5)
    assert coverage == 1 and density == pytest.approx(6 / 5, rel=0.05)  # itself and, on average, k more


def test_identical_rows_have_balls_of_radius_zero_that_hold_their_copies():
    same = of(torch.full((30, 6), 0.1))
    assert density_and_coverage(same, same, 5) == (6.0, 1.0)
    assert (rarity_score(same, same, 5) == 0).all() and rarity_score(same, draw(4), 5).isnan().all()


def test_mean_pairwise_distance_equals_the_literal_one():
    x = draw(50)
    pairs = [float((a - b).norm()) for i, a in enumerate(x.vectors.double()) for b in x.vectors.double()[:i]]
    assert mean_pairwise_distance(x) == pytest.approx(sum(pairs) / len(pairs), rel=1e-9)
    assert mean_pairwise_distance(draw(1)) == 0 == mean_pairwise_distance(of(torch.ones(7, 6)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_constant_columns_work(dtype):
    x = draw(30, dtype=dtype).vectors
    x[:, 2] = 0.25
    x = of(x)
    assert all(math.isfinite(v) for v in (vendi_score(x), mean_pairwise_distance(x), *density_and_coverage(x, x)))


def test_order_of_the_rows_does_not_matter():
    x, shuffled = draw(60), draw(60).select(torch.randperm(60, generator=torch.Generator().manual_seed(1)))
    for measure in (vendi_score, mean_pairwise_distance, lambda e: density_and_coverage(e, draw(9, 1))[0]):
        assert measure(x) == pytest.approx(measure(shuffled), rel=1e-12)


def test_bad_input_says_so():
    with pytest.raises(RarityError, match="orders 1, 2 and inf"):
        vendi_score(draw(4), 3)
    with pytest.raises(RarityError, match="1 of 3 embeddings are zero"):
        vendi_score(of(torch.eye(6)[:3] * torch.tensor([1.0, 0, 1])[:, None]))
    other = Embeddings(torch.ones(9, 6), EmbeddingSpace("another", "f", 6))
    for measure in (density_and_coverage, rarity_score):
        with pytest.raises(RarityError, match="different embedding spaces"):
            measure(draw(9), other)
        with pytest.raises(RarityError, match="k from 1 to 8, got 9"):
            measure(draw(9), draw(9), 9)
