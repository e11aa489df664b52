"""What a viewer has seen moves what they expect only where it says something, and figures about it stay true."""

import functools
import math

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, ExposureMemory, RarityError, fit_density, optimize
from rarity.density.novelty.belief import CAUTION, Belief
from rarity.density.novelty.scores import score_novelty
from rarity.density.steering.starts import choose_starts

WIDTH = 64
SPACE = EmbeddingSpace("test encoder", "f", WIDTH)
KINDS = ("ppca", "ledoit-wolf", "mixture", "neighbours")


def draw(count, seed, kind=None):
    """Pictures of two kinds, each half of them; or of one kind, +1 or -1. The smaller set of a seed begins the larger."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, WIDTH + 1, generator=g)
    which = rows[:, :1].sign() if kind is None else torch.full((count, 1), float(kind))
    way = torch.zeros(WIDTH).index_fill_(0, torch.arange(4), 1.0)
    return Embeddings(1 + which * way + 0.6 * rows[:, 1:] * torch.arange(1, WIDTH + 1).rsqrt(), SPACE)


@functools.cache
def fitted(kind):
    return fit_density(draw(2000, 0), kind)


@pytest.fixture(params=KINDS)
def density(request):
    return fitted(request.param)


@pytest.fixture
def ppca():
    return fitted("ppca")


def remembering(count, kind=None):
    memory = ExposureMemory(SPACE)
    return memory.update(draw(count, 77, kind)) if count else memory


def literal_share(density, memory):
    """c, with full matrices and a pair at a time."""
    inside = density.frame.basis @ density.frame.variances.diag() @ density.frame.basis.T
    outside = density.frame.residual_variance * (torch.eye(WIDTH, dtype=torch.float64) - density.frame.basis @ density.frame.basis.T)
    root = torch.linalg.cholesky(torch.linalg.inv(inside + outside))
    w, u, n = (memory.vectors.double() - density.frame.mean) @ root, memory.weights, len(memory)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    weight = sum(float(u[i] * u[j]) for i, j in pairs)
    a = sum(float(u[i] * u[j] * (w[i] @ w[j])) for i, j in pairs) / weight
    mean_square = sum(float(w[i] @ w[j]) ** 2 for i, j in pairs) / len(pairs)
    s = math.sqrt(2 * mean_square * sum(float(u[i] * u[j]) ** 2 for i, j in pairs)) / weight
    m = (u[:, None] * w).sum(dim=0) / u.sum()
    return min(1.0, max(0.0, (a - CAUTION * s) / float(m @ m)))


def test_the_share_is_the_literal_formula(density):
    for kind in (None, 1):
        memory = ExposureMemory(SPACE).update(draw(30, 5, kind), torch.linspace(0.1, 2, 30))
        belief = Belief(density, memory)
        assert belief.share == pytest.approx(literal_share(density, memory), abs=1e-9)
        mean = (memory.weights @ memory.vectors.double()) / memory.n_eff
        assert torch.allclose(belief.shift, belief.share * (mean - density.frame.mean), atol=1e-12)
    assert belief.share > 0.1


def test_ordinary_pictures_hardly_ever_move_the_belief(ppca):
    """Chance goes beyond three standard deviations once in 740 memories, more often where few pictures are few pairs."""
    for count in (2, 5, 20, 100):
        moved = [Belief(ppca, ExposureMemory(SPACE).update(draw(count, seed))).share for seed in range(100, 200)]
        assert sum(share > 0 for share in moved) <= 3 and max(moved) < 0.2


def test_nothing_one_picture_and_one_picture_again_move_nothing(density):
    for memory in (remembering(0), remembering(1), remembering(1, 1).merge(remembering(1, 1))):
        belief = Belief(density, memory)
        assert belief.share == 0 and not belief.shift.any()


def shares(novelty):
    return [float((novelty >= math.log2(n)).double().mean()) * n for n in (8, 64, 512)]


def test_what_is_called_1_in_n_happens_once_in_n_whatever_was_seen(density):
    """2,000 samples know "1 in 512" by four of them: there, what the memory changes is tested; benchmarks average over baselines."""
    fresh = draw(8000, 9)
    first = score_novelty(fresh, density, remembering(0)).novelty
    for count, of_kind in ((1, None), (20, None), (300, None), (300, 1)):
        novelty = score_novelty(fresh, density, remembering(count, of_kind)).novelty
        *often, rarely = shares(novelty)
        assert all(0.7 < share < 1.5 for share in (*often, rarely / shares(first)[-1])), (count, of_kind)
        assert abs(float(novelty.median() - first.median())) < 0.3


def test_seeing_more_ordinary_pictures_makes_no_picture_newer(density):
    fresh = draw(1000, 9)
    before = score_novelty(fresh, density, remembering(0)).novelty
    for count in (1, 2, 5, 20, 100, 300):
        now = score_novelty(fresh, density, remembering(count)).novelty
        assert float((now - before).max()) <= 0.3
        before = now


def test_the_kind_that_was_seen_is_less_new_than_the_other(density):
    memory = remembering(300, 1)
    seen, other = (float(score_novelty(draw(2000, 8, kind), density, memory).novelty.median()) for kind in (1, -1))
    assert seen < other - 0.2


@pytest.mark.parametrize("kind", ["ppca", "ledoit-wolf", "mixture"])
def test_what_is_rare_stays_rare_with_any_memory_of_ordinary_pictures(kind):
    density = fitted(kind)
    rare = optimize(density, choose_starts(draw(2000, 0), density, 32), 1000, steps=5).final
    for count in (0, 1, 2, 5, 20, 100, 300):
        assert float(score_novelty(rare, density, remembering(count)).novelty.min()) >= 8


def test_a_memory_of_another_space_is_an_error(ppca):
    with pytest.raises(RarityError, match="different embedding spaces"):
        Belief(ppca, ExposureMemory(EmbeddingSpace("another", "f", WIDTH)))
