"""Nearest neighbours beside every distance written out, and where products of float32 fail."""

import pytest
import torch
from rarity.density import RarityError
from rarity.density.estimators import nearest as module
from rarity.density.estimators.nearest import kth_radii, nearest, squared_distances


def literal(queries, reference):
    """Every |q - r| in float64."""
    return (queries.double()[:, None] - reference.double()[None]).square().sum(-1).sqrt()


def points(count, width=24, seed=0, offset=0.0):
    return offset + torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("offset", [0.0, 30.0, 3000.0])
@pytest.mark.parametrize("k", [1, 5, 300])
def test_neighbours_equal_the_literal_ones(k, offset, monkeypatch):
    monkeypatch.setattr(module, "TILE", 64)
    q, r = points(40, seed=1, offset=offset), points(300, offset=offset)
    distances, indices = nearest(q, r, k)
    expected = literal(q, r).sort(dim=1)
    assert torch.allclose(distances, expected.values[:, :k], rtol=1e-12)
    assert torch.allclose(literal(q, r).gather(1, indices), distances, rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1.0, 3.9, 4.1, 300.0])
def test_ordinary_rows_are_searched_once_whether_shifted_or_not(offset, monkeypatch):
    """The slow search of a single query is for crowds that float32 cannot tell apart."""
    monkeypatch.setattr(module, "TILE", 1000)
    monkeypatch.setattr(module, "_directly", lambda *_: pytest.fail("searched again"))
    q, r = points(30, 96, seed=1, offset=offset), points(3000, 96, offset=offset)
    assert module._lies_far_off(r, module._centre(r)) == (offset > 4)
    distances, indices = nearest(q, r, 5)
    expected = literal(q, r).sort(dim=1)
    assert torch.equal(indices, expected.indices[:, :5])
    assert torch.allclose(distances, expected.values[:, :5], rtol=1e-12)


@pytest.mark.parametrize("noise", [1e-1, 1e-3, 1e-5])
def test_near_duplicates_are_exact(noise):
    """Far from the origin, as embeddings are, a distance from products is off by tens of per cent."""
    r = points(5000, 64, offset=4.0)
    q = r[:50].double() + noise * points(50, 64, seed=2).double()
    distances, indices = nearest(q, r)
    true = (q - r[:50].double()).norm(dim=1)
    assert (indices[:, 0] == torch.arange(50)).all() and ((distances[:, 0] - true).abs() < 1e-6 * true).all()


def test_identical_rows_are_zero_apart_and_crowds_of_copies_hide_nobody():
    r = torch.cat([points(1, seed=3).expand(500, -1), points(20)])
    distances, indices = nearest(r[:1], r, 501)
    assert (distances[0, :500] == 0).all() and distances[0, 500] > 0 and len(indices.unique()) == 501
    assert nearest(r[510:511], r)[1].item() == 510


def test_a_crowd_of_near_duplicates_is_ranked_exactly():
    """A hundred rows closer together than float32 products can tell: the search must notice that it cannot."""
    r = 10 + points(1, 64).double() + 1e-7 * points(100, 64, seed=4).double()
    r = torch.cat([r, 10 + points(1000, 64, seed=5).double()])
    distances, _ = nearest(r[:100], r, 3)
    assert torch.allclose(distances, literal(r[:100], r).sort(dim=1).values[:, :3], rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_exactly(dtype):
    q, r = points(5).to(dtype), points(40, seed=1).to(dtype)
    assert torch.allclose(nearest(q, r, 2)[0], literal(q, r).sort(dim=1).values[:, :2], rtol=1e-12)


def test_huge_numbers_do_not_overflow():
    q, r = 1e30 * points(3), 1e30 * points(50, seed=1)
    assert torch.allclose(nearest(q, r, 2)[0], literal(q, r).sort(dim=1).values[:, :2], rtol=1e-12)


@pytest.mark.parametrize("k", [1, 4, 59])
def test_kth_radii_equal_the_literal_ones(k):
    x = torch.cat([points(50), points(10)])  # ten rows twice
    expected = literal(x, x).fill_diagonal_(float("inf")).sort(dim=1).values[:, k - 1]
    assert torch.allclose(kth_radii(x, k), expected, rtol=1e-12)


def test_radii_of_identical_rows_are_zero():
    assert (kth_radii(torch.ones(100, 3), 5) == 0).all()


def test_squared_distances_cover_every_pair_once():
    q = points(1100, 4)
    r = torch.cat([q[:1030], points(3, 4, seed=7)])
    whole = torch.full((len(q), len(r)), float("nan"), dtype=torch.float64)
    for some, others, squares in squared_distances(q, r):
        assert whole[some, others].isnan().all()
        whole[some, others] = squares
    assert torch.allclose(whole, literal(q, r).square(), rtol=1e-9, atol=0) and (whole.diagonal()[:1030] == 0).all()


def test_bad_input_says_so():
    x = points(5)
    for k in (0, 6, -1):
        with pytest.raises(RarityError, match="k must be 1 to the 5 rows"):
            nearest(x, x, k)
    with pytest.raises(RarityError, match="k from 1 to 4, got 5"):
        kth_radii(x, 5)
    with pytest.raises(RarityError, match="one width"):
        nearest(x, points(5, 7))
    with pytest.raises(RarityError, match="1 of 5 queries hold values that are not finite"):
        nearest(torch.where(torch.arange(5)[:, None] == 2, float("nan"), x), x)
    with pytest.raises(RarityError, match="shape"):
        nearest(x[0], x)
    assert nearest(x[:0], x)[0].shape == (0, 1)


def test_memory_is_bounded():
    """Peak extra memory stays below the full matrix of distances, which would be 320 MB here."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nearest(points(2000, 8), points(20_000, 8, seed=1), 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
