"""Shares of kinds: the interval covers the truth, whatever the reader mistakes, and a third kind is none of them."""

import pytest
import torch
from rarity.density import Embeddings, EmbeddingSpace, RarityError
from rarity.density.novelty.kinds import Kinds, _undo, estimate_shares, read_by_texts

WIDTH = 48
SPACE = EmbeddingSpace("test encoder", "f", WIDTH)


def draw(count, seed, place=0.0, gap=4.0, side=0.0):
    """Pictures on an axis at `place` times `gap`, and `side` away from it; all other directions vary, too."""
    rows = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))
    rows[:, 0] += gap * place
    rows[:, 1] += side
    return Embeddings(3 + rows, SPACE)


def mixed(shares, count, seed, gap):
    """Pictures of places 0, 1, ... with these shares."""
    g = torch.Generator().manual_seed(seed)
    which = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=g)
    return Embeddings(draw(count, seed + 10_000).vectors + gap * which[:, None] * torch.eye(WIDTH)[0], SPACE)


@pytest.mark.parametrize("gap", [6.0, 2.0])
def test_the_interval_covers_the_true_share(gap):
    """Nine in ten of 60 draws, examples and pictures new in each; the standard error is 2.3. At 2 deviations a fifth is misread."""
    covered = 0
    for seed in range(60):
        kinds = Kinds([draw(64, 1000 + seed, 0, gap), draw(64, 2000 + seed, 1, gap)])
        found = estimate_shares(kinds.read(mixed([0.3, 0.7], 200, seed, gap)), 2, kinds.confusion)
        covered += bool(found.low[0] <= 0.3 <= found.high[0])
    assert 48 <= covered <= 59


def test_what_is_misread_is_taken_into_account():
    """A third of each kind is taken for the other: counting alone would say 0.43."""
    kinds = Kinds([draw(5000, 1, 0, 1.0), draw(5000, 2, 1, 1.0)])
    read = kinds.read(mixed([0.3, 0.7], 20_000, 3, 1.0))
    assert abs(float((read == 0).double().mean()) - 0.3) > 0.08
    found = estimate_shares(read, 2, kinds.confusion)
    assert float(found.share[0]) == pytest.approx(0.3, abs=0.05)
    assert float(found.share.sum()) == pytest.approx(1, abs=1e-9)


def test_a_third_kind_is_none_and_what_is_rarer_elsewhere_is_still_read():
    kinds = Kinds([draw(64, 1, 0, 12.0), draw(64, 2, 1, 12.0)])
    none = [float((kinds.read(draw(500, 3, place, 12.0)) == 2).double().mean()) for place in (0, 0.5, 1)]
    assert none[0] < 0.1 and none[2] < 0.1 and none[1] > 0.95
    shares = [float(estimate_shares(kinds.read(mixed([0.4 * (1 - t), t, 0.6 * (1 - t)], 500, 5, 6.0)), 2, kinds.confusion).share[2])
              for t in (0.0, 0.3, 0.6)]
    assert shares == pytest.approx([0, 0.3, 0.6], abs=0.07)
    rare = kinds.read(draw(500, 7, 0, 12.0, side=40.0))
    assert float((rare == 0).double().mean()) > 0.9


def test_kinds_that_are_alike_are_not_told_apart():
    kinds = Kinds([draw(64, 1), draw(64, 2)])
    found = estimate_shares(kinds.read(draw(300, 3)), 2, kinds.confusion)
    assert float((found.high - found.low)[:2].min()) > 0.8


def test_each_example_is_read_by_others():
    """Kinds that do not differ at all: 24 of 48 examples are read right by chance, 33 by averages that hold them."""
    confusions = [Kinds([draw(24, seed), draw(24, seed + 50)]).confusion for seed in range(20)]
    assert all(confusion.sum(dim=1).tolist() == [24, 24] for confusion in confusions)
    assert sum(int(confusion.diagonal().sum()) for confusion in confusions) / 20 == pytest.approx(24, abs=3)


def test_the_estimate_is_the_literal_least_squares():
    confusion = torch.tensor([[80, 15, 5], [10, 85, 5]])
    read = torch.tensor([0] * 37 + [1] * 50 + [2] * 13)
    share = estimate_shares(read, 2, confusion).share
    m = torch.cat([confusion / 100.0, torch.tensor([[0.0, 0.0, 1.0]])]).double()
    f = torch.tensor([0.37, 0.50, 0.13], dtype=torch.float64)
    grid = torch.tensor([[a / 400, b / 400, 1 - (a + b) / 400] for a in range(401) for b in range(401 - a)], dtype=torch.float64)
    best = grid[(grid @ m - f).square().sum(dim=1).argmin()]
    assert torch.allclose(share, best, atol=0.004)  # half a step of the grid, in two directions


def test_shares_stay_shares_where_the_confusion_explains_nothing():
    share = _undo(torch.tensor([0.0, 1.0, 0.0]).numpy(), torch.tensor([[0.9, 0.05, 0.05], [0.5, 0.4, 0.1]]).numpy())
    assert share.min() >= 0 and share.sum() == pytest.approx(1)


def test_readings_that_are_trusted_are_counted():
    """Jeffreys' interval: the beta quantiles of scipy."""
    from scipy.stats import beta

    found = estimate_shares(torch.tensor([0] * 30 + [1] * 70), 2)
    assert found.share.tolist() == pytest.approx([0.3, 0.7, 0.0])
    for i, edge in ((0.05, found.low), (0.95, found.high)):
        assert float(edge[0]) == pytest.approx(beta.ppf(i, 30.5, 71), abs=0.015)  # 500 draws
    assert torch.equal(found.low, estimate_shares(torch.tensor([0] * 30 + [1] * 70), 2).low)


def test_words_tell_by_their_own_probability():
    texts = torch.eye(WIDTH)[:2]
    x = torch.zeros(3, WIDTH)
    x[:, 2], x[0, 0], x[1, 1], x[2, :2] = 1.0, 0.1, 0.1, 0.1
    assert read_by_texts(Embeddings(x, SPACE), texts).tolist() == [0, 1, 2]


def test_too_little_to_tell_by_is_an_error():
    for examples, message in (
        ([draw(64, 1)], "At least two kinds"),
        ([draw(64, 1), draw(5, 2)], "at least 20 different examples, got 5"),
        ([draw(64, 1), draw(1, 2).select([0] * 64)], "at least 20 different examples, got 1"),
        ([draw(64, 1), Embeddings(draw(64, 2).vectors, EmbeddingSpace("another", "f", WIDTH))], "different embedding spaces"),
    ):
        with pytest.raises(RarityError, match=message):
            Kinds(examples)
    with pytest.raises(RarityError, match="different embedding spaces"):
        Kinds([draw(64, 1), draw(64, 2, 1)]).read(Embeddings(draw(4, 3).vectors, EmbeddingSpace("another", "f", WIDTH)))
    with pytest.raises(RarityError, match="two texts"):
        read_by_texts(draw(4, 1), torch.eye(WIDTH)[:1])
